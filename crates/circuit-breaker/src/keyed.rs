use std::{
    borrow::Borrow,
    fmt::{self, Write as _},
    hash::Hash,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{ByError, Classify, Metric, Observe, Origin, Rejected, Value, WeakObserve};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Breaker, ResponseFuture, State, agreed::Agreed, permit::Admitted, settings::Settings};

/// What a keyed breaker can be keyed by. `Debug` names it in events, at most 64 characters of it.
pub trait Key: Hash + Eq + Clone + fmt::Debug + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + fmt::Debug + Send + Sync + 'static> Key for K {}

/// A breaker for each key, at most so many.
///
/// All have the same name and the same settings. A key that nobody asks for during a whole [idle time](KeyedLayer::idle) is
/// forgotten; where there would be too many, those go that were asked for once or long ago, and not those in use
/// (S3-FIFO; Yang, Zhang, Qiu, Yue, Vinayak, SOSP 2023), so that a flood of random keys does not close the breaker of a
/// host that fails. What is forgotten begins anew, closed.
///
/// Clones are the same breakers.
#[derive(Debug)]
pub struct Breakers<K: Key>(Arc<Table<K>>);

impl<K: Key> Clone for Breakers<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Table<K: Key> {
    origin: Origin,
    settings: Agreed<Settings>,
    breakers: Cache<K, Breaker>,
    idle: Duration,
    swept: Mutex<Instant>,
}

impl<K: Key> Breakers<K> {
    pub(crate) fn new(origin: Origin, settings: Settings) -> Self {
        Self::of(origin, settings, 1_024, Duration::from_secs(600))
    }

    fn of(origin: Origin, settings: Settings, capacity: usize, idle: Duration) -> Self {
        Self(Arc::new(Table {
            origin,
            settings: Agreed::new(settings),
            breakers: Cache::new(capacity),
            idle,
            swept: Mutex::new(Instant::now()),
        }))
    }

    fn with_capacity(&self, most: usize) -> Self {
        Self::of(self.0.origin, self.settings(), most.max(1), self.0.idle)
    }

    fn with_idle(&self, idle: Duration) -> Self {
        Self::of(self.0.origin, self.settings(), self.capacity(), idle)
    }

    /// The breaker of that key, which is made where there is none.
    pub fn breaker(&self, key: &K) -> Breaker {
        let breaker = self.0.breakers.get(key).unwrap_or_else(|| self.make(key));
        // Looking first, so that the line stays with every reader.
        let used = &breaker.loan().used;
        if !used.load(Relaxed) {
            used.store(true, Relaxed);
        }
        breaker
    }

    #[cold]
    fn make(&self, key: &K) -> Breaker {
        self.sweep();
        let mut made_with = None;
        let make = || {
            let settings = *made_with.insert(self.settings());
            Ok::<_, std::convert::Infallible>(Breaker::of_key(self.0.origin, settings, name_of(key)))
        };
        let Ok(breaker) = self.0.breakers.get_or_insert_with(key, make);
        if let Some(made_with) = made_with {
            self.0.settings.catch_up(made_with, |settings| breaker.configure(settings));
        }
        breaker
    }

    /// The breaker of that key, if there is one.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<Breaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.breakers.peek(key)
    }

    /// Every key that has a breaker, with it, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(K, Breaker)> {
        self.0.breakers.iter().collect()
    }

    /// How many keys have a breaker.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.breakers.len()
    }

    /// Whether no key has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.breakers.is_empty()
    }

    /// How many keys can have one at the same time.
    #[must_use]
    pub fn capacity(&self) -> usize {
        usize::try_from(self.0.breakers.capacity()).unwrap_or(usize::MAX)
    }

    /// The settings that all work by.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.0.settings.get()
    }

    /// Makes all of them work by other settings from now on: see [`Breaker::configure`].
    pub fn configure(&self, settings: Settings) {
        let configure =
            |settings| self.all().into_iter().for_each(|(_, breaker)| breaker.configure(settings));
        self.0.settings.set(settings, configure);
    }

    /// Forgets the keys that nobody asked for since the last time. Only when a key is new: then they matter.
    fn sweep(&self) {
        let Ok(mut swept) = self.0.swept.try_lock() else { return };
        let now = Instant::now();
        if now.saturating_duration_since(*swept) < self.0.idle {
            return;
        }
        *swept = now;
        // A key's own code runs next.
        drop(swept);
        self.0.breakers.retain(|_, breaker| breaker.loan().used.swap(false, Relaxed));
    }
}

/// The first 64 characters of what `Debug` says. It is not asked for more: a key may come from a client.
fn name_of(key: &impl fmt::Debug) -> String {
    struct First(String, usize);
    impl fmt::Write for First {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            s.chars().try_for_each(|c| {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(c);
                Ok(())
            })
        }
    }
    let mut first = First(String::new(), 64);
    let _an_error_where_there_is_more = write!(first, "{key:?}");
    first.0
}

/// `keys`, how many of their breakers are `closed`, `open` or `recovering` (any other state is one of these in effect),
/// and the rejections of all.
impl<K: Key> Observe for Breakers<K> {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "there are fewer keys than a float can count")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let states: Vec<State> = self.all().iter().map(|(_, breaker)| breaker.state()).collect();
        let count = |f: fn(&State) -> bool| states.iter().filter(|state| f(state)).count() as f64;
        visit(Metric::new("keys", Value::Gauge(states.len() as f64)));
        let open = |state: &State| matches!(state, State::Open | State::HalfOpen | State::ForcedOpen);
        let part = |state: &State| matches!(state, State::Recovering | State::Throttling);
        visit(Metric::new("breakers", Value::Gauge(count(open))).with_label("state", "open"));
        visit(Metric::new("breakers", Value::Gauge(count(part))).with_label("state", "recovering"));
        let closed = states.len() as f64 - count(open) - count(part);
        visit(Metric::new("breakers", Value::Gauge(closed)).with_label("state", "closed"));
        self.0.origin.observe_rejections(visit);
    }
}

/// Puts a breaker for each key before a service: made by [`Builder::keyed`](crate::Builder::keyed). All services that one
/// layer makes, and their clones, share the breakers.
#[derive(Debug, Clone)]
pub struct KeyedLayer<K: Key, F, C = ByError> {
    breakers: Breakers<K>,
    key: F,
    classify: C,
}

impl<K: Key, F, C> KeyedLayer<K, F, C> {
    pub(crate) const fn new(breakers: Breakers<K>, key: F, classify: C) -> Self {
        Self { breakers, key, classify }
    }

    /// How many keys can have a breaker at the same time; at least one, and a few more than asked for where processors are
    /// many. Default: 1,024. A handle that was taken before is of other breakers.
    #[must_use]
    pub fn capacity(self, most: usize) -> Self {
        Self { breakers: self.breakers.with_capacity(most), ..self }
    }

    /// A key that nobody asks for during so long is forgotten, at the latest after twice that, when a new one comes.
    /// Default: 10 minutes. A handle that was taken before is of other breakers.
    #[must_use]
    pub fn idle(self, idle: Duration) -> Self {
        Self { breakers: self.breakers.with_idle(idle), ..self }
    }

    /// The handle of all breakers.
    #[must_use]
    pub fn breakers(&self) -> Breakers<K> {
        self.breakers.clone()
    }
}

impl<S, K: Key, F: Clone, C: Clone> Layer<S> for KeyedLayer<K, F, C> {
    type Service = KeyedCircuitBreaker<S, K, F, C>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedCircuitBreaker {
            inner,
            breakers: self.breakers.clone(),
            key: self.key.clone(),
            classify: self.classify.clone(),
        }
    }
}

/// A service behind a breaker for each key: made by [`KeyedLayer`].
///
/// It is ready when the service inside is: before there is a request, nobody knows whose breaker decides. A request that is
/// refused never reaches the service inside.
#[derive(Debug, Clone)]
pub struct KeyedCircuitBreaker<S, K: Key, F, C = ByError> {
    inner: S,
    breakers: Breakers<K>,
    key: F,
    classify: C,
}

impl<S, K, F, C, Req> Service<Req> for KeyedCircuitBreaker<S, K, F, C>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    K: Key,
    F: Fn(&Req) -> K,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    /// An error of the service inside is told to no breaker: it has no key.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // Its handle lives until the call is admitted; from then on the admission is void should it be lent again.
        let breaker = self.breakers.breaker(&(self.key)(&request));
        match Admitted::admit(breaker.inner()) {
            Ok(admitted) => {
                ResponseFuture::running(self.inner.call(request), admitted, self.classify.clone())
            }
            Err(refusal) => ResponseFuture::refused(breaker.inner(), refusal),
        }
    }
}
