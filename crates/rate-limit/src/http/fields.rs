//! Reads the two list fields, as structured fields (RFC 9651).

use std::{borrow::Cow, error::Error, fmt};

use http::HeaderName;
use sfv::{
    BareItemFromInput, KeyRef, Parser, StringRef,
    visitor::{
        DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, Never,
        ParameterVisitor,
    },
};

pub(super) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A field that says more, or says it longer, is not read at all.
pub(super) const MOST_MEMBERS: usize = 16;
pub(super) const LONGEST_LINE: usize = 4_096;

/// A member of either field.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) name: Cow<'a, str>,
    /// `r`
    pub(super) remaining: Option<u64>,
    /// `t`
    pub(super) window: Option<u64>,
    /// Whether `qu` is absent or says so.
    pub(super) in_requests: bool,
}

/// Why a field is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a list of policies")
    }
}

impl Error for Malformed {}

/// Tells the members of one line as they are read; if it ends in an error, what was told is void.
pub(super) fn members<'a>(line: &'a [u8], tell: &mut dyn FnMut(Member<'a>)) -> Result<(), Malformed> {
    if line.len() > LONGEST_LINE {
        return Err(Malformed);
    }
    Parser::new(line).parse_list_with_visitor(Reading { tell, seen: 0 }).map_err(|_| Malformed)
}

struct Reading<'t, 'a> {
    tell: &'t mut dyn FnMut(Member<'a>),
    seen: usize,
}

impl<'a> ListVisitor<'a> for Reading<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn entry(&mut self) -> Result<impl EntryVisitor<'a>, Malformed> {
        self.seen += 1;
        if self.seen > MOST_MEMBERS {
            return Err(Malformed);
        }
        Ok(ReadingEntry { tell: &mut *self.tell })
    }

    fn finish(self) -> Result<(), Malformed> {
        Ok(())
    }
}

struct ReadingEntry<'t, 'a> {
    tell: &'t mut dyn FnMut(Member<'a>),
}

impl<'a> EntryVisitor<'a> for ReadingEntry<'_, 'a> {
    type Error = Malformed;

    fn item(self) -> Result<impl ItemVisitor<'a>, Malformed> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Malformed> {
        Err::<Never, _>(Malformed)
    }
}

impl<'a> ItemVisitor<'a> for ReadingEntry<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn bare_item(
        self,
        item: BareItemFromInput<'a>,
    ) -> Result<impl ParameterVisitor<'a, Out = ()>, Malformed> {
        let member = Member { name: name(item)?, remaining: None, window: None, in_requests: true };
        Ok(ReadingParameters { member, tell: self.tell })
    }
}

/// A string, or a token as drafts before the tenth had it.
pub(super) fn name(item: BareItemFromInput<'_>) -> Result<Cow<'_, str>, Malformed> {
    match item {
        BareItemFromInput::String(Cow::Borrowed(name)) => Ok(Cow::Borrowed(name.as_str())),
        BareItemFromInput::String(Cow::Owned(name)) => Ok(Cow::Owned(name.into())),
        BareItemFromInput::Token(name) => Ok(Cow::Borrowed(name.as_str())),
        _ => Err(Malformed),
    }
}

struct ReadingParameters<'t, 'a> {
    member: Member<'a>,
    tell: &'t mut dyn FnMut(Member<'a>),
}

impl<'a> ParameterVisitor<'a> for ReadingParameters<'_, 'a> {
    type Out = ();
    type Error = Malformed;

    fn parameter(&mut self, key: &'a KeyRef, value: BareItemFromInput<'a>) -> Result<(), Malformed> {
        match key.as_str() {
            "r" => self.member.remaining = Some(count(&value)?),
            "t" => self.member.window = Some(count(&value)?),
            "qu" => self.member.in_requests = value.as_string().map(StringRef::as_str) == Some("requests"),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Malformed> {
        (self.tell)(self.member);
        Ok(())
    }
}

pub(super) fn count(value: &BareItemFromInput<'_>) -> Result<u64, Malformed> {
    value.as_integer().and_then(|count| u64::try_from(count).ok()).ok_or(Malformed)
}

/// The field as the seventh draft had it, one policy without a name: `limit=100, remaining=50, reset=30`.
pub(super) fn seventh_draft(line: &[u8]) -> Result<(u64, u64), Malformed> {
    if line.len() > LONGEST_LINE {
        return Err(Malformed);
    }
    Parser::new(line).parse_dictionary_with_visitor(Seventh::default()).map_err(|_| Malformed)
}

#[derive(Default)]
struct Seventh {
    remaining: Option<u64>,
    reset: Option<u64>,
    seen: usize,
}

impl<'a> DictionaryVisitor<'a> for Seventh {
    type Out = (u64, u64);
    type Error = Malformed;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Malformed> {
        self.seen += 1;
        if self.seen > MOST_MEMBERS {
            return Err(Malformed);
        }
        Ok(SeventhEntry(match key.as_str() {
            "remaining" => Some(&mut self.remaining),
            "reset" => Some(&mut self.reset),
            _ => None,
        }))
    }

    fn finish(self) -> Result<Self::Out, Malformed> {
        self.remaining.zip(self.reset).ok_or(Malformed)
    }
}

struct SeventhEntry<'d>(Option<&'d mut Option<u64>>);

impl<'a> EntryVisitor<'a> for SeventhEntry<'_> {
    type Error = Malformed;

    fn item(self) -> Result<impl ItemVisitor<'a>, Malformed> {
        Ok(move |item: BareItemFromInput<'a>| -> Result<Ignored, Malformed> {
            if let Some(place) = self.0 {
                *place = Some(count(&item)?);
            }
            Ok(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Malformed> {
        Err::<Never, _>(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = Result<Vec<(String, Option<u64>, Option<u64>, bool)>, Malformed>;

    fn read(line: &[u8]) -> Read {
        let mut read = Vec::new();
        members(line, &mut |Member { name, remaining, window, in_requests }| {
            read.push((name.into_owned(), remaining, window, in_requests));
        })?;
        Ok(read)
    }

    #[test]
    fn the_drafts_examples_are_read() {
        let one = |line: &str| read(line.as_bytes()).unwrap();
        assert_eq!(one(r#""default";r=50;t=30"#), [("default".into(), Some(50), Some(30), true)]);
        assert_eq!(
            one(r#""default";r=999;pk=:dHJpYWwxMjEzMjM=:"#),
            [("default".into(), Some(999), None, true)]
        );
        let policies = one(r#""permin";q=50;w=60,"bytes";q=65535;qu="content-bytes";w=10;pk=:sdfjLJUO:"#);
        assert_eq!(policies, [("permin".into(), None, None, true), ("bytes".into(), None, None, false)]);
        assert_eq!(one("default;r=50;t=30")[0].0, "default", "drafts 8 and 9 had tokens");
        assert_eq!(one(""), []);
    }

    #[test]
    fn the_last_of_equal_parameters_counts() {
        assert_eq!(read(br#""a";r=1;r=2;t=3;t=4"#).unwrap(), [("a".into(), Some(2), Some(4), true)]);
    }

    #[test]
    fn what_is_malformed_in_one_place_is_malformed() {
        for line in [
            r#""a";r=-1"#,
            r#""a";r=1.5"#,
            r#""a";r"#,
            r#""a";r="1""#,
            r#""a";r=1000000000000000"#,
            r#""a";r=1,"#,
            r#""a";r=1 "b";r=1"#,
            r#"("a" "b");r=1"#,
            "1;r=1",
            r#""a;r=1"#,
            "\"\u{fc}\";r=1",
            "limit=100, remaining=50, reset=30",
        ] {
            assert_eq!(read(line.as_bytes()), Err(Malformed), "{line}");
        }
        assert_eq!(read(b"\"a\";r=1\xff"), Err(Malformed));
        assert_eq!(read(b"\"a\0\";r=1"), Err(Malformed));
    }

    #[test]
    fn a_field_is_read_up_to_a_bound() {
        let of = |members: usize| vec!["a;r=1"; members].join(",");
        assert_eq!(read(of(MOST_MEMBERS).as_bytes()).unwrap().len(), MOST_MEMBERS);
        assert_eq!(read(of(MOST_MEMBERS + 1).as_bytes()), Err(Malformed));
        let long = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        assert_eq!(read(long(LONGEST_LINE).as_bytes()).unwrap().len(), 1);
        assert_eq!(read(long(LONGEST_LINE + 1).as_bytes()), Err(Malformed));
    }

    #[test]
    fn the_seventh_drafts_field_is_read() {
        assert_eq!(seventh_draft(b"limit=100, remaining=50, reset=30"), Ok((50, 30)));
        assert_eq!(seventh_draft(b"reset=5,remaining=0"), Ok((0, 5)));
        for line in
            ["remaining=50", "remaining=-1, reset=1", "remaining=(1 2), reset=1", "remaining, reset", ""]
        {
            assert_eq!(seventh_draft(line.as_bytes()), Err(Malformed), "{line}");
        }
        assert_eq!(seventh_draft(vec!["a=1"; MOST_MEMBERS + 1].join(",").as_bytes()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&line);
            let _ = seventh_draft(&line);
        }

        #[test]
        fn nothing_like_a_field_panics(line in r#"[a";,=:rt0-9 ()\\.*?@%-]{0,60}"#) {
            let _ = read(line.as_bytes());
            let _ = seventh_draft(line.as_bytes());
        }
    }
}
