use sha2::{Digest, Sha256};

/// The page, its script and its style in one file.
pub(super) const PAGE: &str = include_str!("page.html");

/// What the page may do: run its own script, which is known by its hash, and ask the server that it came from. So even
/// text that would get into the page as markup runs nothing and sends nothing anywhere.
pub(super) fn content_security_policy() -> String {
    let hash = |tag| base64(&Sha256::digest(inside(PAGE, tag)));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
        hash("script"),
        hash("style"),
    )
}

/// What stands in the only element of that name.
fn inside<'a>(page: &'a str, tag: &str) -> &'a str {
    let after = page.split_once(&format!("<{tag}>")).map_or("", |(_, after)| after);
    after.split_once(&format!("</{tag}>")).map_or("", |(inside, _)| inside)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            let index = (group >> (18 - 6 * letter)) as usize & 63;
            text.push(if letter <= chunk.len() { char::from(LETTERS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_rfc_4648_has_it() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, expected) in vectors {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn the_page_is_one_file_that_needs_no_other() {
        for tag in ["<script>", "</script>", "<style>", "</style>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
        assert!(inside(PAGE, "script").len() > 1000 && inside(PAGE, "style").len() > 1000);
        // Attributes with styles or handlers would be blocked, and whatever makes markup of text is not to be there.
        for word in
            [" style=", " onclick", " onload", "innerHTML", "outerHTML", "insertAdjacent", "document.write"]
        {
            assert!(!PAGE.contains(word), "{word}");
        }
        for word in ["eval(", "new Function", "src=", "@import", "url(", "localStorage"] {
            assert!(!PAGE.contains(word), "{word}");
        }
    }
}
