use std::{fmt, sync::Arc, time::Duration};

use buttress_cache::{Flights, Memory};
use buttress_core::{Decision, Metric, Observe, Origin, Setting, SettingValue, UnknownAction, WeakObserve};
use http::{Uri, header, request};
use tokio::time::Instant;

use crate::{
    HttpCacheBuilder, HttpCacheLayer,
    budget::Budget,
    flight::{Brought, FlightKey},
    key::Key,
    rules::{CacheName, Kind, Moment, Rules, on},
    shelf::{Entry, Shelf, Variants},
    stats::{Counters, Stats, count},
};

/// An HTTP cache: stored responses, shared by all its clones and by the services that its layers make.
#[derive(Clone)]
pub struct HttpCache {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) rules: Rules,
    /// How it is called in `Cache-Status`, where it tells.
    pub(crate) status_name: Option<CacheName>,
    pub(crate) max_body: u64,
    pub(crate) max_weight: u64,
    /// Of requests that do not say theirs.
    pub(crate) scheme: &'static str,
    pub(crate) shelf: Shelf,
    pub(crate) flights: Arc<Flights<FlightKey, Brought>>,
    /// For bodies on their way.
    pub(crate) budget: Arc<Budget>,
    pub(crate) counters: Counters,
    /// Addresses whose last answer was no good for others, and until when nobody waits for one.
    apart: Memory<Key, Instant>,
    /// Addresses whose refresh failed, and until when none is tried.
    resting: Memory<Key, Instant>,
}

/// For so long after an answer that could not be shared, requests for its address are not collapsed.
const APART: Duration = Duration::from_secs(10);
/// For so long after a refresh that failed there is no other.
const REST: Duration = Duration::from_secs(1);
/// How many bytes of addresses are remembered for either.
const REMEMBERED: u64 = 1 << 20;
/// What one takes beside its own, about.
const OVERHEAD: u64 = 128;

impl HttpCache {
    /// A cache by that name, which stands in `Cache-Status` fields, events and errors.
    pub fn builder(name: &str, kind: Kind) -> HttpCacheBuilder {
        HttpCacheBuilder::new(name, kind)
    }

    /// Puts it before a service.
    #[must_use]
    pub fn layer(&self) -> HttpCacheLayer {
        HttpCacheLayer::new(self.clone())
    }

    /// Lets go of what is stored for an absolute address. What is on its way to be stored there is not stored.
    ///
    /// An address without host names nothing, and nothing is done.
    pub fn invalidate(&self, uri: &Uri) {
        if let Some(key) = Key::of_uri(uri) {
            self.inner.invalidate(&key);
        }
    }

    /// Lets go of everything.
    pub fn clear(&self) {
        count(&self.inner.counters.invalidations);
        self.inner.shelf.clear();
        self.inner.flights.detach_all();
    }

    /// The figures since it was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shelf = &self.inner.shelf;
        Stats::of(&self.inner.counters, shelf.addresses(), shelf.weight(), shelf.evicted())
    }
}

impl Inner {
    pub(crate) fn new(
        origin: Origin,
        rules: Rules,
        status_name: Option<CacheName>,
        scheme: &'static str,
        (max_body, max_weight): (u64, u64),
    ) -> Self {
        Self {
            origin,
            rules,
            status_name,
            max_body,
            max_weight,
            scheme,
            shelf: Shelf::new(max_weight),
            flights: Arc::new(Flights::new()),
            budget: Arc::new(Budget::new(max_weight)),
            counters: Counters::default(),
            apart: Memory::new(REMEMBERED, 1_024),
            resting: Memory::new(REMEMBERED, 1_024),
        }
    }

    /// The newest of the stored responses that a request may be answered with.
    pub(crate) fn select(&self, variants: &Variants, request: &request::Parts) -> Option<Arc<Entry>> {
        let right = |entry: &&Arc<Entry>| self.rules.matches(&entry.stored, request) && entry.is_there();
        let newest = variants
            .iter()
            .filter(right)
            .reduce(|newest, entry| if entry.stored.is_newer_than(&newest.stored) { entry } else { newest });
        newest.cloned()
    }

    pub(crate) fn invalidate(&self, key: &Key) {
        count(&self.counters.invalidations);
        // In this order: a leader who looks at the shelf after its flight was detached finds nothing of before.
        self.shelf.invalidate(key);
        self.flights.detach_where(|flight| flight.key == *key);
    }

    /// For whoever asks why a response past its time was served.
    pub(crate) fn note_stale(&self, entry: &Entry, now: Moment, because: &str) {
        Decision::note(self.origin, "served_stale", || {
            let past = entry.stored.ttl(now).min(0).unsigned_abs();
            format!("{past} s past its time: {because}")
        });
    }

    /// Whom a request may be answered together with.
    pub(crate) fn flight_key(&self, key: &Key, request: &request::Parts) -> FlightKey {
        let principal = match self.rules.kind() {
            Kind::Private => request.headers.get_all(header::AUTHORIZATION).iter().cloned().collect(),
            Kind::Shared => Vec::new(),
        };
        FlightKey { key: key.clone(), principal }
    }

    /// The addresses that a request changed, by its answer.
    pub(crate) fn changed(&self, key: &Key, request: &request::Parts, response: &http::response::Parts) {
        let Some(target) = key.uri() else {
            // Too long to be one.
            if response.status.is_success() || response.status.is_redirection() {
                self.invalidate(key);
            }
            return;
        };
        for uri in self.rules.invalidated(request, response, &target) {
            if let Some(key) = Key::of_uri(&uri) {
                self.invalidate(&key);
            }
        }
    }

    /// From now on nobody waits for another's answer, for a while.
    pub(crate) fn set_apart(&self, key: &Key) {
        self.apart.insert(key.clone(), Instant::now() + APART, key.len() as u64 + OVERHEAD);
    }

    pub(crate) fn is_apart(&self, key: &Key, now: Instant) -> bool {
        self.apart.get(key).is_some_and(|until| now < until)
    }

    pub(crate) fn rest(&self, key: &Key) {
        self.resting.insert(key.clone(), Instant::now() + REST, key.len() as u64 + OVERHEAD);
    }

    pub(crate) fn rests(&self, key: &Key, now: Instant) -> bool {
        self.resting.get(key).is_some_and(|until| now < until)
    }
}

impl Observe for HttpCache {
    fn origin(&self) -> Origin {
        self.inner.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.inner, |inner| Self { inner })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.stats().observe(visit);
        self.inner.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let inner = &self.inner;
        let kind = match inner.rules.kind() {
            Kind::Private => "private",
            Kind::Shared => "shared",
        };
        visit(Setting::new("kind", SettingValue::Word(kind)));
        visit(Setting::new("max_weight", SettingValue::Count(inner.max_weight)));
        visit(Setting::new("max_body", SettingValue::Count(inner.max_body)));
        inner.rules.settings(visit);
        visit(Setting::new("https", on(inner.scheme == "https")));
        visit(Setting::new("without_cache_status", on(inner.status_name.is_none())));
    }

    fn actions(&self) -> &'static [&'static str] {
        &["clear"]
    }

    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        match action {
            "clear" => self.clear(),
            _ => return Err(UnknownAction),
        }
        Ok(())
    }
}

impl fmt::Debug for HttpCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCache")
            .field("name", &self.inner.origin.name())
            .field("kind", &self.inner.rules.kind())
            .field("stats", &self.stats())
            .finish()
    }
}
