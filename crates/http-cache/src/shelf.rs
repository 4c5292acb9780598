use std::{
    hash::BuildHasher,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_cache::Memory;
use bytes::Bytes;
use foldhash::fast::RandomState;
use http::request;

use crate::{
    changes::{Asked, Changes},
    growing::Growing,
    key::Key,
    rules::{Rules, Stored},
    sync::{Mutex, lock},
};

/// How many responses are kept for one address. The oldest makes room.
const MOST_VARIANTS: usize = 32;
/// What an entry weighs beside its key, fields and body, in bytes: the nodes and counts around them, about.
const OVERHEAD: u64 = 256;
const STRIPES: usize = 64;

/// A response that is kept.
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) stored: Stored,
    pub(crate) content: Content,
}

#[derive(Clone)]
pub(crate) enum Content {
    Whole(Bytes),
    /// It is on its way. Its length was announced.
    Growing(Arc<Growing>, u64),
}

impl Entry {
    /// Whether its body can be had.
    pub(crate) fn is_there(&self) -> bool {
        match &self.content {
            Content::Whole(_) => true,
            Content::Growing(growing, _) => growing.is_readable(),
        }
    }
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Growing(_, length) => *length,
        }
    }
}

/// The responses of one address, the oldest first.
pub(crate) type Variants = Arc<[Arc<Entry>]>;

/// Where responses are kept.
///
/// What was asked for before its address was invalidated is not kept: a response that is overtaken by a change of its
/// resource, while it is on its way, does not come back.
pub(crate) struct Shelf {
    memory: Memory<Key, Variants>,
    /// Held while the responses of an address are changed.
    stripes: Box<[Mutex<Changes>]>,
    hasher: RandomState,
    ids: AtomicU64,
}

impl Shelf {
    pub(crate) fn new(max_weight: u64) -> Self {
        // A response of a few KiB is a guess that may be wrong by far.
        let estimated = usize::try_from(max_weight / 4_096).unwrap_or(usize::MAX).clamp(64, 1 << 20);
        Self {
            memory: Memory::new(max_weight, estimated),
            stripes: (0..STRIPES).map(|_| Mutex::new(Changes::default())).collect(),
            hasher: RandomState::default(),
            ids: AtomicU64::new(0),
        }
    }

    pub(crate) fn entry(&self, stored: Stored, content: Content) -> Arc<Entry> {
        Arc::new(Entry { id: self.ids.fetch_add(1, Relaxed), stored, content })
    }

    pub(crate) fn variants(&self, key: &Key) -> Option<Variants> {
        self.memory.get(key)
    }

    /// To be had before a request is sent.
    pub(crate) fn now(&self, key: &Key) -> Asked {
        let (stripe, _) = self.place(key);
        lock(&self.stripes[stripe]).now()
    }

    /// Keeps a response in place of those that would have answered its request, unless the address was invalidated since.
    /// Returns those, if it is there.
    pub(crate) fn keep(
        &self,
        rules: &Rules,
        key: &Key,
        request: &request::Parts,
        entry: &Arc<Entry>,
        asked: Asked,
    ) -> Option<Vec<Arc<Entry>>> {
        let mut is_newest = true;
        let mut replaced = Vec::new();
        let kept = self.change(key, asked, |variants| {
            // One that was asked for later may have been there sooner.
            is_newest = !variants
                .iter()
                .any(|old| old.stored.came_after(&entry.stored) && rules.matches(&old.stored, request));
            if !is_newest {
                return;
            }
            let (gone, others) = variants.drain(..).partition(|old| rules.matches(&old.stored, request));
            (replaced, *variants) = (gone, others);
            if variants.len() >= MOST_VARIANTS {
                variants.remove(0);
            }
            variants.push(entry.clone());
        });
        (kept && is_newest && self.has(key, entry.id)).then_some(replaced)
    }

    /// Puts responses back that one took the place of which turned out to be none, if nothing has taken theirs.
    pub(crate) fn put_back(
        &self,
        rules: &Rules,
        key: &Key,
        request: &request::Parts,
        replaced: &[Arc<Entry>],
        asked: Asked,
    ) {
        self.change(key, asked, |variants| {
            if !variants.iter().any(|new| rules.matches(&new.stored, request)) {
                variants.splice(0..0, replaced.iter().filter(|old| old.is_there()).cloned());
            }
        });
    }

    fn has(&self, key: &Key, id: u64) -> bool {
        self.memory.get(key).is_some_and(|variants| variants.iter().any(|entry| entry.id == id))
    }

    /// Puts responses into the places of others, as far as those are still there.
    pub(crate) fn replace(&self, key: &Key, by: &[(u64, Arc<Entry>)], asked: Asked) {
        self.change(key, asked, |variants| {
            for variant in variants {
                if let Some((_, entry)) = by.iter().find(|(id, _)| *id == variant.id) {
                    *variant = entry.clone();
                }
            }
        });
    }

    /// The body of a response is complete now, or will never be.
    ///
    /// What has been invalidated is not there any more; then it says so.
    pub(crate) fn complete(&self, key: &Key, body: &Weak<Growing>, bytes: Option<Bytes>) -> bool {
        let is_it = |entry: &Entry| match &entry.content {
            Content::Growing(growing, _) => Weak::ptr_eq(&Arc::downgrade(growing), body),
            Content::Whole(_) => false,
        };
        let (stripe, _) = self.place(key);
        let _changing = lock(&self.stripes[stripe]);
        let Some(variants) = self.memory.get(key) else { return false };
        if !variants.iter().any(|entry| is_it(entry)) {
            return false;
        }
        let Some(bytes) = bytes else {
            self.put(key, variants.iter().filter(|entry| !is_it(entry)).cloned().collect());
            return true;
        };
        let whole = |entry: &Arc<Entry>| {
            if is_it(entry) {
                let content = Content::Whole(bytes.clone());
                Arc::new(Entry { id: entry.id, stored: entry.stored.clone(), content })
            } else {
                entry.clone()
            }
        };
        self.put(key, variants.iter().map(whole).collect());
        true
    }

    /// Lets go of responses.
    pub(crate) fn let_go(&self, key: &Key, gone: impl Fn(&Entry) -> bool) {
        let (stripe, _) = self.place(key);
        let _changing = lock(&self.stripes[stripe]);
        let Some(variants) = self.memory.get(key) else { return };
        if variants.iter().any(|entry| gone(entry)) {
            self.put(key, variants.iter().filter(|entry| !gone(entry)).cloned().collect());
        }
    }

    fn change(&self, key: &Key, asked: Asked, change: impl FnOnce(&mut Vec<Arc<Entry>>)) -> bool {
        let (stripe, hash) = self.place(key);
        let changes = lock(&self.stripes[stripe]);
        if changes.has_changed(hash, asked) {
            return false;
        }
        let mut variants = self.memory.get(key).map_or_else(Vec::new, |variants| variants.to_vec());
        change(&mut variants);
        self.put(key, variants);
        true
    }

    fn put(&self, key: &Key, mut variants: Vec<Arc<Entry>>) {
        let weigh = |entry: &Arc<Entry>| entry.content.len() + entry.stored.weight() as u64 + OVERHEAD;
        while let Some(newest) = variants.last().map(|entry| entry.id) {
            let weight = variants.iter().map(weigh).sum::<u64>() + key.len() as u64 + OVERHEAD;
            self.memory.insert(key.clone(), variants.as_slice().into(), weight);
            if self.has(key, newest) {
                return;
            }
            // Too heavy together for their place: without the oldest.
            variants.remove(0);
        }
        self.memory.remove(key);
    }

    /// Lets go of whatever an address has, and of what is on its way.
    pub(crate) fn invalidate(&self, key: &Key) {
        let (stripe, hash) = self.place(key);
        let mut changes = lock(&self.stripes[stripe]);
        changes.changed(hash);
        self.memory.remove(key);
    }

    /// The same for all.
    pub(crate) fn clear(&self) {
        // All of them, else somebody who has looked already would put back what he saw.
        let mut stripes: Vec<_> = self.stripes.iter().map(lock).collect();
        stripes.iter_mut().for_each(|changes| changes.all_changed());
        self.memory.clear();
    }

    pub(crate) fn addresses(&self) -> u64 {
        self.memory.len() as u64
    }

    pub(crate) fn weight(&self) -> u64 {
        self.memory.weight()
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.memory.evicted()
    }

    fn place(&self, key: &Key) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        ((hash % STRIPES as u64) as usize, hash)
    }
}
