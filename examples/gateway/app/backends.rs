//! Connections to what is configured, or to what stands in for it.

use std::time::Duration;

use buttress_postgres::{Postgres, PostgresConfig, Query};
use buttress_redis::{Redis, RedisConfig};
use buttress_testkit::{PostgresServer, RedisServer};
use http::Uri;

use super::{Settings, StandIn};

pub(super) struct Backends {
    pub(super) postgres: Option<Postgres>,
    pub(super) redis: Option<Redis>,
    pub(super) upstream_url: String,
    pub(super) description: String,
    pub(super) servers: (Option<PostgresServer>, Option<RedisServer>, Option<StandIn>),
}

impl Backends {
    pub(super) async fn start(settings: Settings) -> Result<Self, String> {
        let (postgres_server, database_url, postgres) = match settings.database_url {
            Some(url) => (None, Some(url), "your Postgres"),
            None if settings.throw_away => match PostgresServer::try_start().await {
                Ok(server) => {
                    let url = server.url();
                    (Some(server), Some(url), "a throw-away Postgres")
                }
                Err(error) => {
                    tracing::warn!(%error, "no throw-away Postgres");
                    (None, None, "no database (set DATABASE_URL)")
                }
            },
            None => (None, None, "no database (set DATABASE_URL)"),
        };
        let (redis_server, redis_url, cache) = match settings.redis_url {
            Some(url) => (None, Some(url), "your Redis"),
            None if settings.throw_away => match RedisServer::try_start().await {
                Ok(server) => {
                    let url = server.url();
                    (Some(server), Some(url), "a throw-away Redis")
                }
                Err(error) => {
                    tracing::warn!(%error, "no throw-away Redis");
                    (None, None, "memory in place of Redis")
                }
            },
            None => (None, None, "memory in place of Redis"),
        };
        let (stand_in, upstream_url, upstream) = match settings.upstream_url {
            Some(url) => (None, url, "your upstream"),
            None => {
                let stand_in =
                    StandIn::start().await.map_err(|error| format!("the built-in upstream: {error}"))?;
                let url = stand_in.url();
                (Some(stand_in), url, "a built-in upstream")
            }
        };
        let upstream_url = checked_url(upstream_url)?;
        Ok(Self {
            postgres: match database_url {
                Some(url) => Some(connect_postgres(&url).await?),
                None => None,
            },
            redis: match redis_url {
                Some(url) => Some(connect_redis(&url).await?),
                None => None,
            },
            upstream_url,
            description: format!("{postgres}, {cache} and {upstream}"),
            servers: (postgres_server, redis_server, stand_in),
        })
    }
}

const SCHEMA: &str = "create table if not exists users (
    id bigint generated always as identity primary key,
    name text not null,
    email text not null unique
)";

async fn connect_postgres(url: &str) -> Result<Postgres, String> {
    let config = PostgresConfig::from_url(url)
        .map_err(|error| format!("DATABASE_URL: {error}"))?
        .with_name("users-db")
        .with_pool_size(8)
        .with_wait_timeout(Duration::from_millis(500))
        .with_create_timeout(Duration::from_secs(1));
    let postgres = Postgres::new(config).map_err(|error| format!("DATABASE_URL: {error}"))?;
    postgres.query(Query::new(SCHEMA)).await.map_err(|error| format!("DATABASE_URL: {error}"))?;
    Ok(postgres)
}

async fn connect_redis(url: &str) -> Result<Redis, String> {
    let config = RedisConfig::from_url(url)
        .map_err(|error| format!("REDIS_URL: {error}"))?
        .with_name("users-cache")
        // A cache that takes longer than the database is none.
        .with_command_timeout(Duration::from_millis(50))
        .with_connect_timeout(Duration::from_secs(2));
    Redis::connect(config).await.map_err(|error| format!("REDIS_URL: {error}"))
}

fn checked_url(url: String) -> Result<String, String> {
    let url = url.trim_end_matches('/').to_owned();
    match url.parse::<Uri>() {
        Ok(parsed) if parsed.scheme_str() == Some("http") && parsed.host().is_some() => Ok(url),
        _ => Err("UPSTREAM_URL: it must be like http://host:port/path (https needs a TLS feature of buttress-http)".into()),
    }
}
