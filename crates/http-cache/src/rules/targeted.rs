//! `CDN-Cache-Control` (RFC 9213): the same directives, for caches in front of an origin alone, as a structured field.

use std::{error, fmt};

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, Never},
};

use super::{
    directives::ResponseDirectives,
    field::{MOST_SECONDS, joined},
};

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const LONGEST: usize = 8_192;

/// What it says. None: it is not there, says nothing, or is not as its grammar has it; then `Cache-Control` counts (section
/// 2.1).
pub(super) fn targeted(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let value = joined(headers, &CDN_CACHE_CONTROL)?;
    if value.len() > LONGEST {
        return None;
    }
    let reading = Reading { all: ResponseDirectives::default(), is_empty: true };
    Parser::new(&value).parse_dictionary_with_visitor(reading).ok().flatten()
}

struct Reading {
    all: ResponseDirectives,
    is_empty: bool,
}

/// A value is of a type that its directive does not have.
#[derive(Debug)]
struct Invalid;

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of another type")
    }
}

impl error::Error for Invalid {}

impl<'a> DictionaryVisitor<'a> for Reading {
    type Out = Option<ResponseDirectives>;
    type Error = Invalid;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Invalid> {
        self.is_empty = false;
        Ok(Entry { all: &mut self.all, name: key.as_str() })
    }

    fn finish(self) -> Result<Self::Out, Invalid> {
        Ok((!self.is_empty).then_some(ResponseDirectives { is_targeted: true, ..self.all }))
    }
}

struct Entry<'a, 'd> {
    all: &'d mut ResponseDirectives,
    name: &'a str,
}

impl<'a> EntryVisitor<'a> for Entry<'a, '_> {
    type Error = Invalid;

    fn item(self) -> Result<impl ItemVisitor<'a>, Invalid> {
        Ok(move |item: BareItemFromInput<'a>| -> Result<Ignored, Invalid> {
            self.set(&item)?;
            Ok(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Invalid> {
        Err::<Never, _>(Invalid)
    }
}

impl Entry<'_, '_> {
    fn set(self, item: &BareItemFromInput<'_>) -> Result<(), Invalid> {
        let seconds = || {
            let seconds = item.as_integer().and_then(|seconds| u64::try_from(seconds).ok());
            seconds.map(|seconds| Some(seconds.min(MOST_SECONDS))).ok_or(Invalid)
        };
        let flag = || item.as_boolean().ok_or(Invalid);
        // What restricts does so whatever stands behind it, such as the names of fields.
        let restricts = || item.as_boolean().unwrap_or(true);
        let all = self.all;
        match self.name {
            "max-age" => all.max_age = seconds()?,
            "s-maxage" => {
                all.s_maxage = seconds()?;
                all.for_all_users = true;
            }
            "stale-while-revalidate" => all.stale_while_revalidate = seconds()?,
            "stale-if-error" => all.stale_if_error = seconds()?,
            "no-store" => all.no_store = restricts(),
            "no-cache" => all.no_cache = restricts(),
            "private" => all.private = restricts(),
            "must-revalidate" => {
                all.must_revalidate = flag()?;
                all.for_all_users |= all.must_revalidate;
            }
            "proxy-revalidate" => all.proxy_revalidate = flag()?,
            "must-understand" => all.must_understand = flag()?,
            "public" => {
                all.public = flag()?;
                all.for_all_users |= all.public;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<ResponseDirectives> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CDN_CACHE_CONTROL, line.parse().unwrap());
        }
        targeted(&headers)
    }

    #[test]
    fn directives_are_read_over_all_lines() {
        let all = read(&["max-age=60, must-revalidate", "no-cache=\"x\", unknown=(1 2);a"]).is_none();
        assert!(all, "a list is none of its types");
        let all = read(&["max-age=60, must-revalidate", "stale-if-error=5, other=tok;x=1"]).unwrap();
        assert_eq!((all.max_age, all.stale_if_error), (Some(60), Some(5)));
        assert!(all.must_revalidate && all.for_all_users && all.is_targeted && !all.no_cache);
        let all = read(&["private=\"set-cookie\", no-store=?0, max-age=1, max-age=2"]).unwrap();
        assert_eq!((all.private, all.no_store, all.max_age), (true, false, Some(2)));
        assert_eq!(read(&["max-age=999999999999999"]).unwrap().max_age, Some(MOST_SECONDS));
    }

    #[test]
    fn what_is_not_well_formed_says_nothing() {
        for line in [
            "",
            " ",
            "max-age=60,",
            "max-age=\"60\"",
            "max-age=-1",
            "max-age=1.5",
            "max-age",
            "&",
            "Max-Age=60",
        ] {
            assert_eq!(read(&[line]), None, "{line}");
        }
        assert_eq!(read(&[&format!("max-age=60, x{}", "a".repeat(LONGEST))]), None);
        assert_eq!(read(&[]), None);
    }
}
