//! `Cache-Control` by splitting at commas, as far as that is enough.

use http::{HeaderMap, header};

/// What a naive reader makes of it.
#[derive(Debug, Default)]
pub(super) struct Directives {
    /// Whether every line keeps the grammar, without quotes, so that the naive reader knows all.
    pub(super) is_plain: bool,
    /// Of plain lines, where it is there once or always the same.
    pub(super) max_age: Option<u64>,
    /// Every directive's word, and in lines without quotes whatever looks like one, but for arguments.
    pub(super) words: Vec<String>,
}

impl Directives {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = Self { is_plain: true, ..Self::default() };
        let mut max_age: Vec<Option<u64>> = Vec::new();
        for line in headers.get_all(header::CACHE_CONTROL) {
            let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
            if line.contains('"') {
                all.is_plain = false;
                continue;
            }
            for directive in line.split(',') {
                let directive = directive.trim_matches([' ', '\t']);
                let (name, argument) = match directive.split_once('=') {
                    Some((name, argument)) => (name, Some(argument)),
                    None => (directive, None),
                };
                let is_well_formed = is_token(name) && argument.is_none_or(is_token);
                if !(directive.is_empty() || is_well_formed) {
                    all.is_plain = false;
                    continue;
                }
                all.words.push(name.to_owned());
                if name == "max-age" {
                    max_age.push(argument.and_then(seconds));
                }
            }
        }
        let first = max_age.first().copied();
        all.max_age = first.map(|first| {
            let is_same = max_age.iter().all(|other| other.unwrap_or(0) == first.unwrap_or(0));
            if is_same { first.unwrap_or(0) } else { 0 }
        });
        all
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char))
}

fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() || !text.chars().all(|char| char.is_ascii_digit()) {
        return None;
    }
    Some(
        text.parse::<u128>()
            .map_or(1 << 31, |seconds| u64::try_from(seconds.min(1 << 31)).unwrap_or(1 << 31)),
    )
}
