//! The cache of prepared statements.

mod support;

use buttress_postgres::{Error, Postgres, PostgresConfig, Query, QueryError};
use buttress_testkit::TestDatabase;
use support::{figure, postgres, spy};

async fn prepared(db: &Postgres) -> i64 {
    db.query(Query::new("select count(*) from pg_prepared_statements"))
        .await
        .unwrap()
        .one()
        .unwrap()
        .get(0)
        .unwrap()
}

#[tokio::test]
async fn regression_33_five_thousand_statements_leave_no_more_than_the_cap() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    for n in 0..5_000 {
        db.query(Query::new(format!("select {n}"))).await.unwrap();
    }
    assert_eq!(prepared(&db).await, 256);

    let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(1).with_statement_cache(4);
    let db = Postgres::new(config).unwrap();
    for n in 0..50 {
        db.query(Query::new("select 'hot'")).await.unwrap();
        db.query(Query::new(format!("select {n}"))).await.unwrap();
    }
    assert_eq!(prepared(&db).await, 4);
    let kept = db.query(
        Query::new("select 1 from pg_prepared_statements where statement = :s").bind("s", "select 'hot'"),
    );
    assert_eq!(kept.await.unwrap().len(), 1, "what is used stays");

    let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(1).with_statement_cache(0);
    let db = Postgres::new(config).unwrap();
    db.query(Query::new("select 1")).await.unwrap();
    assert_eq!(prepared(&db).await, 1, "only the one that counts");
}

#[tokio::test]
async fn regression_33_ddl_under_a_cached_statement_is_not_noticed() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    db.query(Query::new("insert into t values (1)")).await.unwrap();
    let select = Query::new("select * from t where id = :id").bind("id", 1_i32);
    assert_eq!(db.query(select.clone()).await.unwrap().one().unwrap().as_driver().len(), 1);

    db.query(Query::new("alter table t add column name text default 'x'")).await.unwrap();
    let row = db.query(select.clone()).await.unwrap().one().unwrap();
    assert_eq!(row.get::<&str>("name").unwrap(), "x");

    // In a transaction the error comes through once, and the plan is renewed for the next.
    db.query(Query::new("alter table t drop column name")).await.unwrap();
    let in_transaction = || db.transaction(async |tx| Ok::<_, Error>(tx.query(select.clone()).await?.len()));
    let error = in_transaction().await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("0A000"));
    assert_eq!(in_transaction().await.unwrap(), 1);
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn regression_33_statements_that_were_discarded_are_prepared_anew() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let select = Query::new("select 1");
    db.query(select.clone()).await.unwrap();
    // As a proxy between us and the server may do it. Our own text is refused for what it would do to others.
    for (text, keyword) in [("discard all", "DISCARD"), ("deallocate all", "DEALLOCATE")] {
        let refused = db.query(Query::new(text)).await.unwrap_err();
        assert!(refused.to_string().contains(keyword), "{refused}");
    }
    // What DISCARD ALL does to statements.
    db.query(Query::new("do $$ begin execute 'deallocate all'; end $$")).await.unwrap();
    db.query(select).await.unwrap();
}

#[tokio::test]
async fn an_enumeration_made_later_can_be_read() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    spy.batch_execute("create type mood as enum ('sad', 'ok')").await.unwrap();
    let row = db.query(Query::new("select 'ok'::mood::text as m")).await.unwrap().one().unwrap();
    assert_eq!(row.get::<&str>("m").unwrap(), "ok");
}

#[tokio::test]
async fn what_was_carried_out_is_not_repeated_whatever_it_says() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id serial)")).await.unwrap();
    for (name, state) in [("p", "26000"), ("q", "XX000"), ("r", "42704")] {
        let create = format!(
            "create procedure {name}() language plpgsql as $$ begin insert into t default values; commit; \
             raise exception using errcode = '{state}', message = 'no'; end $$"
        );
        db.query(Query::new(create)).await.unwrap();
        for _ in 0..2 {
            let error = db.query(Query::new(format!("call {name}()"))).await.unwrap_err();
            assert_eq!((error.sqlstate().unwrap().code(), error.sent()), (state, true));
        }
    }
    let count = db.query(Query::new("select count(*) from t")).await.unwrap().one().unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 6, "one row for each call");
}

#[tokio::test]
async fn a_parameter_whose_type_changed_is_bound_with_the_new_one() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let select = |id: i64| Query::new("select 1 from t where id = :id").bind("id", id);
    for _ in 0..2 {
        let error = db.query(select(1)).await.unwrap_err();
        assert!(matches!(error, Error::Query { cause: QueryError::Unfit { .. }, .. }), "{error}");
    }
    db.query(Query::new("alter table t alter column id type bigint")).await.unwrap();
    assert!(db.query(select(1)).await.unwrap().is_empty());

    // Nothing was sent, so a transaction goes on as well.
    let narrow = |id: i32| Query::new("select 2 from t where id = :id").bind("id", id);
    assert!(db.query(narrow(1)).await.is_err());
    db.query(Query::new("alter table t alter column id type int")).await.unwrap();
    db.transaction(async |tx| tx.query(narrow(1)).await).await.unwrap();
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn a_type_that_was_dropped_and_made_anew_is_found() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let select = || Query::new("select :m::text::mood::text").bind("m", "sad");
    let insert = || Query::new("insert into t select :m::text::mood::text").bind("m", "sad");
    db.query(Query::new("create table t (m text)")).await.unwrap();
    for in_transaction in [false, true] {
        db.query(Query::new("create type mood as enum ('sad')")).await.unwrap();
        db.query(select()).await.unwrap();
        db.query(insert()).await.unwrap();
        db.query(Query::new("drop type mood")).await.unwrap();
        db.query(Query::new("create type mood as enum ('sad', 'ok')")).await.unwrap();
        if in_transaction {
            // It has failed by then; the next one finds the new type.
            db.transaction(async |tx| tx.query(select()).await).await.unwrap_err();
            db.transaction(async |tx| tx.query(select()).await).await.unwrap();
        }
        db.query(select()).await.unwrap();
        db.query(insert()).await.unwrap();
        db.query(Query::new("drop type mood")).await.unwrap();
    }
    assert_eq!(db.query(Query::new("select 1 from t")).await.unwrap().len(), 4, "each insert happened once");
    let error = db.query(Query::new("select 'sad'::mood")).await.unwrap_err();
    assert_eq!((error.sqlstate().unwrap().code(), error.sent()), ("42704", false));
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn a_connection_that_can_look_up_no_types_any_more_is_replaced() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    for name in ["a", "b", "c"] {
        db.query(Query::new(format!("create type {name} as enum ('x')"))).await.unwrap();
    }
    db.query(Query::new("select 'x'::a")).await.unwrap();
    let deallocate = || Query::new("do $$ begin execute 'deallocate all'; end $$");
    db.query(deallocate()).await.unwrap();
    db.query(Query::new("select 'x'::b")).await.unwrap();
    assert_eq!((figure(&db, "discarded"), figure(&db, "connections")), (1.0, 1.0));

    // Not in a transaction, which has begun on that very connection; but nobody gets it again.
    db.query(deallocate()).await.unwrap();
    let in_transaction = || db.transaction(async |tx| tx.query(Query::new("select 'x'::c")).await);
    let error = in_transaction().await.unwrap_err();
    assert_eq!((error.sqlstate().unwrap().code(), error.sent()), ("26000", false));
    in_transaction().await.unwrap();
    assert_eq!(figure(&db, "discarded"), 2.0);
}

#[tokio::test]
async fn huge_texts_are_not_kept_prepared() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    for n in 0..20 {
        let text = format!("select length('{}')", n.to_string().repeat(20_000));
        db.query(Query::new(text)).await.unwrap();
    }
    assert_eq!(prepared(&db).await, 1, "only the one that counts");
    let error = db.query(Query::new(format!("select '{}', :a::int8", "x".repeat(20_000))).bind("a", "text"));
    assert!(matches!(error.await, Err(Error::Query { cause: QueryError::Unfit { .. }, .. })));
    assert_eq!(prepared(&db).await, 1);
}
