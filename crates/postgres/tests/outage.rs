//! A server that goes away and comes back, and a network that does.

mod support;

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, State, Trip};
use buttress_core::{Classify, Deadline, Outcome, Reason, Rejectable};
use buttress_postgres::{ConnectError, Error, Postgres, PostgresConfig, Query, SqlStateClassifier};
use buttress_testkit::{Fault, FaultProxy, PostgresServer, TestDatabase};
use buttress_timeout::TimeoutLayer;
use support::{SLEEPING, figure, postgres, spy, until_backends};
use tokio::time::{Instant, sleep, timeout};
use tower::{Service, ServiceBuilder, ServiceExt};

fn one() -> Query {
    Query::new("select 1")
}

async fn fill_the_pool(db: &Postgres, size: usize) {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..size {
        calls.spawn(db.clone().oneshot(Query::new("select pg_sleep(0.05)")));
    }
    calls.join_all().await.into_iter().for_each(|result| drop(result.unwrap()));
    assert_eq!(figure(db, "connections"), size as f64);
}

fn is_failure(error: Error) -> bool {
    SqlStateClassifier.classify(&Err::<(), _>(error)) == Outcome::Failure
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_fails_its_calls_at_once_and_a_restarted_one_answers() {
    let server = PostgresServer::start().await;
    let db = postgres(&server.url(), 4);
    let spy = spy(server.config()).await;
    fill_the_pool(&db, 4).await;

    let running = tokio::spawn(db.clone().oneshot(Query::new("select pg_sleep(30)")));
    until_backends(&spy, SLEEPING, 1).await;
    server.kill().await;
    let error =
        timeout(Duration::from_secs(1), running).await.expect("it does not hang").unwrap().unwrap_err();
    assert!(error.sent(), "{error}");
    assert!(is_failure(error));

    let error =
        timeout(Duration::from_secs(1), db.query(one())).await.expect("it does not hang").unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(!error.sent() && is_failure(error));

    server.restart().await;
    let start = Instant::now();
    for _ in 0..20 {
        timeout(Duration::from_secs(1), db.query(one())).await.expect("it does not hang").unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_unnoticed_are_replaced() {
    let server = PostgresServer::start().await;
    let db = postgres(&server.url(), 4);
    fill_the_pool(&db, 4).await;
    // Nobody asks while it is down, so the pool is full of dead connections afterwards.
    server.stop().await;
    server.restart().await;
    let calls: Vec<_> = (0..8).map(|_| tokio::spawn(db.clone().oneshot(one()))).collect();
    for call in calls {
        timeout(Duration::from_secs(1), call).await.expect("it does not hang").unwrap().unwrap();
    }
}

/// A proxy in front of the test's database, and a pool of one that goes through it.
async fn through_a_proxy(test: &TestDatabase) -> (FaultProxy, Postgres) {
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    (proxy, postgres(&url, 1))
}

// On a single thread, nobody has noticed the cut yet when the next call takes the connection.

#[tokio::test]
async fn a_connection_that_breaks_before_anything_is_sent_is_replaced() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    db.query(one()).await.unwrap();

    proxy.cut();
    db.query(Query::new("select 'a statement that must be prepared'")).await.unwrap();
    assert_eq!(figure(&db, "discarded"), 1.0);

    proxy.cut();
    let mut runs = 0;
    db.transaction(async |tx| {
        runs += 1;
        tx.query(one()).await
    })
    .await
    .unwrap();
    assert_eq!((figure(&db, "discarded"), runs), (2.0, 1));
}

#[tokio::test]
async fn a_statement_that_may_have_been_sent_is_not_repeated() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    db.query(one()).await.unwrap();
    proxy.cut();
    // It is prepared on that connection, so it is sent at once.
    let error = db.query(one()).await.unwrap_err();
    assert!(matches!(error, Error::Lost { sent: true, .. }), "{error}");
    assert!(error.to_string().contains("the statement may have been carried out"), "{error}");
    assert!(is_failure(error));
    db.query(one()).await.unwrap();
}

#[tokio::test]
async fn callers_with_less_time_than_connect_and_query_take_get_there_in_the_end() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let db = postgres(&test.url().replace(&test.addr().to_string(), &proxy.addr().to_string()), 2);
    // Connecting, preparing and running take 60 ms each.
    proxy.set(Fault::Latency(Duration::from_millis(60)));
    let patience = Duration::from_millis(160);
    let mut failed = 0;
    loop {
        // An outer timeout and a deadline come to the same.
        let answered = if failed % 2 == 0 {
            timeout(patience, db.query(one())).await.is_ok_and(|result| result.is_ok())
        } else {
            Deadline::after(patience).scope(db.query(one())).await.is_ok()
        };
        if answered {
            break;
        }
        failed += 1;
        assert!(failed < 10, "a connect that lost its caller is lost for all");
    }
    assert!(failed > 0, "it was too easy");
}

#[tokio::test]
async fn a_black_hole_ends_with_the_connect_timeout() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    proxy.set(Fault::BlackHole);
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    let config = PostgresConfig::from_url(&url).unwrap().with_connect_timeout(Duration::from_millis(200));
    let db = Postgres::new(config).unwrap();
    let start = Instant::now();
    let error = db.query(one()).await.unwrap_err();
    assert!(error.to_string().contains("none was made within 200ms"), "{error}");
    assert!(is_failure(error));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    proxy.set(Fault::Pass);
    db.query(one()).await.unwrap();
}

#[tokio::test]
async fn a_deadline_that_passes_while_connecting_is_held_against_the_server_and_in_the_queue_is_not() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    proxy.set(Fault::BlackHole);
    // The pool has one place: the first connects, the second waits behind it.
    let connects = Deadline::after(Duration::from_millis(120)).scope(db.query(one()));
    let waits = Deadline::after(Duration::from_millis(80)).scope(db.query(one()));
    let start = Instant::now();
    let (connects, waits) = tokio::join!(connects, waits);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    let error = connects.unwrap_err();
    let Error::Connect { cause: ConnectError::TimedOut(limit), .. } = error else { panic!("{error}") };
    let expected = Duration::from_millis(60)..=Duration::from_millis(120);
    assert!(expected.contains(&limit) && !error.sent(), "{error}");
    assert!(is_failure(error));

    assert_eq!(SqlStateClassifier.classify(&waits), Outcome::Ignored);
    let error = waits.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert!(!error.sent());

    proxy.set(Fault::Pass);
    db.query(one()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_answers_nothing_within_the_deadline_has_failed_though_nothing_was_sent() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    let soon = || Deadline::after(Duration::from_millis(80));
    for transaction in [false, true] {
        proxy.set(Fault::Pass);
        db.query(one()).await.unwrap();
        proxy.set(Fault::BlackHole);
        let error = if transaction {
            let never = db.transaction(async |_| -> Result<(), Error> { panic!("BEGIN was not answered") });
            soon().scope(never).await.unwrap_err()
        } else {
            soon().scope(db.query(Query::new("select 'not prepared yet'"))).await.unwrap_err()
        };
        assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::TimedOut), "{error}");
        assert!(!error.sent() && is_failure(error));
    }
}

#[tokio::test]
async fn a_breaker_opens_on_a_black_hole() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    proxy.set(Fault::BlackHole);
    let breaker = |name| {
        let trip = Trip::consecutive(3).unwrap();
        CircuitBreakerLayer::builder(name).trip(trip).classify(SqlStateClassifier).build()
    };
    let patience = Duration::from_millis(50);

    let (layer, by_hand) = (breaker("black_hole"), breaker("black_hole_transactions").breaker());
    let by_layer = layer.breaker();
    let mut service =
        ServiceBuilder::new().layer(layer).layer(TimeoutLayer::new(patience)).service(db.clone());
    for _ in 0..3 {
        assert_eq!((by_layer.state(), by_hand.state()), (State::Closed, State::Closed));
        service.ready().await.unwrap().call(one()).await.unwrap_err();
        let transaction = async || {
            let transaction = db.transaction(async |tx| tx.query(one()).await);
            Deadline::after(patience).scope(transaction).await
        };
        by_hand.call_with(SqlStateClassifier, transaction).await.unwrap_err();
    }
    assert_eq!((by_layer.state(), by_hand.state()), (State::Open, State::Open));
}

#[tokio::test]
async fn a_query_dropped_in_a_black_hole_frees_its_place() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    db.query(one()).await.unwrap();
    proxy.set(Fault::BlackHole);
    assert!(timeout(Duration::from_millis(100), db.query(one())).await.is_err());
    proxy.set(Fault::Pass);
    timeout(Duration::from_secs(2), db.query(one())).await.expect("the place is free").unwrap();
}

#[tokio::test]
async fn a_commit_without_an_answer_is_said_to_be_uncertain() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let (proxy, db) = through_a_proxy(&test).await;
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let insert = Query::new("insert into t values (1)");

    // A deferred trigger keeps COMMIT busy long enough to break the connection under it.
    spy.batch_execute(
        "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return null; end $$;
         create constraint trigger slow after insert on t deferrable initially deferred for each row execute function slow()",
    )
    .await
    .unwrap();
    let committing = db.transaction(async |tx| tx.query(insert).await);
    let cut = async {
        sleep(Duration::from_millis(150)).await;
        proxy.cut();
    };
    let (result, ()) = tokio::join!(committing, cut);
    let error = result.unwrap_err();
    assert!(matches!(error, Error::CommitUncertain { .. }), "{error}");
    assert!(error.sent() && error.to_string().contains("no answer to COMMIT came"), "{error}");
    assert!(is_failure(error));
    db.query(one()).await.unwrap();
}

#[tokio::test]
async fn a_transaction_whose_connection_breaks_is_lost_and_not_repeated() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    let mut runs = 0;
    let result = db
        .transaction(async |tx| {
            runs += 1;
            tx.query(one()).await?;
            proxy.cut();
            tx.query(one()).await
        })
        .await;
    assert!(matches!(result, Err(Error::Lost { .. })), "{result:?}");
    assert_eq!(runs, 1);
    db.query(one()).await.unwrap();
}
