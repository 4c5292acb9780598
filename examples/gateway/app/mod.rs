//! The application: what it is made of, and how it starts and ends.

mod backends;
mod cache;
mod problem;
mod routes;
mod settings;
mod stacks;
mod stand_in;

use std::net::SocketAddr;

use axum::Router;
use buttress_circuit_breaker::Breaker;
use buttress_http::HttpClient;
use buttress_telemetry::{Alerts, Dashboard, Registry, Serving, default_rules};
use buttress_testkit::{PostgresServer, RedisServer};

pub(crate) use self::settings::Settings;
use self::{
    backends::Backends,
    cache::Cache,
    stacks::{Reads, Upstream, Writes},
    stand_in::StandIn,
};

/// A running application, without its listener.
pub(crate) struct App {
    state: State,
    description: String,
    redis: Option<buttress_redis::Redis>,
    registry: Registry,
    dashboard: Option<Serving>,
    /// Gone with the application. The order is that of dropping.
    _servers: (Option<PostgresServer>, Option<RedisServer>, Option<StandIn>),
}

/// What the routes use.
#[derive(Clone)]
pub(crate) struct State {
    /// None where no database is configured.
    database: Option<Database>,
    cache: Cache,
    upstream: Upstream,
    upstream_url: String,
    breakers: Vec<Breaker>,
}

#[derive(Clone)]
struct Database {
    reads: Reads,
    writes: Writes,
}

impl App {
    /// Connects to every backend.
    ///
    /// # Errors
    /// One line that says what is wrong with the configuration.
    pub(crate) async fn start(settings: Settings) -> Result<Self, String> {
        let address = settings.dashboard;
        let backends = Backends::start(settings).await?;
        let registry = Registry::new();
        let mut breakers = Vec::new();
        let database = match backends.postgres {
            Some(postgres) => {
                let (reads, writes, breaker) =
                    stacks::database(postgres, &registry).map_err(|error| error.to_string())?;
                breakers.push(breaker);
                Some(Database { reads, writes })
            }
            None => None,
        };
        let cache = match &backends.redis {
            Some(redis) => {
                let (stack, breaker) =
                    stacks::redis(redis.clone(), &registry).map_err(|error| error.to_string())?;
                breakers.push(breaker);
                Cache::Redis(stack)
            }
            None => Cache::memory(),
        };
        let client = HttpClient::builder().name("profiles").build().map_err(|error| error.to_string())?;
        let (upstream, breaker) = stacks::upstream(client, &registry).map_err(|error| error.to_string())?;
        breakers.push(breaker);
        let dashboard = match address {
            Some(address) => Some(serve(&registry, address).await?),
            None => None,
        };
        let state = State { database, cache, upstream, upstream_url: backends.upstream_url, breakers };
        Ok(Self {
            state,
            description: backends.description,
            redis: backends.redis,
            registry,
            dashboard,
            _servers: backends.servers,
        })
    }

    /// What it runs on, in a few words.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Its routes.
    pub(crate) fn router(&self) -> Router {
        routes::router(self.state.clone())
    }

    /// Where the live page is, if there is one.
    pub(crate) fn dashboard(&self) -> Option<SocketAddr> {
        self.dashboard.as_ref().map(Serving::address)
    }

    /// Where its layers can be seen.
    #[allow(dead_code, reason = "a test that includes this module looks at them in its own way")]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Lets what is on its way finish and closes the connections.
    pub(crate) async fn close(self) {
        if let Some(redis) = self.redis {
            redis.close().await;
        }
    }
}

/// Read-only, and for this machine alone if the address is a loopback one.
async fn serve(registry: &Registry, address: SocketAddr) -> Result<Serving, String> {
    let alerts = Alerts::builder(registry).rules(default_rules(registry)).build();
    let alerts = alerts.map_err(|error| error.to_string())?;
    let dashboard = Dashboard::builder(registry).alerts(&alerts).address(address).build();
    let dashboard = dashboard.map_err(|error| error.to_string())?;
    dashboard.serve().await.map_err(|error| format!("GATEWAY_DASHBOARD: {error}"))
}
