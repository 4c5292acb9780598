//! A pool whose size is set while calls run and wait.

mod support;

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use buttress_core::{Reason, Rejectable, SettingValue};
use buttress_postgres::{Error, InvalidConfig, Postgres, PostgresConfig, Query, Rows};
use buttress_testkit::{TestDatabase, observed::settings};
use support::{SLEEPING, backends, figure, postgres, spy, until_backends};
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{sleep, timeout},
};

fn asleep(db: &Postgres, seconds: f64, many: usize) -> Vec<JoinHandle<Result<Rows, Error>>> {
    let call = |db: Postgres| async move {
        db.query(Query::new("select pg_sleep(:seconds)").bind("seconds", seconds)).await
    };
    (0..many).map(|_| tokio::spawn(call(db.clone()))).collect()
}

async fn awake(sleepers: Vec<JoinHandle<Result<Rows, Error>>>) {
    for sleeper in sleepers {
        sleeper.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_larger_pool_lets_those_in_who_wait() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let sleepers = asleep(&db, 0.6, 5);
    until_backends(&spy, SLEEPING, 1).await;
    assert_eq!(figure(&db, "waiting"), 4.0);
    db.resize(2, 2).unwrap();
    until_backends(&spy, SLEEPING, 4).await;
    assert_eq!((figure(&db, "waiting"), figure(&db, "connections_max")), (1.0, 4.0));
    awake(sleepers).await;
    until_backends(&spy, "true", 2).await;
}

#[tokio::test]
async fn in_a_smaller_one_those_beyond_it_are_closed_as_they_come_back() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 6), spy(test.config()).await);
    let sleepers = asleep(&db, 0.6, 6);
    until_backends(&spy, SLEEPING, 6).await;
    db.resize(2, 0).unwrap();
    let late = asleep(&db, 0.2, 5);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(backends(&spy, SLEEPING).await, 6, "nothing is cut off, and nobody gets a seventh");
    awake(sleepers).await;
    let most = async {
        let mut most = 0;
        while figure(&db, "waiting") > 0.0 {
            most = most.max(backends(&spy, SLEEPING).await);
        }
        most
    };
    let (most, ()) = tokio::join!(most, awake(late));
    assert!(most <= 2, "{most}");
    until_backends(&spy, "true", 2).await;
    assert_eq!((figure(&db, "connections"), figure(&db, "discarded")), (2.0, 0.0));
}

#[tokio::test]
async fn idle_ones_beyond_it_are_closed_at_once() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 5), spy(test.config()).await);
    db.warm_up(5).await.unwrap();
    until_backends(&spy, "true", 5).await;
    db.resize(2, 3).unwrap();
    until_backends(&spy, "true", 2).await;
}

/// To the pool beneath, places of connections that were never made would come back each time.
#[tokio::test]
async fn however_often_it_changes_it_is_as_large_as_it_was_made_last() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 4), spy(test.config()).await);
    for _ in 0..20 {
        db.resize(1, 0).unwrap();
        db.resize(3, 1).unwrap();
    }
    db.resize(2, 0).unwrap();
    let sleepers = asleep(&db, 0.3, 6);
    until_backends(&spy, SLEEPING, 2).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!((backends(&spy, "true").await, figure(&db, "waiting")), (2, 4.0));
    awake(sleepers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_call_fails_while_it_changes() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 4);
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..12)
        .map(|caller| {
            let (db, over) = (db.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    if caller % 4 == 0 {
                        // Gives up at any moment.
                        let patience = Duration::from_micros(300 + caller * 50);
                        let _ = tokio::time::timeout(patience, db.query(Query::new("select 1"))).await;
                    } else {
                        db.query(Query::new("select 1")).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for (size, overflow) in [(1, 0), (8, 0), (2, 4), (1, 1), (6, 0), (3, 0)].into_iter().cycle().take(24) {
        db.resize(size, overflow).unwrap();
        sleep(Duration::from_millis(25)).await;
    }
    over.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(figure(&db, "connections") <= 3.0);
    // All three places are there still.
    let spy = spy(test.config()).await;
    let sleepers = asleep(&db, 0.3, 3);
    until_backends(&spy, SLEEPING, 3).await;
    awake(sleepers).await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_a_closed_pool_stays_closed() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    assert_eq!(db.resize(0, 5), Err(InvalidConfig::EmptyPool));
    assert!(matches!(db.resize(usize::MAX, 5), Err(InvalidConfig::TooManyConnections(_))));
    db.resize(7, 3).unwrap();
    let told = settings(&db);
    let value = |name| told.iter().find(|setting| setting.name == name).unwrap().value;
    assert_eq!((value("pool_size"), value("max_overflow")), (SettingValue::Count(7), SettingValue::Count(3)));
    db.close().await;
    db.resize(3, 0).unwrap();
    let refused = db.query(Query::new("select 1")).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::Closed);
}

#[test]
fn a_pool_that_is_closed_while_it_changes_stays_closed() {
    let config = PostgresConfig::from_url("postgres://nobody@127.0.0.1:1/none").unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..5_000 {
        let db = Postgres::new(config.clone().with_pool_size(2)).unwrap();
        let begin = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                for size in 3..60 {
                    db.resize(size, 0).unwrap();
                }
            });
            begin.wait();
            runtime.block_on(db.close());
        });
        assert_eq!(figure(&db, "connections_max"), 0.0);
    }
}

#[tokio::test]
async fn warming_up_does_not_wait_for_itself_in_a_pool_that_became_smaller() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 4), spy(test.config()).await);
    let sleepers = asleep(&db, 0.3, 2);
    until_backends(&spy, SLEEPING, 2).await;
    let other = db.clone();
    let warm = tokio::spawn(async move { other.warm_up(4).await });
    until_backends(&spy, "true", 4).await;
    db.resize(2, 0).unwrap();
    awake(sleepers).await;
    timeout(Duration::from_secs(1), warm).await.expect("two are there").unwrap().unwrap();
    db.query(Query::new("select 1")).await.unwrap();
}
