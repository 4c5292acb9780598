use std::{
    collections::HashMap,
    fmt::{self, Write},
    hash::BuildHasher,
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::{
    cluster::desk::Desk,
    sync::{Mutex, lock},
};

/// The desks of keys: a bounded number of them.
pub(crate) struct Keys {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    of_a_shard: usize,
}

type Shard = HashMap<Arc<[u8]>, Arc<Desk>, RandomState>;

impl Keys {
    const SHARDS: usize = 16;

    pub(crate) fn new(capacity: usize) -> Self {
        let shards = capacity.min(Self::SHARDS).next_power_of_two();
        let shards: Box<[_]> = (0..shards).map(|_| Mutex::new(Shard::default())).collect();
        let of_a_shard = capacity.div_ceil(shards.len());
        Self { shards, hasher: RandomState::default(), of_a_shard }
    }

    /// The key's desk, as the function makes it where there is none; `None` where there is no room for it.
    pub(crate) fn desk(&self, key: &[u8], make: impl FnOnce(Arc<[u8]>) -> Desk) -> Option<Arc<Desk>> {
        let mut shard = lock(self.shard(key));
        if let Some(desk) = shard.get(key) {
            return Some(Arc::clone(desk));
        }
        if shard.len() >= self.of_a_shard {
            let quiet = shard.iter().find(|(_, desk)| is_forgettable(desk)).map(|(key, _)| Arc::clone(key));
            shard.remove(&*quiet?);
        }
        let key: Arc<[u8]> = key.into();
        let desk = Arc::new(make(Arc::clone(&key)));
        shard.insert(key, Arc::clone(&desk));
        Some(desk)
    }

    /// Forgets a key, unless somebody needs its desk, which is then handed back. The caller's own handle does not count.
    pub(crate) fn forget(&self, desk: Arc<Desk>) -> Option<Arc<Desk>> {
        let key = desk.subject.key().map(Arc::<[u8]>::from)?;
        let mut shard = lock(self.shard(&key));
        drop(desk);
        if shard.get(&key).is_some_and(is_forgettable) {
            shard.remove(&key);
        }
        shard.get(&key).map(Arc::clone)
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Desk>> {
        self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        // The map's own hasher has another seed.
        &self.shards[self.hasher.hash_one(key) as usize & (self.shards.len() - 1)]
    }
}

/// Under the lock of the shard nobody else can get hold of it.
fn is_forgettable(desk: &Arc<Desk>) -> bool {
    Arc::strong_count(desk) == 1 && desk.is_quiet()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A key as it is shown, written where it needs no allocation unless it is long.
pub(crate) struct KeyText {
    short: [u8; KeyText::SHORT],
    len: usize,
    long: Vec<u8>,
}

impl KeyText {
    const SHORT: usize = 64;

    pub(crate) fn of(key: &impl fmt::Display) -> Self {
        let mut text = Self { short: [0; Self::SHORT], len: 0, long: Vec::new() };
        // Writing here has no errors, and a key that makes its own is what it has written so far.
        let _ = write!(text, "{key}");
        text
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.len] } else { &self.long }
    }
}

impl Write for KeyText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.len + part.len();
        if self.long.is_empty() && end <= Self::SHORT {
            self.short[self.len..end].copy_from_slice(part.as_bytes());
            self.len = end;
            return Ok(());
        }
        if self.long.is_empty() {
            self.long.extend_from_slice(&self.short[..self.len]);
        }
        self.long.extend_from_slice(part.as_bytes());
        Ok(())
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::cluster::Subject;

    fn desk_of(keys: &Keys, key: &[u8]) -> Option<Arc<Desk>> {
        keys.desk(key, |key| Desk::new(Subject::of_key("test".into(), key), 1, true))
    }

    #[test]
    fn keys_are_bounded_and_those_in_use_stay() {
        let keys = Keys::new(64);
        let held: Vec<_> = (0..4u8).map(|n| desk_of(&keys, &[n]).unwrap()).collect();
        held[0].purse.put(1, 0);
        for n in 0..100_000u32 {
            desk_of(&keys, &n.to_be_bytes());
        }
        assert!(keys.len() <= 64, "{}", keys.len());
        for (n, desk) in (0..4u8).zip(&held) {
            assert!(Arc::ptr_eq(desk, &desk_of(&keys, &[n]).unwrap()));
        }
        let all = keys.all();
        assert!((0..100_000u32).all(|n| desk_of(&keys, &n.to_be_bytes()).is_none_or(|desk| desk.is_known)));
        drop((all, held));
    }

    #[test]
    fn only_what_nobody_needs_is_forgotten() {
        let keys = Keys::new(8);
        let desk = desk_of(&keys, b"a").unwrap();
        assert!(keys.forget(Arc::clone(&desk)).is_some_and(|kept| Arc::ptr_eq(&kept, &desk)));
        assert_eq!(keys.len(), 1, "somebody holds it");
        desk.purse.put(1, 0);
        drop(keys.forget(desk));
        assert_eq!(keys.len(), 1, "there are units in it");
        let desk = desk_of(&keys, b"a").unwrap();
        desk.purse.empty();
        assert!(keys.forget(desk).is_none());
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn a_key_is_what_it_shows_short_or_long() {
        let long = "\u{e4}".repeat(40);
        for key in ["", "a", &"x".repeat(64), &"x".repeat(65), &long] {
            assert_eq!(KeyText::of(&key).bytes(), key.as_bytes());
        }
        assert_eq!(KeyText::of(&format_args!("{}-{}", 7, &long)).bytes(), format!("7-{long}").as_bytes());
        assert_eq!(buttress_testkit::allocations(|| drop(KeyText::of(&u64::MAX))).count, 0);
    }
}
