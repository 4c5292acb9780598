//! What a real Postgres answers, as the conventions tell it.
#![cfg(feature = "postgres")]

use std::time::Duration;

use buttress_core::Deadline;
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, Rows};
use buttress_telemetry::{Describe, Piece, PostgresConvention, Registry, TelemetryLayer};
use buttress_testkit::{PostgresServer, TestDatabase};
use tower::{Layer, ServiceExt};

fn connect(url: &str) -> Postgres {
    let config = PostgresConfig::from_url(url).unwrap().with_pool_size(2);
    Postgres::new(config.with_connect_timeout(Duration::from_millis(500))).unwrap()
}

/// The operation, the status and the kind of error.
async fn told(db: &Postgres, query: &Query) -> (String, Option<String>, Option<String>) {
    let convention = PostgresConvention::new("shop");
    let operation = Describe::<Query, Rows, Error>::operation(&convention, query);
    let (_, Piece::Text(name)) = operation.attributes()[0] else { panic!("{operation:?}") };
    let result = db.query(query.clone()).await;
    let ended = <PostgresConvention as Describe<Query, Rows, Error>>::end(&result);
    let status = ended.status.map(|(key, piece)| {
        assert_eq!(key, "db.response.status_code");
        let Piece::Text(code) = piece else { panic!("{piece:?}") };
        code.to_owned()
    });
    assert!(!format!("{operation:?} {ended:?}").contains("hunter2"));
    (name.to_owned(), status, ended.error.map(str::to_owned))
}

#[tokio::test]
async fn every_ending_has_its_sqlstate_or_a_kind_of_its_own() {
    let test = TestDatabase::new().await;
    let db = connect(&test.url());
    for create in [
        "create table users (name text primary key)",
        "insert into users values ('hunter2')",
        "create function raises(state text) returns int language plpgsql as \
         $$ begin raise exception using errcode = state, message = 'hunter2'; end $$",
    ] {
        db.query(Query::new(create)).await.unwrap();
    }
    for (text, name, code) in [
        ("select name from users", "SELECT", None),
        ("/* hunter2 */ with a as (select 1) select 'hunter2' from a", "WITH", None),
        ("values ('hunter2')", "VALUES", None),
        ("insert into users values ('hunter2')", "INSERT", Some("23505")),
        ("select hunter2 from users", "SELECT", Some("42703")),
        ("selectt 'hunter2'", "_OTHER", Some("42601")),
        ("select raises('40001')", "SELECT", Some("40001")),
        ("select raises('ZZ9ZZ')", "SELECT", Some("ZZ9ZZ")),
    ] {
        let code = code.map(str::to_owned);
        let told = told(&db, &Query::new(text)).await;
        assert_eq!(told, (name.to_owned(), code.clone(), code), "{text}");
    }
    for text in ["select :name", "select 'hunter2"] {
        let invalid = told(&db, &Query::new(text)).await;
        assert_eq!(invalid, ("SELECT".into(), None, Some("invalid_query".into())), "{text}");
    }
    let late = Deadline::after(Duration::from_millis(50));
    let given_up = late.scope(told(&db, &Query::new("select pg_sleep(5)"))).await;
    assert_eq!(given_up, ("SELECT".into(), None, Some("deadline_exceeded".into())));
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_from_one_that_refuses() {
    let server = PostgresServer::start().await;
    let db = connect(&server.url());
    db.query(Query::new("select 1")).await.unwrap();
    let url = server.url();
    let wrong = connect(&format!("postgres://postgres@{}/nowhere", server.addr()));
    let (_, status, error) = told(&wrong, &Query::new("select 1")).await;
    assert_eq!((status.as_deref(), error.as_deref()), (Some("3D000"), Some("3D000")));
    server.kill().await;
    let (_, status, error) = told(&connect(&url), &Query::new("select 1")).await;
    assert_eq!((status, error.as_deref()), (None, Some("connect")));
}

#[tokio::test]
async fn a_pool_is_seen_with_its_use() {
    let test = TestDatabase::new().await;
    let (registry, db) = (Registry::new(), connect(&test.url()));
    registry.register(&db).unwrap();
    let held = tokio::spawn({
        let db = db.clone();
        async move { db.query(Query::new("select pg_sleep(0.5)")).await }
    });
    let mut pool = None;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        pool = registry.snapshot().performance_stats().layers.remove(0).pool;
        if pool.is_some_and(|pool| pool.open == 1 && pool.idle == Some(0)) {
            break;
        }
    }
    let pool = pool.unwrap();
    assert_eq!((pool.open, pool.idle, pool.max, pool.waiting), (1, Some(0), Some(2), 0));
    held.await.unwrap().unwrap();
    let stats = registry.snapshot().performance_stats().layers.remove(0);
    assert_eq!((stats.calls, stats.pool.unwrap().idle), (Some(1), Some(1)));
}

#[tokio::test]
async fn a_layer_counts_statements_by_their_keywords_and_shows_no_text() {
    let test = TestDatabase::new().await;
    let (registry, db) = (Registry::new(), connect(&test.url()));
    let convention = PostgresConvention::new("shop").server("db.internal", 6432);
    let named = convention.summary(|query| if query.text().contains("named") { "by name" } else { "" });
    let watch = TelemetryLayer::builder("orders-db", &registry).convention(named).build().unwrap();
    let db = watch.layer(db);
    let long = format!("select '{}'", "hunter2".repeat(100_000));
    for (text, succeeds) in [
        ("create table users (name text primary key)", true),
        ("insert into users values ('hunter2')", true),
        ("insert into users values ('hunter2')", false),
        ("select name from users", true),
        ("select name as named from users", true),
        ("/* hunter2 */ select name from users", true),
        (&*long.leak(), true),
        ("hunter2", false),
        ("select name from hunter2", false),
    ] {
        let answer = db.clone().oneshot(Query::new(text)).await;
        assert_eq!(answer.is_ok(), succeeds, "{:.50}", text);
    }
    let late = Deadline::after(Duration::from_millis(50));
    assert!(late.scope(db.clone().oneshot(Query::new("select pg_sleep(5)"))).await.is_err());

    let snapshot = registry.snapshot();
    let calls = snapshot.calls("orders-db").unwrap();
    let mut seen: Vec<_> =
        calls.operations.iter().map(|of| (&*of.operation, of.count(), of.success)).collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [("CREATE", 1, 1), ("INSERT", 2, 1), ("SELECT", 5, 3), ("_OTHER", 1, 0), ("by name", 1, 1)]
    );
    let mut errors: Vec<_> = calls.total.errors.iter().map(|error| (&*error.kind, error.count)).collect();
    errors.sort_unstable();
    assert_eq!(errors, [("23505", 1), ("42601", 1), ("42P01", 1), ("deadline_exceeded", 1)]);
    assert!(calls.total.latency.p50.unwrap() > 0.0);
    let shown =
        serde_json::to_string(&snapshot).unwrap() + &format!("{snapshot:?}{:?}", registry.slow_calls(9));
    assert!(!shown.contains("hunter2") && !shown.contains("users"));
    #[cfg(feature = "prometheus")]
    {
        let page = registry.prometheus();
        for of_a_series in [
            "db_client_operation_duration_seconds_count{",
            "db_system_name=\"postgresql\"",
            "db_namespace=\"shop\"",
            "db_operation_name=\"INSERT\"",
            "db_query_summary=\"by name\"",
            "db_response_status_code=\"23505\"",
            "error_type=\"deadline_exceeded\"",
            "server_address=\"db.internal\"",
            "server_port=\"6432\"",
        ] {
            assert!(page.contains(of_a_series), "{of_a_series}\n{page}");
        }
        assert!(!page.contains("hunter2") && !page.contains("users"));
    }
}
