//! What the tests share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[cfg(feature = "cache")]
pub(crate) mod answers;
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(crate) mod certificates;
#[cfg(feature = "cache")]
pub(crate) mod listening;

pub(crate) mod notify;

use std::time::Duration;

use buttress_core::{Metric, Observe, Value};
use buttress_postgres::{
    Postgres, PostgresConfig, Query,
    tokio_postgres::{Client, Config, NoTls},
};
use tokio::time::{Instant, sleep};

pub(crate) fn postgres(url: &str, pool_size: usize) -> Postgres {
    Postgres::new(PostgresConfig::from_url(url).unwrap().with_pool_size(pool_size)).unwrap()
}

/// A connection of the test's own, which sees what the pool's connections do.
pub(crate) async fn spy(config: Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) async fn backend(db: &Postgres) -> i32 {
    db.query(Query::new("select pg_backend_pid()")).await.unwrap().one().unwrap().get(0).unwrap()
}

/// How many other backends of this database are in one of the states, or all of them.
pub(crate) async fn backends(spy: &Client, condition: &str) -> i64 {
    let sql = format!(
        "select count(*) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid() and {condition}"
    );
    spy.query_one(&sql, &[]).await.unwrap().get(0)
}

/// Waits until so many backends match, and says how long that took.
pub(crate) async fn until_backends(spy: &Client, condition: &str, expected: i64) -> Duration {
    let start = Instant::now();
    loop {
        let count = backends(spy, condition).await;
        if count == expected {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{count} instead of {expected} backends: {condition}"
        );
        sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) const SLEEPING: &str = "state = 'active' and query like '%pg_sleep%'";
pub(crate) const IN_TRANSACTION: &str = "state like 'idle in transaction%'";

pub(crate) fn figure(of: &impl Observe, name: &str) -> f64 {
    let mut found = None;
    of.observe(&mut |Metric { name: metric, value, .. }| {
        if metric == name {
            found = Some(match value {
                Value::Counter(count) => count as f64,
                Value::Gauge(gauge) => gauge,
                other => panic!("{other:?}"),
            });
        }
    });
    found.unwrap_or_else(|| panic!("no figure `{name}`"))
}
