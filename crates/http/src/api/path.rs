use std::fmt::{self, Display, Write};

use super::setting::InvalidSetting;

/// The values for a path's places, encoded.
#[derive(Default)]
pub(crate) struct Params<'a> {
    encoded: String,
    places: Vec<Place<'a>>,
}

struct Place<'a> {
    name: &'a str,
    end: usize,
    used: bool,
}

impl<'a> Params<'a> {
    pub(crate) fn push(&mut self, name: &'a str, value: &dyn Display) -> Result<(), InvalidSetting> {
        if self.places.iter().any(|place| place.name == name) {
            return Err(invalid(name, "it is given twice"));
        }
        write!(Encoder(&mut self.encoded), "{value}")
            .map_err(|_| invalid(name, "its value cannot be displayed"))?;
        self.places.push(Place { name, end: self.encoded.len(), used: false });
        Ok(())
    }

    fn fill(&mut self, name: &str) -> Option<&str> {
        let number = self.places.iter().position(|place| place.name == name)?;
        self.places[number].used = true;
        let start = number.checked_sub(1).map_or(0, |before| self.places[before].end);
        Some(&self.encoded[start..self.places[number].end])
    }
}

fn invalid(name: &str, why: &'static str) -> InvalidSetting {
    InvalidSetting::new(format!("param `{name}`"), why)
}

/// Writes everything but RFC 3986's unreserved characters percent-encoded.
struct Encoder<'a>(&'a mut String);

impl Write for Encoder<'_> {
    fn write_str(&mut self, value: &str) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        for byte in value.bytes() {
            if is_unreserved(byte) {
                self.0.push(char::from(byte));
            } else {
                self.0.push('%');
                self.0.push(char::from(HEX[usize::from(byte >> 4)]));
                self.0.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        Ok(())
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands in a path as it is: RFC 3986's `pchar` and the slash.
const fn is_literal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'/'
        )
}

/// A look instead of a dozen comparisons.
static LITERAL: [bool; 256] = {
    let (mut all, mut byte) = ([false; 256], 0);
    while byte < 128 {
        all[byte as usize] = is_literal(byte);
        byte += 1;
    }
    all
};

/// Appends the template with its places filled. What is wrong is said of `knob`, or of the parameter.
pub(crate) fn expand(
    path: &mut String,
    template: &str,
    params: &mut Params<'_>,
    knob: &'static str,
) -> Result<(), InvalidSetting> {
    let start = path.len();
    let wrong = |why| InvalidSetting::new(knob, why);
    let mut rest = template;
    while let Some(at) = rest.bytes().position(|byte| !LITERAL[usize::from(byte)]) {
        let (literal, special) = rest.split_at(at);
        path.push_str(literal);
        rest = match special.as_bytes() {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                path.push_str(&special[..3]);
                &special[3..]
            }
            [b'%', ..] => return Err(wrong("a `%` in it is not followed by two hexadecimal digits")),
            [b'?' | b'#', ..] => return Err(wrong("it has a `?` or `#`: give a query by `query`")),
            [b'{', ..] if knob == "path" => {
                let end = special.find('}').ok_or_else(|| wrong("a `{` in it has no `}`"))?;
                let name = &special[1..end];
                path.push_str(params.fill(name).ok_or_else(|| {
                    // The name is the template's own, and yet nobody knows what got into it.
                    let known = name.len() <= 64 && name.bytes().all(is_unreserved);
                    if known {
                        invalid(name, "the path has a place for it, and it was not given")
                    } else {
                        wrong("a param is missing")
                    }
                })?);
                &special[end + 1..]
            }
            _ => {
                return Err(wrong("it has characters that must be percent-encoded, or given as a `param`"));
            }
        };
    }
    path.push_str(rest);
    if let Some(left) = params.places.iter().find(|place| !place.used) {
        return Err(invalid(left.name, "the path has no place for it"));
    }
    check_segments(&path[start..], template).map_err(wrong)
}

/// Servers resolve dot segments, merge slashes, and some decode slashes first: so it might end above the base.
fn check_segments(path: &str, template: &str) -> Result<(), &'static str> {
    if template.is_empty() || template == "/" {
        return Ok(());
    }
    let below = if template.starts_with('/') { &path[1..] } else { path };
    if is_plain(below) {
        return Ok(());
    }
    let mut segments = below.split('/').peekable();
    while let Some(segment) = segments.next() {
        let closing = segments.peek().is_none() && template.ends_with('/');
        if segment.is_empty() && !closing {
            return Err("with its params filled in, it has an empty segment");
        }
        if segment.contains(['.', '%']) && has_dots(segment) {
            return Err("with its params filled in, it has a dot segment");
        }
    }
    Ok(())
}

/// Whether it has no empty segment, and none that might be of dots: most have neither.
fn is_plain(path: &str) -> bool {
    let mut before = b'/';
    for byte in path.bytes() {
        if matches!(byte, b'.' | b'%') || (byte == b'/' && before == b'/') {
            return false;
        }
        before = byte;
    }
    before != b'/'
}

/// Whether a segment, or what an encoded slash or backslash makes of it, is `.` or `..`, encoded or not.
fn has_dots(segment: &str) -> bool {
    let decoded = segment.replace("%2e", ".").replace("%2E", ".");
    let slashes = ["%2f", "%2F", "%5c", "%5C"];
    slashes
        .iter()
        .fold(decoded, |decoded, slash| decoded.replace(slash, "/"))
        .split('/')
        .any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(template: &str, params: &[(&str, &str)]) -> Result<String, InvalidSetting> {
        let (mut path, mut places) = (String::new(), Params::default());
        for (name, value) in params {
            places.push(name, value)?;
        }
        expand(&mut path, template, &mut places, "path").map(|()| path)
    }

    #[test]
    fn places_are_filled_in_any_order_and_as_often_as_they_stand() {
        assert_eq!(fill("/a/{x}/{y}-{x}/", &[("y", "2"), ("x", "1 1")]).unwrap(), "/a/1%201/2-1%201/");
        assert_eq!(fill("/{x}", &[("x", "a/b?c#d%2fé:@")]).unwrap(), "/a%2Fb%3Fc%23d%252f%C3%A9%3A%40");
        assert_eq!(fill("/v:batch;a=b/%C3%A9", &[]).unwrap(), "/v:batch;a=b/%C3%A9");
        assert_eq!(fill("", &[]).unwrap(), "");
        assert_eq!(fill("/", &[]).unwrap(), "/");
        assert_eq!(fill("/{x}", &[("x", "...")]).unwrap(), "/...");
    }

    #[test]
    fn what_cannot_be_filled_is_said_by_name() {
        for (template, params, knob, why) in [
            ("/{x}", &[][..], "param `x`", "not given"),
            ("/{x y}", &[], "path", "missing"),
            ("/a", &[("x", "1")], "param `x`", "no place"),
            ("/{x}", &[("x", "1"), ("x", "2")], "param `x`", "twice"),
            ("/{x", &[("x", "1")], "path", "`}`"),
            ("/x}", &[], "path", "characters"),
            ("/a b", &[], "path", "characters"),
            ("/é", &[], "path", "characters"),
            ("/a\r\nb", &[], "path", "characters"),
            ("/a\\b", &[], "path", "characters"),
            ("/%2", &[], "path", "hexadecimal"),
            ("/%é0", &[], "path", "hexadecimal"),
            ("/a?b", &[], "path", "`query`"),
            ("/a#b", &[], "path", "`query`"),
            ("/{x}", &[("x", "")], "path", "empty"),
            ("/{x}/", &[("x", "")], "path", "empty"),
            ("{x}/a", &[("x", "")], "path", "empty"),
            ("/a//b", &[], "path", "empty"),
            ("/a/../b", &[], "path", "dot"),
            ("/%2e./b", &[], "path", "dot"),
            ("/{x}", &[("x", "..")], "path", "dot"),
            ("/{x}.", &[("x", ".")], "path", "dot"),
            ("/{x}", &[("x", "../admin")], "path", "dot"),
            ("/{x}", &[("x", "a\\..\\b")], "path", "dot"),
        ] {
            let error = fill(template, params).unwrap_err();
            assert_eq!(error.knob(), knob, "{template}");
            assert!(error.to_string().contains(why), "{template}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_value_adds_nothing_but_its_own_segment(value in "\\PC{0,20}|[./\\\\%?#\r\n\0a2f{}]{0,12}") {
            match fill("/a/{x}/b", &[("x", &value)]) {
                Ok(path) => {
                    prop_assert_eq!(path.matches('/').count(), 3);
                    prop_assert!(path.bytes().all(|byte| is_unreserved(byte) || byte == b'%' || byte == b'/'));
                }
                Err(_) => prop_assert!(
                    value.is_empty() || value.split(['/', '\\']).any(|part| part == "." || part == "..")
                ),
            }
        }
    }
}
