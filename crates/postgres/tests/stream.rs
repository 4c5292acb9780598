//! Rows as they come.

mod support;

use std::{pin::pin, time::Duration};

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{Error, Postgres, Query, QueryError, RowStream};
use buttress_testkit::{FaultProxy, PostgresServer, TestDatabase};
use futures_util::{StreamExt, TryStreamExt, stream::FusedStream};
use support::{backend, backends, figure, postgres, spy, until_backends};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(1);
const ACTIVE: &str = "state = 'active'";

/// So many rows of 200 bytes, which the server makes as they are sent.
fn rows_of(count: i32) -> Query {
    Query::new("select generate_series(1, :count) as n, repeat('x', 200) as text").bind("count", count)
}

async fn count(rows: &mut RowStream<'_>) -> Result<i32, Error> {
    let mut count = 0;
    while let Some(row) = rows.try_next().await? {
        count += 1;
        assert_eq!(row.get::<i32>("n")?, count);
    }
    Ok(count)
}

/// The first rows.
async fn read(rows: &mut RowStream<'_>, count: usize) {
    for _ in 0..count {
        rows.try_next().await.unwrap().expect("there are more");
    }
}

/// It has said its error, and says nothing more.
async fn is_over(rows: &mut RowStream<'_>) {
    assert!(rows.is_terminated());
    for _ in 0..2 {
        assert!(timeout(SOON, rows.next()).await.expect("at once").is_none());
    }
}

async fn next_borrower_is_fine(db: &Postgres, before: i32) {
    let other = timeout(SOON, backend(db)).await.expect("it waits for nobody");
    assert_ne!(other, before, "an unfinished connection was handed on");
}

#[tokio::test]
async fn rows_come_in_their_order_and_the_connection_goes_back() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let before = backend(&db).await;
    for total in [0, 1, 10_000] {
        let mut rows = db.stream(rows_of(total)).await.unwrap();
        assert_eq!((rows.affected(), rows.is_terminated()), (None, false));
        assert_eq!(count(&mut rows).await.unwrap(), total);
        assert_eq!(rows.affected(), Some(u64::try_from(total).unwrap()));
        assert_eq!(figure(&db, "connections_idle"), 1.0, "also while the stream is still there");
        is_over(&mut rows).await;
    }
    assert_eq!(backend(&db).await, before);
    assert_eq!((figure(&db, "discarded"), figure(&db, "cancelled")), (0.0, 0.0));
}

#[tokio::test]
async fn a_statement_that_gives_no_rows_is_a_stream_too() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let mut rows = db.stream(Query::new("insert into t select generate_series(1, 3)")).await.unwrap();
    assert!(rows.try_next().await.unwrap().is_none());
    assert_eq!(rows.affected(), Some(3));
    let error = db.stream(Query::new("select :a")).await.unwrap_err();
    assert!(matches!(error, Error::Query { cause: QueryError::Missing(_), .. }), "{error}");
    let error = db.stream(Query::new("select nothing")).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("42703"));
    assert_eq!(figure(&db, "discarded"), 0.0);
}

/// The process's own memory, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_the_server_and_not_his_memory() {
    const MEGABYTE: usize = 1 << 20;
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let mut rows = db.stream(rows_of(1_000_000)).await.unwrap();
    let (before, mut most, mut waits) = (memory(), 0, 0);
    let mut read = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        read += 1;
        assert_eq!(row.get::<&str>("text").unwrap().len(), 200);
        if read % 50_000 == 0 {
            // Long enough for all to come, were it not held up.
            sleep(20 * MS).await;
            waits += backends(&spy, "wait_event = 'ClientWrite'").await;
            most = most.max(memory().saturating_sub(before));
        }
    }
    assert_eq!(read, 1_000_000);
    assert!(waits >= 15, "the server waited for the reader {waits} times of 20");
    // Of 200 MB. Other tests of this process take some too.
    assert!(most < 32 * MEGABYTE, "{} MiB", most / MEGABYTE);
}

#[tokio::test]
async fn a_stream_dropped_half_way_is_cancelled_and_the_next_borrower_does_not_wait() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let before = backend(&db).await;
    // It would run for hours.
    let mut rows = db.stream(rows_of(i32::MAX)).await.unwrap();
    read(&mut rows, 1000).await;
    assert_eq!(backends(&spy, ACTIVE).await, 1);
    drop(rows);

    next_borrower_is_fine(&db, before).await;
    let cancelled_after = until_backends(&spy, ACTIVE, 0).await;
    assert!(cancelled_after < SOON, "{cancelled_after:?}");
    until_backends(&spy, "true", 1).await;
    assert_eq!((figure(&db, "cancelled"), figure(&db, "discarded")), (1.0, 1.0));
}

#[tokio::test]
async fn a_stream_dropped_while_it_is_opened_is_cancelled() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let before = backend(&db).await;
    assert!(timeout(100 * MS, db.stream(Query::new("select pg_sleep(30)"))).await.is_err());
    next_borrower_is_fine(&db, before).await;
    until_backends(&spy, ACTIVE, 0).await;
    assert_eq!(figure(&db, "cancelled"), 1.0);
}

#[tokio::test]
async fn a_wait_for_a_row_that_is_dropped_loses_none() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let mut rows = db.stream(rows_of(20_000)).await.unwrap();
    let (mut count, mut dropped) = (0, 0);
    loop {
        let next = pin!(rows.next());
        // Polled once.
        let Some(next) = futures_util::FutureExt::now_or_never(next) else {
            dropped += 1;
            tokio::task::yield_now().await;
            continue;
        };
        let Some(row) = next else { break };
        count += 1;
        assert_eq!(row.unwrap().get::<i32>("n").unwrap(), count);
    }
    assert_eq!(count, 20_000);
    assert!(dropped > 10, "{dropped}");
}

fn deadline_exceeded(error: Option<Result<impl Sized, Error>>) {
    let Some(Err(error)) = error else { panic!("a row came, or the end") };
    assert_eq!(error.rejected().expect("it is a rejection").reason(), Reason::DeadlineExceeded, "{error}");
    assert!(error.sent());
}

#[tokio::test]
async fn the_deadline_of_the_call_holds_for_a_slow_reader() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let before = backend(&db).await;
    let deadline = Deadline::after(300 * MS);
    let mut rows = deadline.scope(db.stream(rows_of(i32::MAX))).await.unwrap();
    read(&mut rows, 10).await;
    sleep(deadline.remaining()).await;
    // There are rows at hand.
    deadline_exceeded(rows.next().await);
    is_over(&mut rows).await;
    next_borrower_is_fine(&db, before).await;
    until_backends(&spy, ACTIVE, 0).await;
    assert_eq!((figure(&db, "cancelled"), figure(&db, "discarded")), (1.0, 1.0));
}

#[tokio::test]
async fn the_deadline_of_the_call_holds_for_a_reader_who_keeps_the_thread() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let deadline = Deadline::after(300 * MS);
    // All of them are at hand soon.
    let mut rows = deadline.scope(db.stream(Query::new("select generate_series(1, 1000)"))).await.unwrap();
    read(&mut rows, 10).await;
    while !deadline.remaining().is_zero() {
        std::hint::spin_loop();
    }
    let (came, error) = until_error(&mut rows).await;
    assert!(came < 16, "{came}");
    deadline_exceeded(Some(Err::<(), _>(error)));
    is_over(&mut rows).await;
}

#[tokio::test]
async fn the_deadline_of_the_call_wakes_a_reader_who_waits() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let start = Instant::now();
    let query = Query::new(
        "select n, pg_sleep(case when n = 5000 then 30 else 0 end)::text from generate_series(1, 9000) n",
    );
    let mut rows = Deadline::after(300 * MS).scope(db.stream(query)).await.unwrap();
    let mut came = 0;
    let last = loop {
        match rows.next().await {
            Some(Ok(_)) => came += 1,
            last => break last,
        }
    };
    deadline_exceeded(last);
    assert!((300 * MS..1000 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!((1000..5000).contains(&came), "{came}");
    is_over(&mut rows).await;
    until_backends(&spy, ACTIVE, 0).await;
}

#[tokio::test]
async fn a_stream_that_is_read_under_an_earlier_deadline_ends_with_that() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let query = Query::new(
        "select n, pg_sleep(case when n = 5000 then 30 else 0 end)::text from generate_series(1, 9000) n",
    );
    let mut rows = Deadline::after(20 * SOON).scope(db.stream(query)).await.unwrap();
    let start = Instant::now();
    let last = loop {
        match Deadline::at(start + 200 * MS).scope(rows.next()).await {
            Some(Ok(_)) => {}
            last => break last,
        }
    };
    deadline_exceeded(last);
    assert!((200 * MS..1000 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
    is_over(&mut rows).await;

    let passed = Deadline::at(Instant::now());
    let error = passed.scope(db.stream(rows_of(1))).await.unwrap_err();
    assert!(!error.sent() && error.rejected().is_some(), "{error}");
}

/// Reads all that comes, and says how many rows came before the error.
#[tokio::test]
async fn an_earlier_deadline_is_forgotten_with_the_wait_that_it_was_for() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    // A row fills a portion.
    let query = || Query::new("select repeat('x', 9000), pg_sleep(0.1)::text from generate_series(1, 6)");
    for own in [None, Some(Deadline::after(20 * SOON))] {
        let mut rows = match own {
            Some(own) => own.scope(db.stream(query())).await.unwrap(),
            None => db.stream(query()).await.unwrap(),
        };
        for n in 0..6 {
            let row = Deadline::after(400 * MS).scope(rows.next()).await.expect("there are more");
            assert!(row.is_ok(), "row {n}: {:?}", row.err());
        }
        assert!(rows.next().await.is_none());
    }
}

async fn until_error(rows: &mut RowStream<'_>) -> (usize, Error) {
    let mut came = 0;
    loop {
        match timeout(5 * SOON, rows.next()).await.expect("something comes") {
            Some(Ok(_)) => came += 1,
            Some(Err(error)) => return (came, error),
            None => panic!("the end came, after {came} rows"),
        }
    }
}

#[tokio::test]
async fn what_came_before_the_connection_broke_is_given_out() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let db = postgres(&test.url().replace(&test.addr().to_string(), &proxy.addr().to_string()), 1);
    let mut rows = db.stream(rows_of(i32::MAX)).await.unwrap();
    read(&mut rows, 1000).await;
    proxy.cut();
    let (came, error) = until_error(&mut rows).await;
    assert!(matches!(error, Error::Lost { sent: true, .. }), "{error}");
    assert!(came > 0, "what was at hand already");
    is_over(&mut rows).await;
    timeout(SOON, db.query(Query::new("select 1"))).await.expect("on another connection").unwrap();
    assert_eq!(figure(&db, "discarded"), 1.0);
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_is_an_error_behind_the_rows() {
    let server = PostgresServer::start().await;
    let db = postgres(&server.url(), 1);
    let mut rows = db.stream(rows_of(i32::MAX)).await.unwrap();
    read(&mut rows, 1000).await;
    server.kill().await;
    let (_, error) = until_error(&mut rows).await;
    assert!(matches!(error, Error::Lost { sent: true, .. }), "{error}");
    is_over(&mut rows).await;
}

#[tokio::test]
async fn a_connection_that_broke_before_is_replaced() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let db = postgres(&test.url().replace(&test.addr().to_string(), &proxy.addr().to_string()), 1);
    backend(&db).await;
    proxy.cut();
    let mut rows = db.stream(rows_of(10)).await.unwrap();
    assert_eq!(count(&mut rows).await.unwrap(), 10);
}

#[tokio::test]
async fn a_statement_that_fails_in_the_middle_gives_its_rows_and_the_connection_goes_back() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let before = backend(&db).await;
    let divided = Query::new("select n, 1 / (5000 - n) from generate_series(1, 10000) n");
    let mut rows = db.stream(divided).await.unwrap();
    let (came, error) = until_error(&mut rows).await;
    assert_eq!((came, error.sqlstate().map(|state| state.code())), (4999, Some("22012")));
    assert!(matches!(error, Error::Database { sent: true, .. }));
    is_over(&mut rows).await;
    assert_eq!(rows.affected(), None);
    assert_eq!(backend(&db).await, before);
    assert_eq!((figure(&db, "discarded"), figure(&db, "cancelled")), (0.0, 0.0));
}

#[tokio::test]
async fn a_statement_whose_plan_changed_is_run_once_more() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (n int)")).await.unwrap();
    db.query(Query::new("insert into t values (1)")).await.unwrap();
    let all = Query::new("select * from t");
    assert_eq!(count(&mut db.stream(all.clone()).await.unwrap()).await.unwrap(), 1);
    db.query(Query::new("alter table t add column name text default 'x'")).await.unwrap();
    let mut rows = db.stream(all).await.unwrap();
    let row = rows.try_next().await.unwrap().unwrap();
    assert_eq!(row.get::<&str>("name").unwrap(), "x");
    assert!(rows.try_next().await.unwrap().is_none());
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_to_another_task_and_outlives_its_pools_handle() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let mut rows = db.stream(rows_of(50_000)).await.unwrap();
    drop(db);
    let reader = tokio::spawn(async move { count(&mut rows).await });
    assert_eq!(reader.await.unwrap().unwrap(), 50_000);
}

#[test]
fn a_stream_dropped_after_its_runtime_does_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (test, rows) = runtime.block_on(async {
        let test = TestDatabase::new().await;
        let mut rows = postgres(&test.url(), 1).stream(rows_of(i32::MAX)).await.unwrap();
        read(&mut rows, 10).await;
        (test, rows)
    });
    drop(runtime);
    drop(rows);
    drop(test);
}
