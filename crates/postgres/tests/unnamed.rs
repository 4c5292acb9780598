//! Statements without names, before a server of one's own.

mod support;

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

use buttress_postgres::{
    Error, Postgres, PostgresConfig, Query, QueryError, StatementMode,
    tokio_postgres::types::{FromSql, Type},
};
use buttress_testkit::{Fault, FaultProxy, TestDatabase};
use futures_util::future::try_join_all;
use support::{figure, spy};
use tokio::time::Instant;

fn unnamed(url: &str) -> Postgres {
    let config = PostgresConfig::from_url(url).unwrap().with_pool_size(1);
    Postgres::new(config.with_statement_mode(StatementMode::Unnamed)).unwrap()
}

/// Whatever type a column has, as its bytes.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

#[tokio::test]
async fn nothing_stays_prepared() {
    let test = TestDatabase::new().await;
    let db = unnamed(&test.url());
    for sql in ["create type mood as enum ('sad')", "create type pair as (a int, b text, m mood)"] {
        db.query(Query::new(sql)).await.unwrap();
    }
    for _ in 0..2 {
        for n in 0..10 {
            let query = Query::new(format!("select {n}, :a::int")).bind("a", n);
            assert_eq!(db.query(query).await.unwrap().one().unwrap().get::<i32>(1).unwrap(), n);
        }
        let row = db.query(Query::new("select 'sad'::mood")).await.unwrap().one().unwrap();
        assert_eq!(row.get::<Bytes>(0).unwrap().0, b"sad");
        db.query(Query::new("select array[row(1, 'b', 'sad')::pair]")).await.unwrap().one().unwrap();
        let long = format!("select length('{}')", "x".repeat(20_000));
        db.query(Query::new(long)).await.unwrap();
        // Refused in a transaction, where its types are looked up.
        db.query(Query::new("vacuum")).await.unwrap();
    }
    let count = db.query(Query::new("select count(*) from pg_prepared_statements")).await.unwrap();
    assert_eq!(count.one().unwrap().get::<i64>(0).unwrap(), 0);
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn a_text_that_is_known_takes_one_round_trip() {
    const WAY: Duration = Duration::from_millis(100);
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let db = unnamed(&format!("postgres://postgres@{}/{}", proxy.addr(), test.name()));
    let query = Query::new("select :n::bigint").bind("n", 1_i64);
    db.query(query.clone()).await.unwrap();
    proxy.set(Fault::Latency(WAY));
    let start = Instant::now();
    db.query(query).await.unwrap();
    assert!(start.elapsed() < WAY * 19 / 10, "{:?}", start.elapsed());
    // And the first time three: to look up, to end that, to run.
    let start = Instant::now();
    db.query(Query::new("select :n::int").bind("n", 1)).await.unwrap();
    assert!(start.elapsed() < WAY * 39 / 10, "{:?}", start.elapsed());
}

#[tokio::test]
async fn errors_say_what_they_say_with_names() {
    let test = TestDatabase::new().await;
    let db = unnamed(&test.url());
    db.query(Query::new("create table t (id int primary key)")).await.unwrap();
    for _ in 0..2 {
        let error = db.query(Query::new("selec 1")).await.unwrap_err();
        assert_eq!((error.sqlstate().unwrap().code(), error.sent()), ("42601", false));
        let error = db.query(Query::new("select 1; select 2")).await.unwrap_err();
        assert_eq!((error.sqlstate().unwrap().code(), error.sent()), ("42601", false));
        let error = db.query(Query::new("select :a::bigint").bind("a", 1_i32)).await.unwrap_err();
        assert!(matches!(error, Error::Query { cause: QueryError::Unfit { .. }, .. }), "{error}");
        let error = db.query(Query::new("select 1 / :a::int").bind("a", 0)).await.unwrap_err();
        assert_eq!((error.sqlstate().unwrap().code(), error.sent()), ("22012", true));
    }
    // In a transaction, where the look-up is a part of it.
    let insert = || Query::new("insert into t values (:id)").bind("id", 1_i32);
    let unfit = Query::new("insert into t values (:id)").bind("id", 1_i64);
    db.transaction(async |tx| {
        assert!(matches!(tx.query(unfit).await, Err(Error::Query { .. })));
        tx.query(insert()).await
    })
    .await
    .unwrap();
    let failed = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (2)")).await?;
        tx.query(Query::new("selec 1")).await
    });
    assert_eq!(failed.await.unwrap_err().sqlstate().unwrap().code(), "42601");
    assert_eq!(db.query(Query::new("select * from t")).await.unwrap().len(), 1);
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn what_was_carried_out_is_not_repeated_whatever_it_says() {
    let test = TestDatabase::new().await;
    let db = unnamed(&test.url());
    db.query(Query::new("create table t (id serial)")).await.unwrap();
    for (name, state) in [("p", "26000"), ("q", "XX000"), ("r", "42704"), ("s", "42P05")] {
        let create = format!(
            "create procedure {name}(n int) language plpgsql as $$ begin insert into t default values; commit; \
             raise exception using errcode = '{state}', message = 'no'; end $$"
        );
        db.query(Query::new(create)).await.unwrap();
        for _ in 0..3 {
            let call = Query::new(format!("call {name}(:n)")).bind("n", 1_i32);
            let error = db.query(call).await.unwrap_err();
            assert_eq!((error.sqlstate().unwrap().code(), error.sent()), (state, true));
        }
    }
    let count = db.query(Query::new("select count(*) from t")).await.unwrap().one().unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 12, "one row for each call");
}

#[tokio::test]
async fn types_that_changed_are_looked_up_anew() {
    let test = TestDatabase::new().await;
    let (db, spy) = (unnamed(&test.url()), spy(test.config()).await);
    spy.batch_execute("create table t (id int); insert into t values (7)").await.unwrap();
    let narrow = || Query::new("select 1 from t where id = :id").bind("id", 7_i32);
    let wide = || Query::new("select 1 from t where id = :id").bind("id", 7_i64);
    assert_eq!(db.query(narrow()).await.unwrap().len(), 1);
    spy.batch_execute("alter table t alter column id type bigint").await.unwrap();
    assert_eq!(db.query(wide()).await.unwrap().len(), 1);
    db.transaction(async |tx| tx.query(wide()).await).await.unwrap();

    // The server finds that out, and only before it runs it.
    let text = || Query::new("select 2 from t where id = :id").bind("id", "7");
    spy.batch_execute("alter table t alter column id type text").await.unwrap();
    assert_eq!(db.query(text()).await.unwrap().len(), 1);
    spy.batch_execute("alter table t alter column id type int using id::int").await.unwrap();
    assert!(matches!(db.query(text()).await, Err(Error::Query { cause: QueryError::Unfit { .. }, .. })));

    // A type that was made anew has another number.
    let mood = || Query::new("select :m::text::mood, :m::text").bind("m", "sad");
    for _ in 0..2 {
        spy.batch_execute("create type mood as enum ('sad')").await.unwrap();
        let outcome = db.query(mood()).await;
        // Known to be another only when its row is described, which is when it has run already.
        if let Err(error) = outcome {
            assert!(error.sent(), "{error}");
        }
        db.query(mood()).await.unwrap();
        spy.batch_execute("drop type mood").await.unwrap();
    }
}

#[tokio::test]
async fn a_column_of_a_new_type_is_read() {
    let test = TestDatabase::new().await;
    let (db, spy) = (unnamed(&test.url()), spy(test.config()).await);
    spy.batch_execute("create table t (id int); insert into t values (1)").await.unwrap();
    let all = || Query::new("select * from t where id = :id").bind("id", 1_i32);
    assert_eq!(db.query(all()).await.unwrap().one().unwrap().as_driver().len(), 1);
    spy.batch_execute("create type mood as enum ('sad'); alter table t add column m mood").await.unwrap();
    assert_eq!(db.query(all()).await.unwrap().one().unwrap().as_driver().len(), 2);
}

#[tokio::test]
async fn texts_that_are_looked_up_at_once_in_a_transaction_are_not_in_each_others_way() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let types =
        "create type mood as enum ('sad'); create type pair as (a int, m mood); create type deep as (p pair)";
    spy.batch_execute(types).await.unwrap();
    // Each with a driver that has not looked up anything yet: the third takes it the most steps.
    let db = unnamed(&test.url());
    let read = db.transaction(async |tx| {
        let texts = ["select 1", "select 'sad'::mood", "select row(row(1, 'sad')::pair)::deep", "select 2"];
        try_join_all(texts.map(|text| tx.query(Query::new(text)))).await
    });
    assert_eq!(read.await.unwrap().len(), 4);
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn statements_of_a_transaction_are_looked_up_at_the_same_time() {
    let test = TestDatabase::new().await;
    let (db, spy) = (unnamed(&test.url()), spy(test.config()).await);
    for n in 0..20 {
        spy.batch_execute(&format!("create type mood{n} as enum ('sad')")).await.unwrap();
    }
    let sad = |n: i32| Query::new(format!("select 'sad'::mood{n}"));
    // From now on the driver has statements of its own.
    db.transaction(async |tx| tx.query(sad(0)).await).await.unwrap();
    for n in 1..20 {
        let result = db
            .transaction(async |tx| {
                tokio::try_join!(tx.query(Query::new(format!("select {n}"))), tx.query(sad(n)))
            })
            .await;
        assert!(result.is_ok(), "{n}: {:?}", result.err());
    }

    // The one that needs no names ends last, after one to which it owes them. Nor does it matter that nobody polls it.
    let db = unnamed(&test.url());
    for n in 0..3 {
        let result = db
            .transaction(async |tx| {
                let mut beside = Box::pin(tx.query(Query::new(format!("select {n}"))));
                assert!(poll_fn(|cx| Poll::Ready(beside.as_mut().poll(cx).is_pending())).await);
                tx.query(sad(n)).await?;
                beside.await
            })
            .await;
        assert!(result.is_ok(), "{n}: {:?}", result.err());
    }
}
