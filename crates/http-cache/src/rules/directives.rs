//! `Cache-Control` (RFC 9111, section 5.2; RFC 5861). What can be read in two ways is read as the stricter one.

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::field::{MOST_SECONDS, is_space, seconds, trim};

/// The argument of a directive.
struct Argument<'a> {
    value: Cow<'a, [u8]>,
    /// As the grammar has it: neither space around the `=`, nor anything that does not belong there.
    is_clean: bool,
}

impl Argument<'_> {
    /// Of a word within garbage: it restricts, and allows nothing.
    const GARBLED: Self = Self { value: Cow::Borrowed(&[]), is_clean: false };
}

/// Goes through the directives of all lines. False: there is a quote where none can be, and nobody knows what it
/// swallows.
fn each<'a>(headers: &'a HeaderMap, mut tell: impl FnMut(&'a [u8], Option<Argument<'a>>)) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().all(|line| each_of_line(line.as_bytes(), &mut tell))
}

fn each_of_line<'a>(mut rest: &'a [u8], tell: &mut impl FnMut(&'a [u8], Option<Argument<'a>>)) -> bool {
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b',' | b'=')).unwrap_or(rest.len());
        let before = &rest[..end];
        let name = trim(before);
        let has_argument = rest.get(end) == Some(&b'=');
        rest = rest.get(end + 1..).unwrap_or_default();
        if !(name.is_empty() || is_token(name) || each_garbled(name, tell)) {
            return false;
        }
        if !has_argument {
            if !name.is_empty() {
                tell(name, None);
            }
            continue;
        }
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        let mut is_clean = spaces == 0 && before.ends_with(name) && is_token(name);
        rest = &rest[spaces..];
        let mut argument: &'a [u8] = &[];
        let mut value = None;
        if rest.first() == Some(&b'"') {
            let Some((text, length)) = unquote(&rest[1..]) else {
                return false;
            };
            argument = &rest[1..length];
            value = Some(text);
            rest = &rest[1 + length..];
        }
        let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
        let last = trim(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        is_clean &= if value.is_some() { last.is_empty() } else { is_token(last) };
        if !(is_clean || each_garbled(argument, tell) && each_garbled(last, tell)) {
            return false;
        }
        tell(name, Some(Argument { value: value.unwrap_or(Cow::Borrowed(last)), is_clean }));
    }
    true
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Of what is not as the grammar has it, such as `no-store; max-age=0`, no word is lost. False: it has a quote.
fn each_garbled<'a>(text: &'a [u8], tell: &mut impl FnMut(&'a [u8], Option<Argument<'a>>)) -> bool {
    text.split(|byte| !is_token_byte(*byte))
        .filter(|word| !word.is_empty())
        .for_each(|word| tell(word, Some(Argument::GARBLED)));
    !text.contains(&b'"')
}

/// What is up to the closing quote, and the length with that quote.
fn unquote(text: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    if text[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), end + 1));
    }
    let mut value = text[..end].to_vec();
    let mut at = end;
    loop {
        match text.get(at)? {
            b'"' => return Some((Cow::Owned(value), at + 1)),
            b'\\' => {
                value.push(*text.get(at + 1)?);
                at += 2;
            }
            byte => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}

/// The number of a directive; None where there is none that could be read.
fn number(argument: Option<&Argument<'_>>) -> Option<u64> {
    argument.filter(|argument| argument.is_clean).and_then(|argument| seconds(&argument.value))
}

/// Several that differ make it 0 (section 4.2.1).
fn once(known: &mut Option<u64>, new: u64) {
    *known = Some(if known.is_none_or(|known| known == new) { new } else { 0 });
}

/// Those of a response (RFC 9111, section 5.2.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ResponseDirectives {
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// With the names of fields as well: a cache may read that as being about all of it (section 5.2.2.4).
    pub(super) no_cache: bool,
    /// The same.
    pub(super) private: bool,
    pub(super) no_store: bool,
    pub(super) must_understand: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) public: bool,
    /// One of those that let a shared cache keep an answer to credentials (section 3.5), well written.
    pub(super) for_all_users: bool,
    /// From `CDN-Cache-Control`: then `Expires` says nothing either.
    pub(super) is_targeted: bool,
}

impl ResponseDirectives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        // A number that is none is 0: stale (section 4.2.1).
        let is_whole = each(headers, |name, argument| {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let argument = argument.as_ref();
            if is("max-age") {
                once(&mut all.max_age, number(argument).unwrap_or(0));
            } else if is("s-maxage") {
                let number = number(argument);
                all.for_all_users |= number.is_some();
                once(&mut all.s_maxage, number.unwrap_or(0));
            } else if is("no-cache") {
                all.no_cache = true;
            } else if is("no-store") {
                all.no_store = true;
            } else if is("private") {
                all.private = true;
            } else if is("public") {
                all.public |= argument.is_none();
                all.for_all_users |= argument.is_none();
            } else if is("must-revalidate") {
                all.must_revalidate = true;
                all.for_all_users |= argument.is_none();
            } else if is("proxy-revalidate") {
                all.proxy_revalidate = true;
            } else if is("must-understand") {
                all.must_understand |= argument.is_none();
            } else if is("stale-while-revalidate") {
                once(&mut all.stale_while_revalidate, number(argument).unwrap_or(0));
            } else if is("stale-if-error") {
                once(&mut all.stale_if_error, number(argument).unwrap_or(0));
            }
        });
        if !is_whole {
            all.no_store = true;
            all.must_understand = false;
        }
        all
    }
}

/// Those of a request (RFC 9111, section 5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestDirectives {
    pub(super) max_age: Option<u64>,
    pub(super) max_stale: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
}

impl RequestDirectives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            // RFC 9111, section 5.4.
            let is_no_cache = |pragma: &[u8]| pragma.eq_ignore_ascii_case(b"no-cache");
            all.no_cache = super::field::elements(headers, header::PRAGMA).any(is_no_cache);
            return all;
        }
        let is_whole = each(headers, |name, argument| {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let argument = argument.as_ref();
            if is("max-age") {
                once(&mut all.max_age, number(argument).unwrap_or(0));
            } else if is("max-stale") {
                // Without a number: however stale.
                let most = if argument.is_none() { Some(u64::MAX) } else { number(argument) };
                once(&mut all.max_stale, most.unwrap_or(0));
            } else if is("min-fresh") {
                let least = number(argument).unwrap_or(MOST_SECONDS);
                all.min_fresh = all.min_fresh.max(Some(least));
            } else if is("stale-if-error") {
                once(&mut all.stale_if_error, number(argument).unwrap_or(0));
            } else if is("no-cache") {
                all.no_cache = true;
            } else if is("no-store") {
                all.no_store = true;
            } else if is("only-if-cached") {
                all.only_if_cached |= argument.is_none();
            }
        });
        if !is_whole {
            all.no_cache = true;
            all.no_store = true;
        }
        all
    }
}
