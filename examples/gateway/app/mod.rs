//! The application: what it is made of, and how it starts and ends.

mod backends;
mod cache;
mod problem;
mod routes;
mod settings;
mod stacks;
mod stand_in;

use axum::Router;
use buttress_circuit_breaker::Breaker;
use buttress_http::HttpClient;
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
        let backends = Backends::start(settings).await?;
        let mut breakers = Vec::new();
        let database = backends.postgres.map(|postgres| {
            let (reads, writes, breaker) = stacks::database(postgres);
            breakers.push(breaker);
            Database { reads, writes }
        });
        let cache = match &backends.redis {
            Some(redis) => {
                let (stack, breaker) = stacks::redis(redis.clone());
                breakers.push(breaker);
                Cache::Redis(stack)
            }
            None => Cache::memory(),
        };
        let client = HttpClient::builder().name("profiles").build().map_err(|error| error.to_string())?;
        let (upstream, breaker) = stacks::upstream(client);
        breakers.push(breaker);
        let state = State { database, cache, upstream, upstream_url: backends.upstream_url, breakers };
        Ok(Self {
            state,
            description: backends.description,
            redis: backends.redis,
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

    /// Lets what is on its way finish and closes the connections.
    pub(crate) async fn close(self) {
        if let Some(redis) = self.redis {
            redis.close().await;
        }
    }
}
