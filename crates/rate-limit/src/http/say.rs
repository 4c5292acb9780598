//! Writes a list field beside what others have written into it.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{
    BareItemFromInput, KeyRef, ListSerializer, ParameterSerializer, Parser,
    visitor::{EntryVisitor, InnerListVisitor, ItemVisitor, ListVisitor, Never, ParameterVisitor},
};

use super::fields::{LONGEST_LINE, MOST_MEMBERS, Malformed, count, name};

/// Says `value` in that field, in the place of what it said of the same policies. What it said of others stays, if it was
/// well-formed: else no client would believe any of it.
pub(super) fn say<N: AsRef<str>>(
    headers: &mut HeaderMap,
    field: &HeaderName,
    value: HeaderValue,
    ours: &[N],
) {
    if !headers.contains_key(field) {
        headers.insert(field, value);
        return;
    }
    let kept = others(headers, field, ours);
    match kept.and_then(|kept| HeaderValue::try_from(kept).ok()) {
        Some(kept) => {
            headers.insert(field, kept);
            headers.append(field, value);
        }
        None => {
            headers.insert(field, value);
        }
    }
}

#[cold]
fn others<N: AsRef<str>>(headers: &HeaderMap, field: &HeaderName, ours: &[N]) -> Option<String> {
    let mut kept = ListSerializer::new();
    // Ours stand beside theirs.
    let mut seen = ours.len();
    for line in headers.get_all(field) {
        if line.len() > LONGEST_LINE {
            return None;
        }
        let keeping = Keeping { kept: &mut kept, ours, seen: &mut seen };
        Parser::new(line.as_bytes()).parse_list_with_visitor(keeping).ok()?;
    }
    // Several lines have become one.
    kept.finish().filter(|kept| kept.len() <= LONGEST_LINE)
}

struct Keeping<'k, N> {
    kept: &'k mut ListSerializer<String>,
    ours: &'k [N],
    seen: &'k mut usize,
}

impl<'a, N: AsRef<str>> ListVisitor<'a> for Keeping<'_, N> {
    type Out = ();
    type Error = Malformed;

    fn entry(&mut self) -> Result<impl EntryVisitor<'a>, Malformed> {
        Ok(KeepingEntry { kept: &mut *self.kept, ours: self.ours, seen: &mut *self.seen })
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

struct KeepingEntry<'k, N> {
    kept: &'k mut ListSerializer<String>,
    ours: &'k [N],
    seen: &'k mut usize,
}

impl<'a, N: AsRef<str>> EntryVisitor<'a> for KeepingEntry<'_, N> {
    type Error = Malformed;

    fn item(self) -> Result<impl ItemVisitor<'a>, Malformed> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Malformed> {
        Err::<Never, _>(Malformed)
    }
}

impl<'a, N: AsRef<str>> ItemVisitor<'a> for KeepingEntry<'_, N> {
    type Out = ();
    type Error = Malformed;

    fn bare_item(
        self,
        item: BareItemFromInput<'a>,
    ) -> Result<impl ParameterVisitor<'a, Out = ()>, Malformed> {
        let name = name(item.clone())?;
        let ours = self.ours.iter().any(|ours| ours.as_ref() == name);
        *self.seen += usize::from(!ours);
        if *self.seen > MOST_MEMBERS {
            return Err(Malformed);
        }
        Ok(KeepingParameters((!ours).then(|| self.kept.bare_item(&item))))
    }
}

/// Empty where the member is dropped.
struct KeepingParameters<'k>(Option<ParameterSerializer<&'k mut String>>);

impl<'a> ParameterVisitor<'a> for KeepingParameters<'_> {
    type Out = ();
    type Error = Malformed;

    fn parameter(&mut self, key: &'a KeyRef, value: BareItemFromInput<'a>) -> Result<(), Malformed> {
        if matches!(key.as_str(), "r" | "t") {
            count(&value)?;
        }
        self.0 = self.0.take().map(|kept| kept.parameter(key, &value));
        Ok(())
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::fields::{RATELIMIT, members},
        *,
    };

    fn said(before: &[&str], ours: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in before {
            headers.append(RATELIMIT, HeaderValue::from_str(line).unwrap());
        }
        say(&mut headers, &RATELIMIT, HeaderValue::from_static(r#""a";r=1"#), ours);
        headers.get_all(RATELIMIT).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_others_said_stays_and_what_we_said_is_said_anew() {
        let ours = &["a"];
        assert_eq!(said(&[], ours), [r#""a";r=1"#]);
        assert_eq!(said(&[r#""a";r=0;t=9"#], ours), [r#""a";r=1"#]);
        assert_eq!(
            said(&[r#"  "b";r=3; t=4;x-odd=:AQ==:, "a";r=0"#, "c;r=1"], ours),
            [r#""b";r=3;t=4;x-odd=:AQ==:, c;r=1"#, r#""a";r=1"#]
        );
        assert_eq!(said(&[r#""b";r=3"#, "=broken"], ours), [r#""a";r=1"#]);
        assert_eq!(said(&["b;r=1"; MOST_MEMBERS + 1], ours), [r#""a";r=1"#]);
    }

    /// What a client reads of both lines; nothing, if it believes neither.
    fn read(lines: &[String]) -> Option<usize> {
        let mut seen = 0;
        let whole = lines.iter().all(|line| members(line.as_bytes(), &mut |_| seen += 1).is_ok());
        (whole && seen <= MOST_MEMBERS).then_some(seen)
    }

    #[test]
    fn regression_62_what_others_said_does_not_keep_a_client_from_reading_ours() {
        let ours = &["a"];
        for odd in ["b;r", "b;r=1.5", "b;t=?1", "b;r=-1", r#"b;t="9""#] {
            assert_eq!(said(&[odd], ours), [r#""a";r=1"#], "{odd}");
        }
        assert_eq!(read(&said(&["b;r=1"; MOST_MEMBERS - 1], ours)), Some(MOST_MEMBERS));
        assert_eq!(read(&said(&["b;r=1"; MOST_MEMBERS], ours)), Some(1), "there is no room for all");
        let replaced = [&["b;r=1"; MOST_MEMBERS - 1][..], &["a;r=0"]].concat();
        assert_eq!(read(&said(&replaced, ours)), Some(MOST_MEMBERS));
        let long = format!("b;x=\"{}\"", "x".repeat(LONGEST_LINE / 2));
        assert_eq!(read(&said(&[&long], ours)), Some(2));
        assert_eq!(read(&said(&[&long, &long], ours)), Some(1), "as one line they are too long");
    }

    proptest! {
        #[test]
        fn whatever_others_said_ours_is_there_and_can_be_read(line in r#"[a";,=:rt0-9 ()\\.*?@%-]{0,60}"#) {
            let lines = said(&[&line], &["a"]);
            prop_assert_eq!(lines.last().unwrap(), r#""a";r=1"#);
            for line in lines {
                prop_assert!(members(line.as_bytes(), &mut |_| ()).is_ok(), "{}", line);
            }
        }
    }
}
