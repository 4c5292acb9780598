//! Answers that are kept, in one process, over a real server.

#![cfg(feature = "cache")]

mod support;

use std::time::{Duration, SystemTime};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::BoxError;
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, QueryCache, QueryError, SqlStateClassifier};
use buttress_retry::RetryLayer;
use buttress_testkit::{PostgresServer, TestDatabase};
use buttress_timeout::TimeoutLayer;
use support::{
    SLEEPING,
    answers::{ask, cached, name, name_of, plain_with, rename, run, runs_of, table, until},
    figure, postgres, spy, until_backends,
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hit_asks_nothing_of_the_server() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let first = cached.query(name_of(7)).await.unwrap();
    let server = runs_of(&cached).await;
    for _ in 0..10 {
        let rows = cached.query(name_of(7)).await.unwrap();
        assert_eq!((rows.len(), rows.affected()), (1, 1));
        assert_eq!(run(rows.iter().next().unwrap()), run(first.iter().next().unwrap()));
    }
    assert_eq!(runs_of(&cached).await, server);
    assert_eq!((cached.cache().stats().hits, cached.cache().stats().loads), (10, 1));
    // As rows that came just now.
    let row = cached.query(name_of(7)).await.unwrap().optional().unwrap().unwrap();
    assert_eq!(row.get::<&str>("name").unwrap(), "user 7");
    let names: Vec<String> =
        cached.query(name_of(7)).await.unwrap().into_iter().map(|row| row.get("name").unwrap()).collect();
    assert_eq!(names, ["user 7"]);
    assert!(cached.query(name_of(7)).await.unwrap().one().is_ok());
    // Nothing is an answer too.
    assert!(cached.query(name_of(1_000)).await.unwrap().is_empty());
    assert!(cached.query(name_of(1_000)).await.unwrap().optional().unwrap().is_none());
    assert_eq!(cached.cache().stats().loads, 2);
}

#[tokio::test]
async fn other_values_types_and_texts_are_other_questions() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let typed = |sql: &'static str| Query::new(sql).cached(["users"]);
    let text = || typed("select nextval('runs') as run, :v::text");
    let number = || typed("select nextval('runs') as run, :v::int8");
    let array = || typed("select nextval('runs') as run, :v::int8[]");
    let questions: Vec<Box<dyn Fn() -> Query>> = vec![
        Box::new(move || text().bind("v", "1")),
        Box::new(move || text().bind("v", "2")),
        Box::new(move || text().bind("v", "")),
        Box::new(move || text().bind("v", None::<String>)),
        Box::new(move || number().bind("v", 1_i64)),
        Box::new(move || number().bind("v", Some(2_i64))),
        Box::new(move || number().bind("v", None::<i64>)),
        Box::new(move || array().bind("v", vec![1_i64, 2])),
        Box::new(move || array().bind("v", vec![1_i64])),
        Box::new(move || array().bind("v", Vec::<i64>::new())),
        Box::new(move || array().bind("v", vec![None::<i64>])),
        Box::new(move || {
            typed("select nextval('runs') as run, :v::timestamptz").bind("v", SystemTime::UNIX_EPOCH)
        }),
        Box::new(move || typed("select nextval('runs') as run")),
    ];
    let mut runs = Vec::new();
    for question in &questions {
        runs.push(ask(&cached, question()).await);
    }
    assert!(runs.is_sorted_by(|one, other| one < other), "{runs:?}");
    for (question, run) in questions.iter().zip(&runs) {
        assert_eq!(ask(&cached, question()).await, *run);
    }
    assert_eq!(cached.cache().stats().loads, questions.len() as u64);
}

#[tokio::test]
async fn what_is_not_marked_or_has_no_key_goes_past() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let plain = || Query::new("select nextval('runs') as run");
    assert_ne!(ask(&cached, plain()).await, ask(&cached, plain()).await);
    // Too long for a key.
    let long = || plain_with("select nextval('runs') as run, :v::text").bind("v", "a".repeat(70_000));
    assert_ne!(ask(&cached, long()).await, ask(&cached, long()).await);
    assert_eq!(cached.cache().stats().misses, 0);
    assert_eq!(cached.cache().stats().passed, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_who_ask_at_once_one_asks_the_server() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let slow = || plain_with("select nextval('runs') as run, pg_sleep(0.2)");
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut cached = cached.clone();
        callers.spawn(async move { run(&cached.call(slow()).await.unwrap().one().unwrap()) });
    }
    assert_eq!(callers.join_all().await, [1; 64]);
    assert_eq!(runs_of(&cached).await, 1);
    let stats = cached.cache().stats();
    assert_eq!((stats.loads, stats.misses, stats.coalesced), (1, 64, 63));
}

#[tokio::test]
async fn bad_use_is_told_before_anything_is_sent() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let db = postgres(&test.url(), 1);
    for (query, expected) in [
        (name_of(7).writes(["users"]), QueryError::CachedAndWrites),
        (rename(7, "x").cached(["users"]), QueryError::CachedAndWrites),
        (plain_with("update users set name = 'x'"), QueryError::CachedWriter),
        (plain_with("select * from users for update"), QueryError::CachedWriter),
        (
            plain_with("with gone as (delete from users returning 1) select * from gone"),
            QueryError::CachedWriter,
        ),
    ] {
        for result in [cached.query(query.clone()).await, db.query(query.clone()).await] {
            match result {
                Err(error @ Error::Query { .. }) => {
                    assert!(!error.sent());
                    let Error::Query { cause, .. } = error else { unreachable!() };
                    assert_eq!(cause, expected, "{query:?}");
                }
                other => panic!("{query:?}: {other:?}"),
            }
        }
    }
    assert_eq!((figure(&db, "queries"), figure(&db, "connections")), (0.0, 0.0));
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "user 7");
}

#[tokio::test]
async fn it_stands_before_the_layers_that_guard_the_database() {
    let server = PostgresServer::start().await;
    table(&server.url()).await;
    let cache = QueryCache::with("users", |cache| cache.ttl(MINUTE));
    let db = Postgres::new(PostgresConfig::from_url(&server.url()).unwrap()).unwrap();
    let mut stack = ServiceBuilder::new()
        .layer(cache.clone())
        .layer(
            RetryLayer::new("users")
                .classify(SqlStateClassifier)
                .requests(|query: &Query| query.is_repeatable().then(|| query.clone())),
        )
        .layer(CircuitBreakerLayer::builder("users").classify(SqlStateClassifier).build())
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .service(db);
    let first = stack.ready().await.unwrap().call(name_of(7)).await.unwrap();
    server.kill().await;
    // A hit needs no server.
    let hit = stack.ready().await.unwrap().call(name_of(7)).await.unwrap();
    assert_eq!(name(hit), name(first));
    assert!(stack.call(name_of(8)).await.is_err());
    // It did not come to the server, for all that is known of the last attempt: what is there is served as before.
    assert!(stack.call(rename(7, "x")).await.is_err());
    assert_eq!(name(stack.call(name_of(7)).await.unwrap()), "user 7");
}

#[tokio::test]
async fn what_is_past_its_time_is_served_when_the_server_is_gone_and_not_when_it_says_no() {
    let server = PostgresServer::start().await;
    let db = table(&server.url()).await;
    let cache =
        QueryCache::with("users", |cache| cache.ttl(Duration::from_millis(50)).stale_if_error(MINUTE));
    let cached = cache.layer(db);
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "user 7");
    cached.query(Query::new("alter table users rename to others")).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    // The caller's own mistake is his answer.
    assert!(matches!(cached.query(name_of(7)).await, Err(Error::Database { .. })));
    server.kill().await;
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "user 7");
    // In a box too.
    let boxed = cache.layer(
        Postgres::new(PostgresConfig::from_url(&server.url()).unwrap()).unwrap().map_err(BoxError::from),
    );
    assert_eq!(name(boxed.query(name_of(7)).await.unwrap()), "user 7");
    // Not so what a write may have made untrue.
    cache.invalidate(["users"]);
    assert!(cached.query(name_of(7)).await.is_err());
}

#[tokio::test]
async fn an_old_answer_is_served_while_it_is_loaded_anew_but_not_after_a_write() {
    let test = TestDatabase::new().await;
    let cache = QueryCache::with("users", |cache| {
        cache.ttl(Duration::from_millis(50)).stale_while_revalidate(MINUTE)
    });
    let cached = cache.layer(table(&test.url()).await);
    let first = ask(&cached, name_of(7)).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(ask(&cached, name_of(7)).await, first);
    until(async || cache.stats().loads == 2).await;
    assert_ne!(ask(&cached, name_of(7)).await, first);
    cached.query(rename(7, "Ada")).await.unwrap();
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "Ada");
}

#[tokio::test]
async fn the_memory_is_bounded_in_bytes_and_what_is_too_large_is_not_kept() {
    let test = TestDatabase::new().await;
    let most = 1_u64 << 20;
    let cache = QueryCache::with("users", |cache| cache.max_weight(most));
    let cached = cache.layer(table(&test.url()).await);
    let text = |bytes: i32| plain_with("select nextval('runs') as run, repeat('x', :n)").bind("n", bytes);
    for bytes in 0..300 {
        cached.query(text(10_000 + bytes)).await.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.weight <= most && stats.weight > most / 2, "{stats:?}");
    assert!(stats.evicted > 100, "{stats:?}");
    assert!(ask(&cached, text(2_000_000)).await != ask(&cached, text(2_000_000)).await);
    assert_eq!(ask(&cached, text(10)).await, ask(&cached, text(10)).await);
}

#[tokio::test]
async fn a_column_of_another_type_is_asked_for_with_it() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "user 7");
    let alter = "alter table users alter column id type text, alter column name type int using 8";
    cached.query(Query::new(alter).writes(["users"])).await.unwrap();
    let query = Query::new("select nextval('runs') as run, name from users where id = :id").bind("id", "7");
    let row = cached.query(query.cached(["users"])).await.unwrap().one().unwrap();
    assert_eq!(row.get::<i32>("name").unwrap(), 8);
}

#[tokio::test]
async fn what_is_kept_keeps_no_statement_prepared() {
    let test = TestDatabase::new().await;
    table(&test.url()).await;
    let cache = QueryCache::new("users");
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(1).with_statement_cache(8);
    let cached = cache.layer(Postgres::new(config).unwrap());
    for number in 0..100 {
        let query = Query::new(format!("select :n::int8 + {number} from users limit 3")).bind("n", 1_i64);
        let rows = cached.query(query.cached(["users"])).await.unwrap();
        assert_eq!(
            rows.into_iter().map(|row| row.get::<i64>(0).unwrap()).collect::<Vec<_>>(),
            [number + 1; 3]
        );
    }
    assert_eq!(cache.stats().entries, 100);
    let prepared = Query::new("select count(*) from pg_prepared_statements");
    let prepared: i64 = cached.query(prepared).await.unwrap().one().unwrap().get(0).unwrap();
    assert!(prepared <= 8, "{prepared}");
}

#[tokio::test]
async fn an_error_of_the_query_itself_is_each_caller_s_own() {
    let test = TestDatabase::new().await;
    let (cached, spy) = (cached(&test).await, spy(test.config()).await);
    let failing = || plain_with("select 1 / length(pg_sleep(0.3)::text)");
    let first = tokio::spawn(cached.clone().oneshot(failing()));
    until_backends(&spy, SLEEPING, 1).await;
    let second = cached.query(failing()).await.unwrap_err();
    assert!(matches!(first.await.unwrap(), Err(Error::Database { .. })));
    assert!(matches!(second, Error::Database { .. }), "{second}");
    assert_eq!(figure(cached.cache(), "failures"), 2.0);
}

#[tokio::test]
async fn nothing_shows_a_value() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let query = || plain_with("select :secret::text").bind("secret", "hunter2");
    let future = cached.clone().call(query());
    let shown = format!("{cached:?} {:?} {future:?} {:?}", cached.cache(), query());
    future.await.unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
}
