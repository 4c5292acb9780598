//! The entries of `X-Forwarded-For` and `Forwarded` (RFC 7239), from the last one on: the nearest proxy has written that.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

/// An entry is an address, a port and little else.
const LONGEST_ENTRY: usize = 512;

/// The entries of a field, over all its lines, from the last to the first. One that is too long ends them.
pub(super) fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().rev().flat_map(|line| FromTheRight(Some(line.as_bytes())))
}

/// Splits at commas outside of quotes. It begins at the right, where a trusted proxy has written: whatever a client wrote
/// to the left of that, such as a quote that never ends, cannot change how it is read.
struct FromTheRight<'a>(Option<&'a [u8]>);

impl<'a> Iterator for FromTheRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0.take()?;
        let (mut quoted, mut at) = (false, line.len());
        while at > 0 && line.len() - at <= LONGEST_ENTRY {
            at -= 1;
            match line[at] {
                // Going left, what opens a quoted text stands after `=`, and one inside of it after its backslash.
                b'"' if !(quoted && line[..at].ends_with(b"\\")) => quoted = !quoted,
                b',' if !quoted => {
                    self.0 = Some(&line[..at]);
                    return Some(&line[at + 1..]);
                }
                _ => {}
            }
        }
        // Too long an entry is returned with all that is left of it, and is no address.
        Some(line)
    }
}

/// The address of an entry of `X-Forwarded-For`, with or without a port.
pub(super) fn x_forwarded_for(entry: &[u8]) -> Option<IpAddr> {
    address(std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']))
}

/// The address in an entry's `for`; none where it is `unknown` or a made-up name.
pub(super) fn forwarded(entry: &[u8]) -> Option<IpAddr> {
    if entry.len() > LONGEST_ENTRY {
        return None;
    }
    let mut rest = std::str::from_utf8(entry).ok()?;
    let mut found = None;
    loop {
        let (name, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let end = closing(quoted)?;
                (&quoted[..end], quoted[end + 1..].trim_start_matches([' ', '\t']))
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim_end_matches([' ', '\t']), &value[end..])
            }
        };
        if name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            found = Some(address(value)?);
        }
        rest = match after.strip_prefix(';') {
            Some(rest) => rest,
            None if after.is_empty() => return found,
            None => return None,
        };
    }
}

/// Where the quoted text ends that begins here.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(bracketed) => IpAddr::V6(bracketed.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip())).ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("forwarded");

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        lines.iter().map(|line| (NAME, HeaderValue::from_bytes(line).unwrap())).collect()
    }

    fn split(lines: &[&str]) -> Vec<String> {
        let headers = headers(&lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>());
        entries(&headers, &NAME).map(|entry| String::from_utf8(entry.into()).unwrap()).collect()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn entries_come_from_the_right_over_all_lines() {
        assert_eq!(split(&["a,b", "c, d"]), [" d", "c", "b", "a"]);
        assert_eq!(split(&["a,,b,"]), ["", "b", "", "a"]);
        assert_eq!(split(&[""]), [""]);
        assert_eq!(split(&[]), [""; 0]);
    }

    #[test]
    fn quotes_hide_commas_and_a_client_cannot_open_one_for_others() {
        assert_eq!(split(&[r#"x,for=a;host="h,i""#]), [r#"for=a;host="h,i""#, "x"]);
        assert_eq!(split(&[r#"for=", for=1.2.3.4"#])[0], " for=1.2.3.4", "an open quote to the left");
        // The proxy says which host was asked for, as it must: with the client's quotes escaped.
        let hostile = r#"for=9.9.9.9;host="x\", for=6.6.6.6;a=\"""#;
        assert_eq!(split(&[hostile]), [hostile]);
        assert_eq!(forwarded(hostile.as_bytes()), ip("9.9.9.9"));
        let ends_in_backslash = r#"for=9.9.9.9;host="x\\""#;
        assert_eq!(split(&[&format!("y,{ends_in_backslash}")]), [ends_in_backslash, "y"]);
        assert_eq!(forwarded(ends_in_backslash.as_bytes()), ip("9.9.9.9"));
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:4711\t", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(x_forwarded_for(text.as_bytes()), ip(expected), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1:",
            "192.0.2.1:99999",
            "[192.0.2.1]",
            "[::1",
            "1.2.3",
            "1.2.3.4 x",
        ] {
            assert_eq!(x_forwarded_for(text.as_bytes()), None, "{text}");
        }
        assert_eq!(x_forwarded_for(b"\xff"), None);
    }

    #[test]
    fn the_for_of_an_entry_is_read() {
        for (entry, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            (r#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::17"),
            (r#" by="a;for=6.6.6.6" ; for="192.0.2.1:80" ; proto=https "#, "192.0.2.1"),
        ] {
            assert_eq!(forwarded(entry.as_bytes()), ip(expected), "{entry}");
        }
        for entry in [
            "",
            "for",
            "for=",
            "for=unknown",
            "for=_gazonk",
            "proto=http",
            "for=1.2.3.4;for=1.2.3.4",
            "for=1.2.3.4;",
            r#"for="1.2.3.4"#,
            r#"for="1.2.3.4"x"#,
            r#"for="1.2.3\.4""#,
            "\u{fc}=1",
        ] {
            assert_eq!(forwarded(entry.as_bytes()), None, "{entry}");
        }
        let long = format!("for=1.2.3.4;host={}", "x".repeat(LONGEST_ENTRY));
        assert_eq!(forwarded(long.as_bytes()), None);
    }

    #[test]
    fn too_long_an_entry_ends_the_line() {
        let long = format!("1.2.3.4,{}", "x".repeat(LONGEST_ENTRY + 1));
        assert_eq!(split(&[&long]), [long]);
        let longest = format!("1.2.3.4,{}", "x".repeat(LONGEST_ENTRY));
        assert_eq!(split(&[&longest]).len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = x_forwarded_for(&line);
            let _ = forwarded(&line);
            let _ = FromTheRight(Some(&line)).count();
        }

        #[test]
        fn whatever_stands_to_the_left_the_last_entry_is_the_proxys(left in r#"[a",;=\\ for1.:]{0,40}"#, port in 1..9_u16) {
            for entry in [format!("for=9.9.9.9;by={port}"), format!(r#"for="9.9.9.9:{port}";host="a,b\"\\""#)] {
                let line = format!("{left},{entry}");
                let headers = headers(&[line.as_bytes()]);
                let last = entries(&headers, &NAME).next().unwrap();
                prop_assert_eq!(last, entry.as_bytes());
                prop_assert_eq!(forwarded(last), ip("9.9.9.9"));
            }
        }
    }
}
