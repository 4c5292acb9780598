mod admission;
#[cfg(feature = "axum")]
mod answer;
mod cache;
mod database;
mod error;
mod explanation;
mod http;
mod inserts;
mod layers;
mod part;
mod redis;
mod reload;
mod repeat;
mod seen;
mod shutdown;
mod start;
mod work;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use buttress_health::Health;
use buttress_http::ApiClient;
use buttress_postgres::{
    FromRow, InsertBatch, Inserted, Query, Rows, SlowQuery, Transaction, TransactionOptions,
};
use buttress_telemetry::{PerformanceStats, Registry, SlowCall};

use self::{admission::Gate, http::Upstream, seen::Seen, work::Ended};
pub use self::{
    cache::Cache,
    database::{Database, QueryFuture},
    error::{Error, NotConfigured, ReloadError, StartError},
    http::{HttpService, RequestFuture},
    inserts::Inserter,
    redis::{CommandFuture, Redis},
    shutdown::ShutdownReport,
};
use crate::{Config, explain::Explanation};

/// Everything that a configuration names: clients behind their layers, a cache, health, figures. Clones are the same system.
///
/// See the [crate's documentation](crate).
#[derive(Clone)]
pub struct System(Arc<Inner>);

struct Inner {
    database: Option<Database>,
    redis: Option<Redis>,
    cache: Option<Cache>,
    /// By their names. Exchanged as a whole.
    http: Arc<ArcSwap<BTreeMap<String, Upstream>>>,
    gate: Gate,
    registry: Registry,
    health: Health,
    /// By which it works now. Held while it is exchanged, and never while something is waited for.
    config: Mutex<Config>,
    seen: Seen,
}

impl System {
    /// The database.
    ///
    /// # Errors
    /// [`Error::NotConfigured`].
    pub fn database(&self) -> Result<&Database, Error> {
        self.0.database.as_ref().ok_or_else(|| missing("database"))
    }

    /// Runs one statement, and repeats it where it failed and may be repeated.
    ///
    /// ```no_run
    /// # async fn f(system: buttress::System) -> Result<(), buttress::Error> {
    /// use buttress::postgres::Query;
    ///
    /// let query = Query::new("select name from users where id = :id").bind("id", 7_i64);
    /// let name: String = system.query(query).await?.one()?.get("name")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Rejected`] of a layer, [`Error::NotConfigured`].
    ///
    /// # Cancellation
    /// Dropped unfinished, the statement is cancelled on the server.
    pub async fn query(&self, query: Query) -> Result<Rows, Error> {
        Ok(self.database()?.query(query).await?)
    }

    /// The same, with each row read as a struct.
    ///
    /// # Errors
    /// As [`query`](Self::query), and where a row cannot be read as such.
    ///
    /// # Cancellation
    /// As [`query`](Self::query).
    pub async fn query_as<T: FromRow>(&self, query: Query) -> Result<Vec<T>, Error> {
        Ok(self.query(query).await?.read_all()?)
    }

    /// The one row of a query, read as a struct, where there is one.
    ///
    /// # Errors
    /// As [`query_as`](Self::query_as), and where there are several rows.
    ///
    /// # Cancellation
    /// As [`query`](Self::query).
    pub async fn query_opt_as<T: FromRow>(&self, query: Query) -> Result<Option<T>, Error> {
        let row = self.query(query).await?.optional()?;
        Ok(row.map(|row| row.read()).transpose()?)
    }

    /// The same as [`query`](Self::query); how many rows were written.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancellation
    /// As [`query`](Self::query).
    pub async fn execute(&self, query: Query) -> Result<u64, Error> {
        Ok(self.query(query).await?.affected())
    }

    /// Runs a closure in a transaction: see [`Database::transaction`].
    ///
    /// # Errors
    /// The closure's own, the database's, or a layer's.
    ///
    /// # Cancellation
    /// Dropped unfinished, or where the closure panics, nothing is committed, unless `COMMIT` had been sent.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        self.database()?.run(work).await.map_err(Ended::into_theirs::<Error>)
    }

    /// The same, run anew after a conflict: see [`Database::transaction_with`].
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction), of the last run.
    ///
    /// # Cancellation
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with<T, E, F>(&self, options: TransactionOptions, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E> + Clone,
        E: From<Error>,
    {
        self.database()?.run_with(options, work).await.map_err(Ended::into_theirs::<Error>)
    }

    /// Inserts many rows by one statement, and tells of each what became of it: see [`Database::batch_insert`].
    ///
    /// # Errors
    /// As [`query`](Self::query), for all rows together.
    ///
    /// # Cancellation
    /// As [`query`](Self::query).
    pub async fn batch_insert<T>(
        &self,
        insert: &InsertBatch<T>,
        rows: &[T],
    ) -> Result<Vec<Result<Inserted, buttress_postgres::Error>>, Error>
    where
        T: Send + Sync + 'static,
    {
        Ok(self.database()?.batch_insert(insert, rows).await?)
    }

    /// The client of an HTTP API: base URL, credentials, JSON. It is the one of the configuration now; after a
    /// [reload](Self::reload) that changes its URL or credentials, ask for it anew.
    ///
    /// # Errors
    /// [`Error::NotConfigured`].
    pub fn http(&self, name: &str) -> Result<ApiClient, Error> {
        self.upstream(name, |upstream| upstream.api.clone())
    }

    /// The same as a plain service, without base URL and credentials, to put layers of one's own around it.
    ///
    /// # Errors
    /// [`Error::NotConfigured`].
    pub fn http_service(&self, name: &str) -> Result<HttpService, Error> {
        self.upstream(name, |upstream| upstream.service.clone())
    }

    fn upstream<T>(&self, name: &str, take: impl FnOnce(&Upstream) -> T) -> Result<T, Error> {
        let http = self.0.http.load();
        http.get(name).map(take).ok_or_else(|| {
            let others = http.keys().cloned().collect();
            NotConfigured { table: format!("http.{name}"), others }.into()
        })
    }

    /// The cache.
    ///
    /// # Errors
    /// [`Error::NotConfigured`].
    pub fn cache(&self) -> Result<&Cache, Error> {
        self.0.cache.as_ref().ok_or_else(|| missing("cache"))
    }

    /// Redis.
    ///
    /// # Errors
    /// [`Error::NotConfigured`].
    pub fn redis(&self) -> Result<&Redis, Error> {
        self.0.redis.as_ref().ok_or_else(|| missing("redis"))
    }

    /// What the stacks and their layers have done since the start.
    #[must_use]
    pub fn stats(&self) -> PerformanceStats {
        self.0.registry.snapshot().performance_stats()
    }

    /// The statements that took long, the slowest first, at most `limit` of them; none without a database.
    #[must_use]
    pub fn slow_queries(&self, limit: usize) -> Vec<SlowQuery> {
        self.0.database.as_ref().map(|database| database.client().slow_queries(limit)).unwrap_or_default()
    }

    /// The calls that took long, of all parts, with what the layers decided about them: the slowest first, at most `limit`
    /// of them.
    #[must_use]
    pub fn slow_calls(&self, limit: usize) -> Vec<SlowCall> {
        self.0.registry.slow_calls(limit)
    }

    /// Whether it is live and ready, and each part's state. With the feature `dashboard`, `health().router()` answers an
    /// orchestrator's questions.
    ///
    /// The database is critical: without it the system is not ready. That Redis or an API is down is a warning. The database and
    /// Redis are asked through their breakers: a part whose circuit is open is down, and the question itself is what closes it
    /// again where nobody calls.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What the stacks do at worst, and where their settings contradict each other.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        explanation::of_system(&self.0)
    }

    /// Where all layers can be seen: for alerts, exporters, and layers of one's own.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Where the live page is; `None` where the configuration has none, and after the shutdown.
    #[cfg(feature = "dashboard")]
    #[must_use]
    pub fn dashboard(&self) -> Option<std::net::SocketAddr> {
        let page = self.0.seen.dashboard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        page.as_ref().map(buttress_telemetry::Serving::address)
    }

    /// What sends spans to the collector of `telemetry.otlp`, for the program's `tracing` subscriber; metrics are sent without
    /// it. `None` where the configuration has no collector, which is a layer too.
    ///
    /// ```no_run
    /// # fn f(system: &buttress::System) {
    /// use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
    ///
    /// tracing_subscriber::registry().with(system.tracing_layer()).init();
    /// # }
    /// ```
    #[cfg(feature = "otlp")]
    pub fn tracing_layer<S>(&self) -> Option<impl tracing_subscriber::Layer<S> + Send + Sync + use<S>>
    where
        S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
    {
        let telemetry = self.0.seen.telemetry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        telemetry.as_ref().map(buttress_telemetry::Telemetry::tracing_layer)
    }

    /// Works by another configuration from here on: thresholds, limits, URLs and credentials of HTTP APIs, APIs that are new or
    /// gone. Calls on their way go on as they began. Windows keep what they counted, breakers their state, pools their
    /// connections. A bulkhead whose queue is another one begins anew: until the calls in the old one have ended, both are inside.
    ///
    /// What cannot be changed while it runs is named by the error: where servers are, timeouts of connecting, whether a part
    /// is there at all. Then nothing is changed, and neither is where the configuration is wrong. It may be called again
    /// with another one at any time.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        reload::reload(&self.0, config)
    }

    /// Takes no new calls, lets those on their way end until `deadline` is up, closes the pools, and reports what it had to cut
    /// off. Calls that come from here on are refused as [`Closed`](buttress_core::Reason::Closed). All clones are closed.
    ///
    /// A program stops its own servers first: a request that was accepted may still need its calls. It takes a second longer
    /// than `deadline` at most, where the last figures go to a collector that does not answer.
    ///
    /// # Cancellation
    /// Dropped unfinished, it stays closed for new calls; what is on its way goes on. Calling it again goes on where it was.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        shutdown::shutdown(&self.0, deadline).await
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http = self.0.http.load();
        f.debug_struct("System")
            .field("database", &self.0.database)
            .field("redis", &self.0.redis)
            .field("cache", &self.0.cache)
            .field("http", &http.keys())
            .finish_non_exhaustive()
    }
}

fn missing(table: &str) -> Error {
    NotConfigured { table: table.to_owned(), others: Vec::new() }.into()
}
