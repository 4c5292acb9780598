//! A table whose rows are asked for through a cache.

use std::{future::Future, time::Duration};

use buttress_postgres::{CachedQueries, Postgres, Query, QueryCache, Row, Rows};
use buttress_testkit::TestDatabase;
use tokio::time::{sleep, timeout};
use tower::Layer;

use super::postgres;

pub(crate) async fn table(url: &str) -> Postgres {
    let db = postgres(url, 8);
    for sql in [
        "create table users (id bigint primary key, name text)",
        "insert into users select n, 'user ' || n from generate_series(1, 100) n",
        "create sequence runs",
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
    db
}

pub(crate) async fn cached(test: &TestDatabase) -> CachedQueries<Postgres> {
    QueryCache::new("users").layer(table(&test.url()).await)
}

/// Answers with the number of the run that it is.
pub(crate) fn name_of(id: i64) -> Query {
    Query::new("select nextval('runs') as run, name from users where id = :id")
        .bind("id", id)
        .cached(["users"])
}

pub(crate) fn rename(id: i64, name: &'static str) -> Query {
    Query::new("update users set name = :name where id = :id")
        .bind("id", id)
        .bind("name", name)
        .writes(["users"])
}

pub(crate) fn name(rows: Rows) -> String {
    rows.one().unwrap().get("name").unwrap()
}

pub(crate) fn run(row: &Row) -> i64 {
    row.get("run").unwrap()
}

pub(crate) async fn ask(cached: &CachedQueries<Postgres>, query: Query) -> i64 {
    run(&cached.query(query).await.unwrap().one().unwrap())
}

pub(crate) fn plain_with(sql: &'static str) -> Query {
    Query::new(sql).cached(["users"])
}

pub(crate) async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let wait = async {
        while !condition().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(5), wait).await.expect("it comes soon");
}

/// How many runs there were.
pub(crate) async fn runs_of(cached: &CachedQueries<Postgres>) -> i64 {
    cached.query(Query::new("select last_value from runs")).await.unwrap().one().unwrap().get(0).unwrap()
}
