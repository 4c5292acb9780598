//! What statements cost, on a real server.

mod support;

use std::{cmp::Reverse, time::Duration};

use buttress_core::Deadline;
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, StatementStats};
use buttress_testkit::TestDatabase;
use support::{figure, postgres, spy, until_backends};
use tokio::time::{Instant, sleep, timeout};

const LOCKED: &str = "wait_event_type = 'Lock'";

fn of(db: &Postgres, text: &str) -> StatementStats {
    let all = db.statements(usize::MAX);
    all.iter().find(|stats| stats.text() == text).unwrap_or_else(|| panic!("no `{text}` in {all:?}")).clone()
}

fn count(db: &Postgres) -> u64 {
    db.statements(usize::MAX).iter().map(StatementStats::count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_right_under_concurrency() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 4);
    let tasks: Vec<_> = (0..8_i64)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for call in 0..50 {
                    let rows = Query::new("select generate_series(1, :most)").bind("most", 3_i32);
                    db.query(rows).await.unwrap();
                    // One text for each, and one for all when it is normalised.
                    db.query(Query::new(format!("select 'secret', {}", task * 50 + call))).await.unwrap();
                    if call % 10 == 0 {
                        db.query(Query::new("select 1 / (:n - :n)").bind("n", 5_i32)).await.unwrap_err();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }

    let series = of(&db, "select generate_series(?, :most)");
    assert_eq!((series.count(), series.errors(), series.rows()), (400, 0, 1_200));
    let literals = of(&db, "select ?, ?");
    assert_eq!((literals.count(), literals.errors(), literals.rows()), (400, 0, 400));
    let failing = of(&db, "select ? / (:n - :n)");
    assert_eq!((failing.count(), failing.errors(), failing.rows()), (40, 40, 0));
    assert_eq!(db.statements(usize::MAX).len(), 3);
    assert!(!format!("{:?}", db.statements(9)).contains("secret"));
    for stats in db.statements(9) {
        assert!(
            stats.total() >= stats.max() && stats.max() >= stats.p99() && stats.p50() <= stats.p95(),
            "{stats:?}"
        );
        assert!(stats.p50() > Duration::from_micros(10), "{stats:?}");
    }
    // The one that takes the most time comes first.
    assert!(db.statements(9).is_sorted_by_key(|stats| Reverse(stats.total())));
    assert_eq!(db.statements(2), db.statements(9)[..2]);
}

#[tokio::test]
async fn quantiles_are_those_of_the_sorted_durations() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("select 1")).await.unwrap();
    let mut took = Vec::new();
    for call in 0..100_u32 {
        // 60 take 5 ms, 30 take 20 ms, eight 50 ms, two 150 ms.
        let seconds = match call % 50 {
            0..30 => 0.005,
            30..45 => 0.02,
            45..49 => 0.05,
            _ => 0.15,
        };
        let start = Instant::now();
        db.query(Query::new("select pg_sleep(:seconds)").bind("seconds", seconds)).await.unwrap();
        took.push(start.elapsed());
    }
    took.sort();
    let told = of(&db, "select pg_sleep(:seconds)");
    for (part, told) in [(50, told.p50()), (95, told.p95()), (99, told.p99())] {
        let exact = took[part - 1];
        // What is measured here has the pool in it.
        let off = told.abs_diff(exact);
        assert!(off <= exact / 11 + Duration::from_millis(3), "p{part}: {told:?} for {exact:?}");
    }
    assert!(told.max() <= took[99] && told.max() >= Duration::from_millis(150));
    let total: Duration = took.iter().sum();
    assert!(told.total() <= total && told.total() > total.mul_f64(0.9), "{:?} of {total:?}", told.total());
    assert_eq!(told.mean(), told.total() / 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_texts_is_bounded_and_the_hot_one_keeps_its_figures() {
    let test = TestDatabase::new().await;
    let db = Postgres::new(PostgresConfig::from_url(&test.url()).unwrap().with_statement_cache(8)).unwrap();
    for _ in 0..100 {
        db.query(Query::new("select :hot::int").bind("hot", 1_i32)).await.unwrap();
    }
    let flood: Vec<_> = (0..4)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for n in 0..2_500 {
                    db.query(Query::new(format!("select 1 as a{task}_{n}"))).await.unwrap();
                }
            })
        })
        .collect();
    for task in flood {
        task.await.unwrap();
    }
    let all = db.statements(usize::MAX);
    assert_eq!(all.len(), 513);
    assert_eq!(all.iter().filter(|stats| stats.is_other()).count(), 1);
    assert_eq!(of(&db, "select :hot::int").count(), 100);
    assert_eq!(of(&db, "other").count(), 10_000 - 511);
    assert_eq!(of(&db, "other").rows(), 10_000 - 511);
    assert_eq!(count(&db), 10_100);
}

#[tokio::test]
async fn long_texts_are_counted_as_the_others_are() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int, name text)")).await.unwrap();
    for size in [1_000, 2_000, 3_000] {
        let rows: Vec<_> = (0..size).map(|n| format!("({n}, 'name')")).collect();
        db.query(Query::new(format!("insert into t values {}", rows.join(", ")))).await.unwrap();
    }
    let inserts = of(&db, "insert into t values (?, ?)");
    assert_eq!((inserts.count(), inserts.rows()), (3, 6_000));
}

#[tokio::test]
async fn what_was_given_up_counts_as_an_error_and_what_was_not_sent_does_not_count() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("select 1")).await.unwrap();
    let sleeper = || Query::new("select pg_sleep(30)");
    let limit = Duration::from_millis(50);
    Deadline::after(limit).scope(db.query(sleeper())).await.unwrap_err();
    assert!(timeout(limit, db.query(sleeper())).await.is_err());
    let given_up = db.transaction(async |tx| tx.query(sleeper()).await);
    assert!(timeout(limit, given_up).await.is_err());
    let told = of(&db, "select pg_sleep(?)");
    assert_eq!((told.count(), told.errors(), told.rows()), (3, 3, 0));
    assert!(told.max() < Duration::from_secs(5), "{told:?}");

    let before = count(&db);
    db.query(Query::new("select :missing")).await.unwrap_err();
    Deadline::after(Duration::ZERO).scope(db.query(sleeper())).await.unwrap_err();
    assert_eq!(count(&db), before);
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_not_the_statements_fault() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("select 1")).await.unwrap();
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
                where pid <> pg_backend_pid() and datname = current_database()";
    spy.execute(kill, &[]).await.unwrap();
    db.query(Query::new("select 2")).await.unwrap();
    let told = of(&db, "select ?");
    assert_eq!((told.count(), told.errors()), (2, 0));
}

#[tokio::test]
async fn statements_begin_anew_after_a_reset() {
    let test = TestDatabase::new().await;
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_slow_query(Duration::ZERO);
    let db = Postgres::new(config).unwrap();
    db.query(Query::new("select pg_sleep(0.2)")).await.unwrap();
    assert_eq!(db.slow_queries(9).len(), 1);
    db.reset_statistics();
    assert!(db.statements(9).is_empty() && db.slow_queries(9).is_empty());
    db.query(Query::new("select pg_sleep(0)")).await.unwrap();
    let told = of(&db, "select pg_sleep(?)");
    assert!(told.count() == 1 && told.p99() < Duration::from_millis(100), "{told:?}");
    assert_eq!(figure(&db, "slow_queries"), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gauges_of_the_pool_are_right_under_load() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 3), spy(test.config()).await);
    let gauges = |db: &Postgres| {
        ["connections", "connections_idle", "connections_max", "waiting"].map(|name| figure(db, name))
    };
    assert_eq!(gauges(&db), [0.0, 0.0, 3.0, 0.0]);
    spy.batch_execute("select pg_advisory_lock(1)").await.unwrap();
    let held = || {
        let db = db.clone();
        tokio::spawn(async move { db.query(Query::new("select pg_advisory_xact_lock_shared(1)")).await })
    };
    let mut callers = vec![held(), held()];
    until_backends(&spy, LOCKED, 2).await;
    assert_eq!(gauges(&db), [2.0, 0.0, 3.0, 0.0]);
    db.query(Query::new("select 1")).await.unwrap();
    assert_eq!(gauges(&db), [3.0, 1.0, 3.0, 0.0]);

    callers.extend((0..5).map(|_| held()));
    until_backends(&spy, LOCKED, 3).await;
    let start = Instant::now();
    while figure(&db, "waiting") < 4.0 && start.elapsed() < Duration::from_secs(4) {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(gauges(&db), [3.0, 0.0, 3.0, 4.0]);
    sleep(Duration::from_millis(200)).await;
    spy.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(gauges(&db), [3.0, 3.0, 3.0, 0.0]);

    assert_eq!(figure(&db, "waited"), 4.0);
    assert!(figure(&db, "waited_time") >= 4.0 * 200_000.0);
}

#[tokio::test]
async fn a_transactions_statements_count_and_its_begin_does_not() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.transaction(async |tx| {
        tx.query(Query::new("create table t (id int)")).await?;
        tx.query(Query::new("insert into t values (1), (2)")).await?;
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    assert_eq!(of(&db, "insert into t values (?)").rows(), 2);
    assert_eq!(count(&db), 2);
}
