//! The names of what the store keeps: `PREFIX:{NAME:KEY}:LIMIT`.
//!
//! What stands in the braces chooses the slot of a cluster: all keys of one subject have the same. Names and keys are
//! anybody's bytes, so all but a few characters are written as `%XX`, and long ones as their digest.

use buttress_rate_limit::{Algorithm, Limit, cluster::Subject};
use sha2::{Digest, Sha256};

/// A part that would be longer than this is written as its digest.
const LONGEST: usize = 96;

/// What all keys of a subject begin with.
pub(super) fn stem(prefix: &str, subject: &Subject) -> String {
    let mut stem = String::with_capacity(prefix.len() + 64);
    stem.push_str(prefix);
    stem.push_str(":{");
    write_part(&mut stem, subject.name().as_bytes());
    if let Some(key) = subject.key() {
        stem.push(':');
        write_part(&mut stem, key);
    }
    stem.push_str("}:");
    stem
}

/// A part by itself. Different bytes are different parts, and none is empty.
pub(super) fn part(bytes: &[u8]) -> String {
    let mut part = String::new();
    write_part(&mut part, bytes);
    part
}

fn write_part(into: &mut String, bytes: &[u8]) {
    let start = into.len();
    if bytes.len() <= LONGEST {
        for &byte in bytes {
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => into.push(byte.into()),
                _ => {
                    into.push('%');
                    write_hex(into, byte);
                }
            }
        }
    }
    match into.len() - start {
        // An empty tag would be none.
        0 if bytes.is_empty() => into.push('%'),
        1..=LONGEST => {}
        _ => {
            into.truncate(start);
            into.push('#');
            for byte in Sha256::digest(bytes) {
                write_hex(into, byte);
            }
        }
    }
}

fn write_hex(into: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        into.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
    }
}

/// The key of one limit. Whatever changes its meaning is a part of it.
pub(super) fn of_limit(stem: &str, limit: &Limit) -> String {
    let rate = limit.rate();
    let (units, nanos) = (rate.units(), rate.period().as_nanos());
    match limit.algorithm() {
        Algorithm::Gcra { burst } => format!("{stem}gcra:{units}:{nanos}:{burst}"),
        Algorithm::SlidingWindow => format!("{stem}window:{units}:{nanos}"),
        Algorithm::SlidingLog => format!("{stem}log:{units}:{nanos}"),
        Algorithm::FixedWindow => format!("{stem}fixed:{units}:{nanos}"),
        other => format!("{stem}{other:?}:{units}:{nanos}"),
    }
}

pub(super) fn of_nodes(stem: &str) -> String {
    format!("{stem}nodes")
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use buttress_rate_limit::Rate;
    use fred::util::redis_keyslot;
    use proptest::prelude::*;

    use super::*;

    fn subject(name: &str, key: Option<&[u8]>) -> Subject {
        match key {
            Some(key) => Subject::of_key(name.into(), Arc::from(key)),
            None => Subject::of(name.into()),
        }
    }

    #[test]
    fn a_key_says_whose_limit_it_is_and_which() {
        let stem = stem("rl", &subject("search", Some(b"alice@example.com")));
        assert_eq!(stem, "rl:{search:alice%40example.com}:");
        let rate = Rate::per_second(100);
        let window = of_limit(&stem, &rate.into());
        assert_eq!(window, "rl:{search:alice%40example.com}:window:100:1000000000");
        assert!(of_limit("", &Limit::gcra(rate, 7).unwrap()).ends_with("gcra:100:1000000000:7"));
        let other = Rate::try_new(100, Duration::from_millis(1001)).unwrap();
        assert_ne!(of_limit("", &rate.into()), of_limit("", &other.into()));
        assert_ne!(of_limit("", &rate.into()), of_limit("", &Limit::fixed_window(rate)));
        assert_ne!(of_limit("", &rate.into()), of_limit("", &Limit::sliding_log(rate).unwrap()));
    }

    #[test]
    fn nothing_and_an_empty_key_are_different_subjects() {
        let stems = [subject("", None), subject("", Some(b"")), subject("a", None), subject("a", Some(b""))]
            .map(|subject| stem("rl", &subject));
        assert_eq!(stems, ["rl:{%}:", "rl:{%:%}:", "rl:{a}:", "rl:{a:%}:"]);
    }

    proptest! {
        #[test]
        fn all_keys_of_a_subject_share_a_slot_and_no_two_subjects_a_key(
            name in ".{0,40}", key in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            other in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)), prefix in ".{0,10}",
        ) {
            let mine = subject(&name, key.as_deref());
            let stem = stem(&part(prefix.as_bytes()), &mine);
            prop_assert!(stem.len() <= 3 * LONGEST + 10, "{}", stem.len());
            prop_assert!(stem.bytes().all(|byte| byte.is_ascii_graphic()));
            let tag = stem.split_once('{').unwrap().1.split_once('}').unwrap().0;
            prop_assert!(!tag.is_empty());
            let slot = redis_keyslot(tag.as_bytes());
            prop_assert_eq!(redis_keyslot(of_nodes(&stem).as_bytes()), slot);
            prop_assert_eq!(redis_keyslot(of_limit(&stem, &Rate::per_second(1).into()).as_bytes()), slot);
            let theirs = super::stem(&part(prefix.as_bytes()), &subject(&name, other.as_deref()));
            prop_assert_eq!(stem == theirs, key == other);
        }
    }
}
