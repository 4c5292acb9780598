use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use buttress_core::{Origin, Setting, SettingValue};

/// What a batcher keeps to: the knobs of a [`BatchLayer`](crate::BatchLayer).
pub(crate) struct Rules<Req, Res, E> {
    pub(crate) origin: Origin,
    pub(crate) limits: Limits,
    pub(crate) weigh: Option<Weigh<Req>>,
    pub(crate) bisect: Option<Bisect<Req, E>>,
    pub(crate) dedupe: Option<Dedupe<Req, Res, E>>,
    /// How the error of a batch is copied for each of its callers.
    pub(crate) share: Option<fn(&E) -> E>,
}

type Weigh<Req> = Arc<dyn Fn(&Req) -> u64 + Send + Sync>;
pub(crate) type CloneResult<Res, E> = fn(&Result<Res, E>) -> Result<Res, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) size: usize,
    pub(crate) weight: u64,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) linger: Duration,
}

impl Limits {
    pub(crate) const DEFAULT: Self =
        Self { size: 1_000, weight: u64::MAX, in_flight: 1, waiting: 10_000, linger: Duration::ZERO };
}

pub(crate) struct Bisect<Req, E> {
    pub(crate) splits: Arc<dyn Fn(&E) -> bool + Send + Sync>,
    pub(crate) clone: fn(&Req) -> Req,
}

pub(crate) struct Dedupe<Req, Res, E> {
    grouping: Arc<dyn Fn() -> Box<dyn Grouping<Req>> + Send + Sync>,
    pub(crate) clone: CloneResult<Res, E>,
}

/// Which requests of a batch are the same.
trait Grouping<Req>: Send {
    /// The place of the first with an equal key, or `next` if there is none.
    fn place(&mut self, request: &Req, next: u32) -> u32;
}

struct ByKey<F, K> {
    key: Arc<F>,
    places: HashMap<K, u32>,
}

impl<Req, K: Hash + Eq + Send, F: Fn(&Req) -> K + Send + Sync> Grouping<Req> for ByKey<F, K> {
    fn place(&mut self, request: &Req, next: u32) -> u32 {
        *self.places.entry((self.key)(request)).or_insert(next)
    }
}

impl<Req, Res, E> Dedupe<Req, Res, E> {
    pub(crate) fn by<K, F>(key: F) -> Self
    where
        K: Hash + Eq + Send + 'static,
        F: Fn(&Req) -> K + Send + Sync + 'static,
        Res: Clone,
        E: Clone,
    {
        let key = Arc::new(key);
        Self {
            grouping: Arc::new(move || Box::new(ByKey { key: key.clone(), places: HashMap::new() })),
            clone: Result::clone,
        }
    }
}

/// The requests of a batch while it is put together, those with equal keys once.
pub(crate) struct Assembly<Req> {
    pub(crate) requests: Vec<Req>,
    /// For each who takes part, the place of his request.
    pub(crate) places: Vec<u32>,
    weight: u64,
    grouping: Box<dyn Grouping<Req>>,
}

impl<Req> Assembly<Req> {
    pub(crate) fn new<Res, E>(dedupe: &Dedupe<Req, Res, E>) -> Self {
        Self { requests: Vec::new(), places: Vec::new(), weight: 0, grouping: (dedupe.grouping)() }
    }

    /// How many more requests, and of which weight, there is room for.
    pub(crate) fn room(&self, limits: &Limits) -> (usize, u64) {
        (limits.size.saturating_sub(self.requests.len()), limits.weight.saturating_sub(self.weight))
    }

    /// One more, who may want what another wants already.
    pub(crate) fn add(&mut self, request: Req, weight: u64) {
        let next = self.requests.len() as u32;
        let place = self.grouping.place(&request, next);
        self.places.push(place);
        if place == next {
            self.weight = self.weight.saturating_add(weight);
            self.requests.push(request);
        }
    }
}

impl<Req, Res, E> Rules<Req, Res, E> {
    /// What a function decides is `custom`: it stands in the program alone.
    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let Limits { size, weight, in_flight, waiting, linger } = self.limits;
        let word = |word, is_set| if is_set { SettingValue::Word(word) } else { SettingValue::Off };
        let weight = self.weigh.as_ref().map_or(SettingValue::Off, |_| SettingValue::Count(weight));
        let linger = if linger.is_zero() { SettingValue::Off } else { SettingValue::Duration(linger) };
        visit(Setting::new("max_size", SettingValue::Count(size as u64)));
        visit(Setting::new("max_weight", weight));
        visit(Setting::new("in_flight", SettingValue::Count(in_flight as u64)));
        visit(Setting::new("linger", linger));
        visit(Setting::new("max_waiting", SettingValue::Count(waiting as u64)));
        visit(Setting::new("bisect", word("custom", self.bisect.is_some())));
        visit(Setting::new("share_errors", word("on", self.share.is_some())));
        visit(Setting::new("dedupe", word("custom", self.dedupe.is_some())));
    }

    pub(crate) fn weight_of(&self, request: &Req) -> u64 {
        self.weigh.as_ref().map_or(1, |weigh| weigh(request))
    }
}

impl<Req, Res, E> Clone for Rules<Req, Res, E> {
    fn clone(&self) -> Self {
        let bisect = self.bisect.as_ref();
        let dedupe = self.dedupe.as_ref();
        Self {
            origin: self.origin,
            limits: self.limits,
            weigh: self.weigh.clone(),
            bisect: bisect.map(|by| Bisect { splits: by.splits.clone(), clone: by.clone }),
            dedupe: dedupe.map(|by| Dedupe { grouping: by.grouping.clone(), clone: by.clone }),
            share: self.share,
        }
    }
}
