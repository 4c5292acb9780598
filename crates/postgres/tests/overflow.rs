//! Connections beyond the pool's size.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Reason, Rejectable};
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, Rows};
use buttress_testkit::{PostgresServer, TestDatabase};
use support::{SLEEPING, backend, figure, spy, until_backends};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

const SOON: Duration = Duration::from_secs(2);

/// Two connections, and three more where they are needed.
fn two_and_three(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap().with_pool_size(2).with_max_overflow(3)
}

fn asleep(db: &Postgres, seconds: f64, many: usize) -> Vec<JoinHandle<Result<Rows, Error>>> {
    let query = || Query::new("select pg_sleep(:seconds)").bind("seconds", seconds);
    (0..many).map(|_| tokio::spawn(db.clone().oneshot(query()))).collect()
}

async fn awake(sleepers: Vec<JoinHandle<Result<Rows, Error>>>) {
    for sleeper in sleepers {
        timeout(SOON, sleeper).await.expect("it does not hang").unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_grows_and_shrinks_again() {
    let test = TestDatabase::new().await;
    let (db, spy) = (Postgres::new(two_and_three(&test.url())).unwrap(), spy(test.config()).await);
    for round in 1..=3 {
        let sleepers = asleep(&db, 0.7, 5);
        until_backends(&spy, SLEEPING, 5).await;
        let figures = ["connections", "overflow", "connections_max"].map(|name| figure(&db, name));
        assert_eq!(figures, [5.0, 3.0, 5.0]);
        awake(sleepers).await;
        let figures = ["connections", "connections_idle", "overflow"].map(|name| figure(&db, name));
        assert_eq!(figures, [2.0, 2.0, 0.0]);
        until_backends(&spy, "true", 2).await;
        assert_eq!(figure(&db, "created"), f64::from(5 + (round - 1) * 3));
    }
    assert_eq!((figure(&db, "discarded"), figure(&db, "waited")), (0.0, 0.0));
}

#[tokio::test]
async fn beyond_it_callers_wait_and_what_they_wait_for_is_not_closed() {
    let test = TestDatabase::new().await;
    let (db, spy) = (Postgres::new(two_and_three(&test.url())).unwrap(), spy(test.config()).await);
    awake(asleep(&db, 0.05, 25)).await;
    assert_eq!((figure(&db, "created"), figure(&db, "connections")), (5.0, 2.0));
    assert_eq!((figure(&db, "waited"), figure(&db, "wait_timeouts")), (20.0, 0.0));
    // Five wait for one time of 50 ms, five for two, and so on: half a second and more.
    let waited = figure(&db, "waited_time");
    assert!((450_000.0..60_000_000.0).contains(&waited), "{waited}");

    let config = two_and_three(&test.url()).with_wait_timeout(Duration::from_millis(100));
    let db = Postgres::new(config).unwrap();
    let sleepers = asleep(&db, 0.8, 5);
    until_backends(&spy, SLEEPING, 5).await;
    let error = db.query(Query::new("select 1")).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::Overloaded), "{error}");
    assert_eq!((figure(&db, "waited"), figure(&db, "wait_timeouts")), (1.0, 1.0));
    awake(sleepers).await;
}

#[tokio::test]
async fn who_waits_for_nothing_is_not_said_to_have_waited() {
    let test = TestDatabase::new().await;
    let config = two_and_three(&test.url()).with_max_overflow(0).with_wait_timeout(Duration::ZERO);
    let (db, spy) = (Postgres::new(config).unwrap(), spy(test.config()).await);
    let sleepers = asleep(&db, 0.8, 2);
    until_backends(&spy, SLEEPING, 2).await;
    let start = Instant::now();
    let error = db.query(Query::new("select 1")).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::Overloaded), "{error}");
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    assert_eq!((figure(&db, "waited"), figure(&db, "wait_timeouts")), (0.0, 1.0));
    awake(sleepers).await;
}

#[tokio::test]
async fn a_few_more_than_the_size_do_not_make_a_connection_for_each_call() {
    let test = TestDatabase::new().await;
    let db = Postgres::new(two_and_three(&test.url())).unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let db = db.clone();
        calls.spawn(async move {
            for _ in 0..50 {
                db.query(Query::new("select 1")).await.unwrap();
            }
        });
    }
    calls.join_all().await;
    assert_eq!((figure(&db, "created"), figure(&db, "connections")), (3.0, 2.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_that_are_given_back_at_once_leave_the_size_and_no_less() {
    let test = TestDatabase::new().await;
    let db = Postgres::new(two_and_three(&test.url())).unwrap();
    db.warm_up(2).await.unwrap();
    for _ in 0..30 {
        let mut calls = JoinSet::new();
        for _ in 0..5 {
            let db = db.clone();
            calls.spawn(async move {
                db.query(Query::new("select pg_sleep(0.005)")).await.unwrap();
                let left = figure(&db, "connections");
                assert!(left >= 2.0, "{left}");
            });
        }
        calls.join_all().await;
        assert_eq!((figure(&db, "connections"), figure(&db, "connections_idle")), (2.0, 2.0));
    }
}

#[tokio::test]
async fn what_is_dropped_beyond_the_size_is_ended_and_not_replaced() {
    let test = TestDatabase::new().await;
    let (db, spy) = (Postgres::new(two_and_three(&test.url())).unwrap(), spy(test.config()).await);
    for round in 1..=2 {
        let sleepers = asleep(&db, 30.0, 5);
        until_backends(&spy, SLEEPING, 5).await;
        let created = figure(&db, "created");
        // Three are left, and then two.
        for (dropped, left) in sleepers[..3].iter().zip([4, 3, 2]) {
            dropped.abort();
            until_backends(&spy, SLEEPING, left).await;
        }
        until_backends(&spy, "true", 2).await;
        assert_eq!(figure(&db, "created"), created, "none is made for stock");
        sleepers.iter().for_each(JoinHandle::abort);
        until_backends(&spy, SLEEPING, 0).await;
        assert_eq!(figure(&db, "cancelled"), f64::from(5 * round));
        backend(&db).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_mid_traffic_costs_neither_connections_nor_places() {
    let server = PostgresServer::start().await;
    let config = PostgresConfig::from_url(&server.url())
        .unwrap()
        .with_pool_size(4)
        .with_max_overflow(2)
        .with_application_name("the pool");
    let db = Postgres::new(config).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let mut traffic = JoinSet::new();
    for _ in 0..12 {
        let (db, ended) = (db.clone(), Arc::clone(&ended));
        traffic.spawn(async move {
            let mut bad = 0;
            for call in 0_u64.. {
                // Some are dropped on their way as well.
                let limit = if call % 20 == 0 { Duration::from_millis(1) } else { SOON };
                match timeout(limit, db.query(Query::new("select pg_sleep(0.005)"))).await {
                    Ok(Ok(_)) if ended.load(Relaxed) => break,
                    Ok(Err(_)) => {
                        bad += 1;
                        sleep(Duration::from_millis(5)).await;
                    }
                    Ok(Ok(_)) | Err(_) => {}
                }
            }
            bad
        });
    }
    for _ in 0..2 {
        sleep(Duration::from_millis(100)).await;
        server.kill().await;
        sleep(Duration::from_millis(100)).await;
        server.restart().await;
    }
    ended.store(true, Relaxed);
    let bad = timeout(5 * SOON, traffic.join_all()).await.expect("each gets an answer again");
    assert!(bad.iter().sum::<i32>() > 0, "nobody noticed");

    // All places are there.
    let spy = spy(server.config()).await;
    let sleepers = asleep(&db, 1.0, 6);
    until_backends(&spy, SLEEPING, 6).await;
    awake(sleepers).await;
    // And nothing else.
    until_backends(&spy, "application_name = 'the pool'", 4).await;
    let figures = ["connections", "connections_idle", "waiting"].map(|name| figure(&db, name));
    assert_eq!(figures, [4.0, 4.0, 0.0]);
}
