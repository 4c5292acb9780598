use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

use super::setting::InvalidSetting;
use crate::idempotency_key::IdempotencyKey;

/// A header as a caller gives it. What the connection itself is made of is not his to set.
pub(crate) fn header<N, V>(name: N, value: V) -> Result<(HeaderName, HeaderValue), InvalidSetting>
where
    N: TryInto<HeaderName>,
    V: TryInto<HeaderValue>,
{
    let Ok(name) = name.try_into() else {
        // It is not shown: somebody may have exchanged name and value.
        return Err(InvalidSetting::new("header", "its name is malformed"));
    };
    let wrong = |why| InvalidSetting::new(format!("header `{name}`"), why);
    let Ok(mut value) = value.try_into() else {
        return Err(wrong("its value has characters that no header can have"));
    };
    let framing = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    if framing.contains(&name) || matches!(name.as_str(), "keep-alive" | "proxy-connection") {
        return Err(wrong("it is the connection's own; URL and body say what it should be"));
    }
    let secret = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, IdempotencyKey::HEADER];
    if secret.contains(&name) {
        value.set_sensitive(true);
    }
    Ok((name, value))
}

/// A header that holds a secret.
pub(crate) fn credential<N, V>(name: N, value: V) -> Result<(HeaderName, HeaderValue), InvalidSetting>
where
    N: TryInto<HeaderName>,
    V: TryInto<HeaderValue>,
{
    let (name, mut value) = header(name, value)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// RFC 6750. The token is what its issuer made of it, as long as a header can have it.
pub(crate) fn bearer(token: &str) -> Result<(HeaderName, HeaderValue), InvalidSetting> {
    let wrong = |why| InvalidSetting::new("bearer", why);
    if token.is_empty() {
        return Err(wrong("the token is empty"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(
            "the token has characters that no token has: blanks, controls or other than ASCII",
        ));
    }
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    credential(header::AUTHORIZATION, value.map_err(|_| wrong("the token cannot be in a header"))?)
}

/// RFC 7617, in UTF-8.
pub(crate) fn basic(user: &str, password: &str) -> Result<(HeaderName, HeaderValue), InvalidSetting> {
    let wrong = |why| InvalidSetting::new("basic", why);
    if user.contains(':') {
        return Err(wrong("the user's name has a colon"));
    }
    if user.chars().chain(password.chars()).any(char::is_control) {
        return Err(wrong("user or password have control characters"));
    }
    let value = HeaderValue::try_from(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())));
    credential(header::AUTHORIZATION, value.map_err(|_| wrong("they cannot be in a header"))?)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let six = (word >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[six as usize]) } else { '=' });
        }
    }
    text
}

/// Removes what must not be seen by another origin.
pub(crate) fn remove_secrets(headers: &mut HeaderMap) {
    let secret: Vec<HeaderName> =
        headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.clone()).collect();
    for name in secret {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{3ff}>", "z78+"),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn secrets_are_marked_and_what_cannot_be_one_is_not_shown() {
        let made = [bearer("hunter2"), basic("alice", "hunter2"), credential("x-api-key", "hunter2")];
        let named = ["Cookie", "authorization", "idempotency-key"].map(|name| header(name, "hunter2"));
        for made in made.into_iter().chain(named) {
            let (name, value) = made.unwrap();
            assert!(value.is_sensitive(), "{name}");
            assert!(!format!("{value:?}").contains("hunter2"));
        }
        for wrong in [
            bearer(""),
            bearer("hunter2\r\nx: y"),
            bearer("hunter2 b"),
            basic("hunter2:", ""),
            basic("alice", "hunter2\n"),
            credential("x-api-key", "hunter2\0"),
            credential("x hunter2", "a"),
            header("x-a", "hunter2\r\nx-b: c"),
            header("hunter2\r\nx-b", "c"),
            header("content-length", "hunter2"),
            header("Transfer-Encoding", "hunter2"),
            header("Keep-Alive", "hunter2"),
        ] {
            let error = wrong.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
