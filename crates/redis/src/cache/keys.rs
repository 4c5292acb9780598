//! The names of what the store keeps: `NAME:k:KEY` an entry, `NAME:l:KEY` the lock of one that is being loaded, `NAME:t:TAG`
//! a tag, `NAME:era` and `NAME:tags` what was invalidated at large. `NAME:own:CONNECTION` and `NAME:own` are there only while the
//! script runs: by them a process knows its own writes.
//!
//! Keys and tags stand there as they are: whatever follows the second colon is the key, and `redis-cli DEL users:k:7` is as
//! good an invalidation as any.

use std::{
    fmt::{Display, Write},
    str::FromStr,
};

use bytes::Bytes;

/// The longest text of a key, and the longest tag, in bytes.
pub(super) const LONGEST: usize = 1_024;

#[derive(Debug)]
pub(super) struct Keys {
    pub(super) era: Bytes,
    pub(super) list: Bytes,
    pub(super) tag_prefix: Bytes,
    entry_prefix: Box<str>,
    lock_prefix: Box<str>,
    own_prefix: Box<str>,
    own_end: Bytes,
}

/// Those of one key of the cache.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) entry: Bytes,
    pub(super) lock: Bytes,
}

/// What a key of Redis is to this store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<K> {
    Entry(K),
    /// That of an entry whose text is not that of a key.
    Unreadable,
    Lock,
    Era,
    /// What comes next was written by that connection of the process.
    Own(u64),
    Foreign,
}

impl Keys {
    pub(super) fn new(name: &str) -> Self {
        let name = escaped(name);
        let key = |rest: &str| format!("{name}:{rest}");
        Self {
            era: key("era").into(),
            list: key("tags").into(),
            tag_prefix: key("t:").into(),
            entry_prefix: key("k:").into(),
            lock_prefix: key("l:").into(),
            own_prefix: key("own:").into(),
            own_end: key("own").into(),
        }
    }

    /// Nothing, if its text is too long.
    pub(super) fn of(&self, key: &impl Display) -> Option<Named> {
        let mut text = Limited { text: self.entry_prefix.to_string(), room: LONGEST };
        write!(text, "{key}").ok()?;
        let lock = format!("{}{}", self.lock_prefix, &text.text[self.entry_prefix.len()..]);
        Some(Named { entry: text.text.into(), lock: lock.into() })
    }

    /// What stands before and after a write of that connection in what it is told.
    pub(super) fn marks(&self, connection: u64) -> [Bytes; 2] {
        [format!("{}{connection}", self.own_prefix).into(), self.own_end.clone()]
    }

    pub(super) fn is_entry(&self, key: &[u8]) -> bool {
        key.starts_with(self.entry_prefix.as_bytes())
    }

    pub(super) fn meaning<K: FromStr>(&self, key: &[u8]) -> Meaning<K> {
        if let Some(text) = key.strip_prefix(self.entry_prefix.as_bytes()) {
            let key = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            return key.map_or(Meaning::Unreadable, Meaning::Entry);
        }
        let own = key.strip_prefix(self.own_prefix.as_bytes());
        if let Some(connection) = own.and_then(|own| str::from_utf8(own).ok()?.parse().ok()) {
            Meaning::Own(connection)
        } else if key.starts_with(self.lock_prefix.as_bytes()) {
            Meaning::Lock
        } else if key == self.era {
            Meaning::Era
        } else {
            Meaning::Foreign
        }
    }
}

/// A text that does not grow beyond its room, whatever is written into it.
struct Limited {
    text: String,
    room: usize,
}

impl Write for Limited {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.room = self.room.checked_sub(part.len()).ok_or(std::fmt::Error)?;
        self.text.push_str(part);
        Ok(())
    }
}

/// Without a colon, so that no name is the beginning of another's keys.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_says_what_it_is() {
        let keys = Keys::new("all users");
        let named = keys.of(&7_u64).unwrap();
        assert_eq!((&*named.entry, &*named.lock), (&b"all%20users:k:7"[..], &b"all%20users:l:7"[..]));
        assert_eq!(keys.meaning::<u64>(&named.entry), Meaning::Entry(7));
        assert_eq!(keys.meaning::<u64>(&named.lock), Meaning::Lock);
        assert_eq!(keys.meaning::<u64>(&keys.era), Meaning::Era);
        let [begin, end] = keys.marks(3);
        assert_eq!(
            (keys.meaning::<u64>(&begin), keys.meaning::<u64>(&end)),
            (Meaning::Own(3), Meaning::Foreign)
        );
        assert_eq!(keys.meaning::<u64>(b"all%20users:k:seven"), Meaning::Unreadable);
        assert_eq!(keys.meaning::<String>(b"all%20users:k:\xff"), Meaning::Unreadable);
        for foreign in [&b""[..], b"all%20users", b"all%20users:tags", b"users:k:7", b"all%20users:t:x"] {
            assert_eq!(keys.meaning::<u64>(foreign), Meaning::Foreign);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_no_key() {
        let keys = Keys::new("users");
        assert!(keys.of(&"x".repeat(LONGEST)).is_some());
        assert!(keys.of(&"x".repeat(LONGEST + 1)).is_none());
    }

    proptest! {
        #[test]
        fn no_two_names_share_a_key(
            name in "[a:k%]{0,4}", other in "[a:k%]{0,4}", key in "[a:k%]{0,6}", other_key in "[a:k%]{0,6}",
        ) {
            let named = Keys::new(&name).of(&key).unwrap();
            prop_assert_eq!(Keys::new(&name).meaning::<String>(&named.entry), Meaning::Entry(key.clone()));
            if (&name, &key) != (&other, &other_key) {
                prop_assert_ne!(named.entry, Keys::new(&other).of(&other_key).unwrap().entry);
            }
        }
    }
}
