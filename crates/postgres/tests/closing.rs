//! Closing the pool.

mod support;

use std::time::Duration;

use buttress_core::{Classify, Outcome, Reason, Rejectable};
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, SqlStateClassifier};
use buttress_testkit::{Fault, FaultProxy, TestDatabase};
use support::{SLEEPING, backends, figure, postgres, spy, until_backends};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

const MS: Duration = Duration::from_millis(1);

fn one() -> Query {
    Query::new("select 1")
}

fn is_closed(error: Error) {
    let rejected = error.rejected().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::Closed, false));
    assert_eq!(SqlStateClassifier.classify(&Err::<(), _>(error)), Outcome::Ignored);
}

async fn refuses_everything(db: &Postgres) {
    is_closed(db.query(one()).await.unwrap_err());
    is_closed(db.clone().oneshot(one()).await.unwrap_err());
    is_closed(db.transaction(async |tx| tx.query(one()).await).await.unwrap_err());
    is_closed(db.warm_up(1).await.unwrap_err());
    let figures = ["connections", "connections_idle", "waiting"].map(|name| figure(db, name));
    assert_eq!(figures, [0.0; 3]);
}

#[tokio::test]
async fn idle_connections_are_closed_at_once_and_nothing_is_taken_any_more() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 4), spy(test.config()).await);
    db.warm_up(4).await.unwrap();
    let clone = db.clone();
    timeout(1000 * MS, db.close()).await.expect("there is nothing to wait for");
    until_backends(&spy, "true", 0).await;
    refuses_everything(&db).await;
    refuses_everything(&clone).await;
    timeout(1000 * MS, clone.close()).await.expect("it is closed already");

    let unused = postgres(&test.url(), 1);
    timeout(1000 * MS, unused.close()).await.expect("there was nothing");
    refuses_everything(&unused).await;
}

#[tokio::test]
async fn what_is_in_flight_ends_in_peace_and_who_waits_is_refused() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 2), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let running = tokio::spawn(db.clone().oneshot(Query::new("select pg_sleep(1)")));
    let writer = db.clone();
    let transaction = tokio::spawn(async move {
        let work = writer.transaction(async |tx| {
            tx.query(Query::new("insert into t values (1)")).await?;
            tx.query(Query::new("select pg_sleep(1)")).await?;
            tx.query(Query::new("insert into t values (2)")).await
        });
        work.await
    });
    until_backends(&spy, SLEEPING, 2).await;
    let waiting = tokio::spawn(db.clone().oneshot(one()));
    tokio::task::yield_now().await;
    assert_eq!(figure(&db, "waiting"), 1.0);

    let start = Instant::now();
    let both = async { tokio::join!(db.close(), db.close()) };
    let refused = async {
        is_closed(waiting.await.unwrap().unwrap_err());
        assert!(start.elapsed() < 500 * MS, "{:?}", start.elapsed());
    };
    timeout(5000 * MS, async { tokio::join!(both, refused) }).await.expect("it ends");
    assert!(start.elapsed() > 200 * MS, "it waits for the two: {:?}", start.elapsed());
    running.await.unwrap().unwrap();
    transaction.await.unwrap().unwrap();
    until_backends(&spy, "true", 0).await;
    let rows = spy.query_one("select count(*) from t", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 2, "the transaction was committed");
    refuses_everything(&db).await;
}

#[tokio::test]
async fn dropped_half_way_it_stays_closed_and_can_be_waited_for_again() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 2), spy(test.config()).await);
    let running = tokio::spawn(db.clone().oneshot(Query::new("select pg_sleep(0.5)")));
    until_backends(&spy, SLEEPING, 1).await;
    assert!(timeout(100 * MS, db.close()).await.is_err());
    is_closed(db.query(one()).await.unwrap_err());
    assert_eq!(figure(&db, "connections"), 1.0);
    timeout(5000 * MS, db.close()).await.expect("it ends");
    assert!(running.is_finished());
    running.await.unwrap().unwrap();
    refuses_everything(&db).await;
}

#[tokio::test]
async fn a_shutdown_with_a_limit_cancels_what_is_dropped() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 2), spy(test.config()).await);
    let running = tokio::spawn(db.clone().oneshot(Query::new("select pg_sleep(30)")));
    until_backends(&spy, SLEEPING, 1).await;
    assert!(timeout(50 * MS, db.close()).await.is_err());
    running.abort();
    // It waits for what is being ended in the background too.
    timeout(2000 * MS, db.close()).await.expect("it ends");
    assert!(running.is_finished());
    assert_eq!(backends(&spy, SLEEPING).await, 0);
    refuses_everything(&db).await;
    until_backends(&spy, "true", 0).await;
}

#[tokio::test]
async fn whoever_is_connecting_is_waited_for_until_he_is_done_or_gone() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    let connecting = |limit| {
        let config = PostgresConfig::from_url(&url).unwrap().with_connect_timeout(limit);
        let db = Postgres::new(config).unwrap();
        let call = tokio::spawn(db.clone().oneshot(one()));
        (db, call)
    };

    proxy.set(Fault::Latency(100 * MS));
    let (db, call) = connecting(5000 * MS);
    sleep(50 * MS).await;
    timeout(5000 * MS, db.close()).await.expect("it ends");
    call.await.unwrap().unwrap();
    refuses_everything(&db).await;

    // He gives up, or fails, while nobody has a connection.
    proxy.set(Fault::BlackHole);
    for drops in [true, false] {
        let (db, call) = connecting(500 * MS);
        sleep(50 * MS).await;
        let give_up = async {
            sleep(50 * MS).await;
            if drops {
                call.abort();
            }
            assert_eq!(call.await.is_err(), drops);
        };
        let start = Instant::now();
        timeout(3000 * MS, async { tokio::join!(db.close(), give_up) }).await.expect("it ends");
        assert!(start.elapsed() > 40 * MS, "it waited: {:?}", start.elapsed());
        refuses_everything(&db).await;
    }
    proxy.cut();
    until_backends(&spy, "true", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closed_in_mid_traffic_nothing_is_left() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    for round in 0..20_u32 {
        let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(2).with_max_overflow(1);
        let db = Postgres::new(config).unwrap();
        let mut traffic = JoinSet::new();
        for _ in 0..12 {
            let db = db.clone();
            traffic.spawn(async move {
                loop {
                    // Connections go from hand to hand, and some callers leave.
                    if let Ok(Err(error)) = timeout(5 * MS, db.query(one())).await {
                        return is_closed(error);
                    }
                }
            });
        }
        sleep(10 * MS + round * MS / 7).await;
        timeout(5000 * MS, db.close()).await.expect("it ends");
        let figures = ["connections", "connections_idle"].map(|name| figure(&db, name));
        assert_eq!(figures, [0.0; 2]);
        timeout(1000 * MS, traffic.join_all()).await.expect("all are refused");
        refuses_everything(&db).await;
    }
    until_backends(&spy, "true", 0).await;
}

#[tokio::test]
async fn what_was_just_given_back_to_somebody_in_the_queue_is_closed_too() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let holder = db.clone();
    let closing = tokio::spawn(async move {
        holder.query(Query::new("select pg_sleep(0.2)")).await.unwrap();
        // On this one thread nobody else comes in between.
        holder.close().await;
    });
    until_backends(&spy, SLEEPING, 1).await;
    is_closed(db.query(one()).await.unwrap_err());
    timeout(1000 * MS, closing).await.expect("it ends").unwrap();
    refuses_everything(&db).await;
    until_backends(&spy, "true", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_in_the_background_whose_runtime_goes_is_not_waited_for() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    let db = postgres(&url, 2);
    proxy.set(Fault::BlackHole);
    let other = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // One who leaves while he connects leaves that to the background.
    let hurried = db.clone();
    let left = other.spawn(async move { timeout(50 * MS, hurried.query(one())).await.is_err() });
    assert!(left.await.unwrap());
    while figure(&db, "waiting") == 0.0 {
        sleep(MS).await;
    }
    let closing = tokio::spawn(async move { db.close().await });
    sleep(100 * MS).await;
    assert!(!closing.is_finished(), "it is still connecting");
    other.shutdown_background();
    timeout(3000 * MS, closing).await.expect("nobody connects any more").unwrap();
}
