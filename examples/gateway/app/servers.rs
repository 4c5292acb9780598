//! What stands in for what is not configured.

use buttress::Config;
use buttress_testkit::{PostgresServer, RedisServer};

use super::{
    StandIn,
    settings::{PROFILES, database, profiles, redis},
};

/// Gone when dropped, in this order.
#[derive(Default)]
pub(super) struct Servers {
    postgres: Option<PostgresServer>,
    redis: Option<RedisServer>,
    upstream: Option<StandIn>,
}

impl Servers {
    /// One for each table that is missing.
    pub(super) async fn start(config: &Config, throw_away: bool) -> Result<Self, String> {
        let mut servers = Self::default();
        if throw_away && config.database.is_none() {
            let server = PostgresServer::try_start().await;
            servers.postgres =
                server.inspect_err(|error| tracing::warn!(%error, "no throw-away Postgres")).ok();
        }
        if throw_away && config.redis.is_none() {
            let server = RedisServer::try_start().await;
            servers.redis = server.inspect_err(|error| tracing::warn!(%error, "no throw-away Redis")).ok();
        }
        if !config.http.contains_key(PROFILES) {
            let server = StandIn::start().await;
            servers.upstream = Some(server.map_err(|error| format!("the built-in upstream: {error}"))?);
        }
        Ok(servers)
    }

    /// Adds their tables.
    pub(super) fn complete(&self, config: &mut Config) {
        if let Some(server) = &self.postgres {
            config.database.get_or_insert_with(|| database(&server.url()));
        }
        if let Some(server) = &self.redis {
            config.redis.get_or_insert_with(|| redis(&server.url()));
        }
        if let Some(server) = &self.upstream {
            config.http.entry(PROFILES.into()).or_insert_with(|| profiles(&server.url()));
        }
    }

    /// What the gateway runs on, in a few words.
    pub(super) fn describe(&self, config: &Config) -> String {
        let database = match (&self.postgres, &config.database) {
            (Some(_), _) => "a throw-away Postgres",
            (None, Some(_)) => "your Postgres",
            (None, None) => "no database (set DATABASE_URL)",
        };
        let cache = match (&self.redis, &config.redis) {
            (Some(_), _) => "a throw-away Redis",
            (None, Some(_)) => "your Redis",
            (None, None) => "memory in place of Redis",
        };
        let upstream = if self.upstream.is_some() { "a built-in upstream" } else { "your upstream" };
        format!("{database}, {cache} and {upstream}")
    }
}
