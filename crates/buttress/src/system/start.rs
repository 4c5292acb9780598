use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use buttress_health::{Health, Part, Status};
use buttress_postgres::Query;
use buttress_telemetry::Registry;

use super::{
    Cache, Database, HttpService, Inner, Redis, StartError, System, admission::Gate, explanation,
    http::Upstream, seen::Seen,
};
use crate::{Config, config};

impl System {
    /// Starts all that the configuration names. It connects to the database and to Redis, so that a wrong address or password is
    /// known now; HTTP APIs are not called. Where the numbers of the configuration contradict each other
    /// ([`explain`](Self::explain)), it logs that and starts.
    ///
    /// ```no_run
    /// # async fn f() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// use buttress::{Config, System, config};
    ///
    /// let mut config = Config::default();
    /// let mut database = config::Database::new("postgres://app@localhost/shop");
    /// database.pool_size = 5;
    /// config.database = Some(database);
    /// let system = System::start(config).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where the configuration is wrong, nothing is started. Where a server cannot be reached, what was started before is ended
    /// again.
    ///
    /// # Cancellation
    /// Dropped unfinished, nothing of it is left.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer and I/O.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let registry = Registry::new();
        let gate = Gate::new(&config.name);
        let mut http = BTreeMap::new();
        for (name, upstream) in &config.http {
            http.insert(name.clone(), of_http(name, &config, upstream, &registry, &gate)?);
        }
        let database = match &config.database {
            Some(database) => {
                let database = Database::new(&config, database, &registry, &gate)?;
                // Past the layers: what fails here is no call.
                let answer = database.client().query(Query::new("select 1")).await;
                answer.map_err(|error| StartError::part("database", error))?;
                Some(database)
            }
            None => None,
        };
        let redis = match &config.redis {
            Some(redis) => Some(Redis::connect(&config, redis, &registry, &gate).await?),
            None => None,
        };
        let cache = match &config.cache {
            Some(cache) => Some(Cache::connect(&config, cache, &registry, &gate).await?),
            None => None,
        };
        let http = Arc::new(ArcSwap::from_pointee(http));
        let health = health(&config, database.as_ref(), redis.as_ref(), &http)?;
        let seen = Seen::start(&config, &registry).await?;
        let config = Mutex::new(config);
        let inner = Inner { database, redis, cache, http, gate, registry, health, config, seen };
        explanation::log(&inner);
        Ok(Self(Arc::new(inner)))
    }
}

pub(super) fn of_http(
    name: &str,
    config: &Config,
    http: &config::Http,
    registry: &Registry,
    gate: &Gate,
) -> Result<Upstream, StartError> {
    let service = HttpService::new(name, config, http, registry, gate)?;
    service.upstream(name, http).map_err(|wrong| StartError::wrong(&format!("http.{name}"), &wrong))
}

fn health(
    config: &Config,
    database: Option<&Database>,
    redis: Option<&Redis>,
    http: &Arc<ArcSwap<BTreeMap<String, Upstream>>>,
) -> Result<Health, StartError> {
    let interval = config.health.interval;
    let mut health = Health::builder().name(&config.name);
    if let Some(database) = database {
        health = health.part(Part::new("database", database.probe()).interval(interval).critical());
    }
    if let Some(redis) = redis {
        health = health.part(Part::new("redis", redis.probe()).interval(interval));
    }
    // One part for all, since a reload may bring others. Nobody knows what of an API could be asked: its breaker does.
    let upstreams = Arc::downgrade(http);
    let open = move || {
        let Some(upstreams) = upstreams.upgrade() else { return Status::Well };
        let open: Vec<String> = upstreams
            .load()
            .iter()
            .filter(|(_, upstream)| upstream.service.is_open())
            .map(|(name, _)| name.clone())
            .collect();
        if open.is_empty() {
            return Status::Well;
        }
        Status::degraded(format_args!("the circuit is open: {}", open.join(", ")))
    };
    health = health.part(Part::passive_only("http", open).interval(interval));
    health.start().map_err(|error| StartError::part("health", error))
}
