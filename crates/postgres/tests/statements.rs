//! The cache of prepared statements.

mod support;

use buttress_postgres::{Error, Postgres, PostgresConfig, Query};
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
async fn regression_33_a_thousand_statements_leave_no_more_than_the_cap() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    for n in 0..1_000 {
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
async fn regression_33_statements_that_were_deallocated_are_prepared_anew() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let select = Query::new("select 1");
    db.query(select.clone()).await.unwrap();
    // As a proxy between us and the server may do it. Our own text is refused for what it would do to others.
    let refused = db.query(Query::new("deallocate all")).await.unwrap_err();
    assert!(refused.to_string().contains("DEALLOCATE"), "{refused}");
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
