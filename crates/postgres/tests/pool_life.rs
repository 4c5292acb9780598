//! How long connections live, and how they are made beforehand.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{ConnectError, Error, Postgres, PostgresConfig, Query};
use buttress_testkit::{Fault, FaultProxy, TestDatabase};
use support::{SLEEPING, backend, backends, figure, postgres, spy, until_backends};
use tokio::{
    runtime::{Builder, Handle},
    time::{Instant, sleep, timeout},
};

const MS: Duration = Duration::from_millis(1);

fn config(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap().with_pool_size(4).with_idle_timeout(None).with_max_lifetime(None)
}

#[tokio::test]
async fn what_is_idle_too_long_is_closed_and_what_is_used_is_not() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let db = Postgres::new(config(&test.url()).with_idle_timeout(300 * MS)).unwrap();
    db.warm_up(3).await.unwrap();
    let (start, used) = (Instant::now(), backend(&db).await);
    while start.elapsed() < 900 * MS {
        assert_eq!(backend(&db).await, used);
        let left = backends(&spy, "true").await;
        match start.elapsed() {
            early if early < 250 * MS => assert_eq!(left, 3, "{early:?}"),
            late if late > 700 * MS => assert_eq!(left, 1, "{late:?}"),
            _ => {}
        }
        sleep(20 * MS).await;
    }
    assert_eq!((figure(&db, "connections"), figure(&db, "expired")), (1.0, 2.0));

    let idle = until_backends(&spy, "true", 0).await;
    assert!((200 * MS..900 * MS).contains(&idle), "{idle:?}");
    assert_eq!((figure(&db, "connections"), figure(&db, "expired")), (0.0, 3.0));
    assert_ne!(backend(&db).await, used);
}

#[tokio::test]
async fn what_is_too_old_is_closed_when_it_is_idle() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let db = Postgres::new(config(&test.url()).with_max_lifetime(400 * MS)).unwrap();
    db.warm_up(4).await.unwrap();
    assert_eq!(backends(&spy, "true").await, 4);
    let lived = until_backends(&spy, "true", 0).await;
    assert!((200 * MS..1000 * MS).contains(&lived), "{lived:?}");
    assert_eq!((figure(&db, "connections"), figure(&db, "expired")), (0.0, 4.0));
}

#[tokio::test]
async fn what_is_too_old_is_not_handed_out_and_not_closed_in_use() {
    let test = TestDatabase::new().await;
    let db = Postgres::new(config(&test.url()).with_max_lifetime(200 * MS).with_pool_size(1)).unwrap();
    let first = backend(&db).await;
    let in_transaction = db.transaction(async |tx| {
        for _ in 0..4 {
            sleep(100 * MS).await;
            let pid = tx.query(Query::new("select pg_backend_pid()")).await?.one()?;
            assert_eq!(pid.get::<i32>(0)?, first);
        }
        Ok::<_, Error>(())
    });
    in_transaction.await.unwrap();
    assert_eq!(figure(&db, "expired"), 0.0);
    // On this one thread nobody else comes between the two calls, so it is the hand-out that notices.
    let second = backend(&db).await;
    assert_ne!(second, first);
    assert_eq!((figure(&db, "expired"), figure(&db, "created")), (1.0, 2.0));

    // In steady use it is never idle for long, and is replaced all the same.
    let start = Instant::now();
    while backend(&db).await == second {
        assert!(start.elapsed() < 1000 * MS);
    }
    assert!(start.elapsed() > 100 * MS, "{:?}", start.elapsed());
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn connections_that_died_are_swept_though_nobody_asks() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let db = Postgres::new(config(&test.url()).with_idle_timeout(4 * 50 * MS)).unwrap();
    db.warm_up(3).await.unwrap();
    spy.batch_execute(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .await
    .unwrap();
    let start = Instant::now();
    while figure(&db, "connections") > 0.0 {
        assert!(start.elapsed() < 2000 * MS);
        sleep(5 * MS).await;
    }
    // Not as idle ones.
    assert_eq!(figure(&db, "expired"), 0.0);
}

#[tokio::test]
async fn the_task_that_does_that_ends_with_the_last_handle() {
    let test = TestDatabase::new().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let db = postgres(&test.url(), 1);
    assert_eq!(tasks(), before, "none without a connection");
    backend(&db).await;
    let clone = db.clone();
    drop(db);
    backend(&clone).await;
    assert_eq!(tasks(), before + 2, "the connection's, and the one that looks after its age");
    drop(clone);
    timeout(1000 * MS, async {
        while tasks() > before {
            sleep(MS).await;
        }
    })
    .await
    .expect("both end");

    let never = Postgres::new(config(&test.url())).unwrap();
    backend(&never).await;
    assert_eq!(tasks(), before + 1, "none where nothing has a limit");
}

#[test]
fn it_begins_again_in_the_next_runtime() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (one, other) = (runtime(), runtime());
    let test = one.block_on(TestDatabase::new());
    // Outside of a runtime.
    let db = Postgres::new(config(&test.url()).with_idle_timeout(100 * MS)).unwrap();
    one.block_on(backend(&db));
    drop(one);
    other.block_on(async {
        let spy = spy(test.config()).await;
        backend(&db).await;
        until_backends(&spy, "true", 0).await;
        assert_eq!(figure(&db, "expired"), 1.0);
    });
}

#[tokio::test]
async fn connections_are_made_beforehand_up_to_the_size_and_all_at_a_time() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let proxy = FaultProxy::start(test.addr()).await;
    proxy.set(Fault::Latency(100 * MS));
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    let db = Postgres::new(config(&url).with_max_overflow(10)).unwrap();

    let start = Instant::now();
    db.warm_up(1).await.unwrap();
    let one = start.elapsed();
    assert_eq!((figure(&db, "connections"), backends(&spy, "true").await), (1.0, 1));
    let start = Instant::now();
    db.warm_up(100).await.unwrap();
    assert!(start.elapsed() < one * 2, "{:?} for three, {one:?} for one", start.elapsed());
    assert_eq!((figure(&db, "connections"), backends(&spy, "true").await), (4.0, 4));

    db.warm_up(3).await.unwrap();
    db.warm_up(0).await.unwrap();
    assert_eq!((figure(&db, "created"), figure(&db, "connections_idle")), (4.0, 4.0));
}

#[tokio::test]
async fn warming_up_tells_what_went_wrong() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());

    proxy.set(Fault::Refuse);
    let db = Postgres::new(config(&url).with_connect_timeout(200 * MS)).unwrap();
    let error = db.warm_up(3).await.unwrap_err();
    assert!(matches!(error, Error::Connect { cause: ConnectError::Driver(_), .. }), "{error}");
    proxy.set(Fault::BlackHole);
    let start = Instant::now();
    let error = db.warm_up(3).await.unwrap_err();
    assert!(matches!(error, Error::Connect { cause: ConnectError::TimedOut(_), .. }), "{error}");
    assert!(start.elapsed() < 500 * MS, "all at a time: {:?}", start.elapsed());
    let error = Deadline::at(Instant::now()).scope(db.warm_up(3)).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));

    proxy.set(Fault::Pass);
    db.warm_up(3).await.unwrap();
    assert_eq!((figure(&db, "connections"), figure(&db, "waiting")), (3.0, 0.0));

    proxy.set(Fault::BlackHole);
    let error = Deadline::after(50 * MS).scope(db.warm_up(4)).await.unwrap_err();
    assert!(matches!(error, Error::Connect { cause: ConnectError::TimedOut(_), .. }), "{error}");
}

#[tokio::test]
async fn warming_up_keeps_what_could_be_made() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let role = format!("{}_two", test.name());
    spy.batch_execute(&format!("create role {role} login connection limit 2")).await.unwrap();
    let db = Postgres::new(config(&test.url().replace("postgres@", &format!("{role}@")))).unwrap();
    let error = db.warm_up(4).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("53300"), "{error}");
    assert_eq!((figure(&db, "connections_idle"), figure(&db, "created")), (2.0, 2.0));
    db.warm_up(2).await.unwrap();
}

#[tokio::test]
async fn warming_up_dropped_on_its_way_leaves_no_place_taken() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let proxy = FaultProxy::start(test.addr()).await;
    proxy.set(Fault::BlackHole);
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    let db = Postgres::new(config(&url)).unwrap();
    assert!(timeout(50 * MS, db.warm_up(4)).await.is_err());
    proxy.set(Fault::Pass);
    let sleepers = (0..4).map(|_| db.query(Query::new("select pg_sleep(1)")));
    let all = async { until_backends(&spy, SLEEPING, 4).await };
    let (results, _) = tokio::join!(futures_util::future::join_all(sleepers), all);
    results.into_iter().for_each(|result| drop(result.unwrap()));
}
