mod future;
mod judge;
mod key;
mod listener;
mod service;
mod triggers;
mod uses;
mod versions;
mod writing;

pub use self::{future::QueryCacheFuture, key::QueryKey, service::CachedQueries};

pub(crate) use self::uses::Uses;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_cache::{Cache, CacheBuilder, Stats};
use buttress_core::{Metric, Observe, Origin, Setting, UnknownAction, Value, WeakObserve};
use futures_util::FutureExt;
use tokio::time::Instant;

use self::{
    judge::End,
    listener::{Listener, listen},
    versions::Versions,
    writing::Writing,
};
use crate::{Error, PostgresConfig, Rows, Table};

/// Answers of queries in memory, and the handle to them: clones share it. As a [`Layer`](tower_layer::Layer) it stands before
/// a [`Postgres`](crate::Postgres), or before the layers that do.
///
/// One is for one database, and for one user of it: neither is in the key. See the [crate's documentation](crate).
#[derive(Clone)]
pub struct QueryCache {
    answers: Cache<QueryKey, Rows>,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    origin: Origin,
    versions: Versions,
    listener: Mutex<Option<Listener>>,
    notifications: AtomicU64,
    ignored: AtomicU64,
    reconnects: AtomicU64,
}

/// What all answers may weigh together by default: 64 MiB.
const MOST_BYTES: u64 = 64 << 20;
/// What an answer takes beside its key and its rows.
const OVERHEAD: u64 = 256;

impl QueryCache {
    /// A cache with the default of every knob: 60 s, 64 MiB, nothing stale. The name stands in errors and metrics.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with(name, |cache| cache)
    }

    /// A cache with knobs of your own: those of [`CacheBuilder`], whose weights are bytes here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress_postgres::QueryCache;
    ///
    /// let cache = QueryCache::with("users", |cache| cache.ttl(Duration::from_secs(600)).max_weight(256 << 20));
    /// ```
    ///
    /// Tags and a store have no use: what tables an answer depends on is part of its key, as this process counts their
    /// changes.
    #[must_use]
    pub fn with(
        name: &str,
        knobs: impl FnOnce(CacheBuilder<QueryKey, Rows>) -> CacheBuilder<QueryKey, Rows>,
    ) -> Self {
        let weigh = |key: &QueryKey, rows: &Rows| OVERHEAD + key.len() as u64 + rows.weight();
        let answers = knobs(Cache::builder(name).max_weight(MOST_BYTES).weigher(weigh)).build();
        let shared = Shared {
            origin: answers.origin(),
            versions: Versions::new(Instant::now()),
            listener: Mutex::default(),
            notifications: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        };
        Self { answers, shared: Arc::new(shared) }
    }

    /// Forgets what depends on these tables, and does not keep what is being loaded.
    pub fn invalidate<T: Into<Table>>(&self, tables: impl IntoIterator<Item = T>) {
        self.shared.versions.changed(&collect(tables));
    }

    /// Forgets everything, and does not keep what is being loaded.
    pub fn clear(&self) {
        self.shared.versions.all_changed();
        // Gives the memory back. Without a store there is nothing to wait for.
        let _ = self.answers.clear().now_or_never();
    }

    /// Runs something that changes these tables, such as a [transaction](crate::Postgres::transaction), and forgets what
    /// depends on them when it is done: as [`Query::writes`](crate::Query::writes) does for a query.
    ///
    /// ```no_run
    /// # use buttress_postgres::{Error, Postgres, Query, QueryCache};
    /// # async fn f(db: Postgres, cache: QueryCache) -> Result<(), Error> {
    /// let placed = db.transaction(async |tx| {
    ///     tx.query(Query::new("update stock set left = left - 1")).await?;
    ///     tx.query(Query::new("insert into orders default values")).await
    /// });
    /// cache.writing(["stock", "orders"], placed).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `work`.
    ///
    /// # Cancellation
    /// Dropped unfinished, or if it panics, it counts as a write whose end is not known, as does an error that tells nothing.
    pub async fn writing<R, E: 'static, T: Into<Table>>(
        &self,
        tables: impl IntoIterator<Item = T>,
        work: impl Future<Output = Result<R, E>>,
    ) -> Result<R, E> {
        let mut writing = Writing::new(self.clone(), collect(tables).into());
        writing.begin();
        let result = work.await;
        writing.end(End::of(&result));
        result
    }

    /// Hears from now on of every change of these tables that is committed, by whomever: on a connection of its own, by
    /// `LISTEN`. Installs the triggers that tell, where they are not there yet. Called again, it hears of these tables too, on
    /// the connection that is configured now.
    ///
    /// It goes on by itself until the last handle to the cache is dropped: a connection that is lost is made again. What happens
    /// meanwhile tells the [crate's documentation](crate).
    ///
    /// # Errors
    /// If no connection can be made, there is no such table, or a trigger is missing and cannot be installed: for want of
    /// rights, or because the table is locked for more than 2 s.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancellation
    /// Dropped unfinished, nothing has changed, but that triggers may be there.
    pub async fn listen<T: Into<Table>>(
        &self,
        config: &PostgresConfig,
        tables: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        listen(config, &self.shared, &collect(tables)).await
    }

    /// Whether it hears of changes at this moment. For health checks: `false` also where [`listen`](Self::listen) was never
    /// called.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.shared.versions.is_heard()
    }

    /// Removes the triggers of these tables, where they are. The function and its schema stay.
    ///
    /// # Errors
    /// If no connection can be made, the rights are missing, or a table is locked for more than 2 s. Then some may be gone.
    pub async fn remove_triggers<T: Into<Table>>(
        config: &PostgresConfig,
        tables: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        listener::remove(config, &collect(tables)).await
    }

    /// The figures since it was built. What was forgotten because of its tables counts among the entries until room is needed.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.answers.stats();
        stats.invalidations = self.shared.versions.changes();
        stats
    }
}

fn collect<T: Into<Table>>(tables: impl IntoIterator<Item = T>) -> Vec<Table> {
    tables.into_iter().map(Into::into).collect()
}

/// What the [cache](Cache) observes; and `listening`, a gauge of 0 or 1, `notifications`, `notifications_ignored` (of tables
/// that nobody listens to) and `reconnects`.
impl Observe for QueryCache {
    fn origin(&self) -> Origin {
        self.shared.origin
    }

    fn downgrade(&self) -> WeakObserve {
        let (answers, shared) = (self.answers.downgrade(), Arc::downgrade(&self.shared));
        WeakObserve::new(&self.shared, move || {
            Some(Box::new(Upgraded { answers: answers.upgrade()?, shared: shared.upgrade()? }))
        })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        observe(&self.answers, &self.shared, visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.answers.settings(visit);
    }

    /// `clear`.
    fn actions(&self) -> &'static [&'static str] {
        ACTIONS
    }

    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        act(&self.answers, &self.shared, action)
    }
}

/// What is left of a [`QueryCache`] where only the figures are wanted.
struct Upgraded {
    answers: Box<dyn Observe>,
    shared: Arc<Shared>,
}

impl Observe for Upgraded {
    fn origin(&self) -> Origin {
        self.shared.origin
    }

    fn downgrade(&self) -> WeakObserve {
        let (answers, shared) = (self.answers.downgrade(), Arc::downgrade(&self.shared));
        WeakObserve::new(&self.shared, move || {
            Some(Box::new(Self { answers: answers.upgrade()?, shared: shared.upgrade()? }))
        })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        observe(&*self.answers, &self.shared, visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.answers.settings(visit);
    }

    fn actions(&self) -> &'static [&'static str] {
        ACTIONS
    }

    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        act(&*self.answers, &self.shared, action)
    }
}

const ACTIONS: &[&str] = &["clear"];

fn act(answers: &dyn Observe, shared: &Shared, action: &str) -> Result<(), UnknownAction> {
    if !ACTIONS.contains(&action) {
        return Err(UnknownAction);
    }
    shared.versions.all_changed();
    // Gives the memory back.
    answers.actions().iter().try_for_each(|action| answers.act(action))
}

fn observe(answers: &dyn Observe, shared: &Shared, visit: &mut dyn FnMut(Metric)) {
    answers.observe(&mut |metric| match metric.name {
        // What makes another key is none to the cache inside.
        "invalidations" => visit(Metric::new("invalidations", Value::Counter(shared.versions.changes()))),
        _ => visit(metric),
    });
    visit(Metric::new("listening", Value::Gauge(f64::from(u8::from(shared.versions.is_heard())))));
    for (name, counter) in [
        ("notifications", &shared.notifications),
        ("notifications_ignored", &shared.ignored),
        ("reconnects", &shared.reconnects),
    ] {
        visit(Metric::new(name, Value::Counter(counter.load(Relaxed))));
    }
}

impl fmt::Debug for QueryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryCache")
            .field("name", &self.shared.origin.name())
            .field("is_listening", &self.is_listening())
            .finish_non_exhaustive()
    }
}
