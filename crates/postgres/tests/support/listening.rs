//! A cache that listens, and somebody else who writes.

use std::time::Duration;

use buttress_postgres::{
    CachedQueries, Postgres, PostgresConfig, Query, QueryCache, Table, tokio_postgres::Client,
};
use buttress_testkit::TestDatabase;
use tokio::time::{Instant, sleep, timeout};
use tower::Layer;

use super::{figure, postgres, spy};

pub(crate) const LISTENER: &str = "application_name = 'listener'";

pub(crate) fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap().with_application_name("listener")
}

/// A cache before a database with a table `users`, and another connection.
pub(crate) async fn begin(test: &TestDatabase) -> (CachedQueries<Postgres>, Client) {
    let spy = spy(test.config()).await;
    spy.batch_execute(
        "create sequence runs; create table users (id bigint primary key, name text); create table marker ()",
    )
    .await
    .unwrap();
    (QueryCache::new("users").layer(postgres(&test.url(), 4)), spy)
}

pub(crate) async fn listening(test: &TestDatabase) -> (CachedQueries<Postgres>, Client) {
    let (cached, spy) = begin(test).await;
    cached.cache().listen(&config(&test.url()), ["users", "marker"]).await.unwrap();
    (cached, spy)
}

/// The number of the run that answered.
pub(crate) async fn run(cached: &CachedQueries<Postgres>, table: impl Into<Table>) -> i64 {
    let query = Query::new("select nextval('runs')").cached([table.into()]);
    cached.query(query).await.unwrap().one().unwrap().get(0).unwrap()
}

/// Waits until the answer is another, and says how long that took.
pub(crate) async fn until_changed(
    cached: &CachedQueries<Postgres>,
    table: impl Into<Table>,
    before: i64,
) -> Duration {
    let (start, table) = (Instant::now(), table.into());
    while run(cached, table.clone()).await == before {
        assert!(start.elapsed() < Duration::from_secs(5), "nothing was heard");
        sleep(Duration::from_micros(100)).await;
    }
    start.elapsed()
}

/// For what must not be heard: what is told after it is heard after it.
pub(crate) async fn still(cached: &CachedQueries<Postgres>, spy: &Client, before: i64) {
    let marker = run(cached, "marker").await;
    spy.batch_execute("notify buttress_cache, 'public.marker'").await.unwrap();
    until_changed(cached, "marker", marker).await;
    assert_eq!(run(cached, "users").await, before);
}

pub(crate) async fn until_figure(cache: &QueryCache, name: &str, least: f64) {
    let wait = async {
        while figure(cache, name) < least {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("{name}: {}", figure(cache, name)));
}

pub(crate) async fn until_listening(cache: &QueryCache, expected: bool) -> Duration {
    let start = Instant::now();
    while cache.is_listening() != expected {
        assert!(start.elapsed() < Duration::from_secs(15), "not within {:?}", start.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

/// Until the connection is noticed to be gone, be it that there is another already.
pub(crate) async fn until_lost(cache: &QueryCache) {
    let wait = async {
        while cache.is_listening() && figure(cache, "reconnects") == 0.0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("it is noticed");
}
