//! Slow statements and their plans, on a real server.

mod support;

use std::time::Duration;

use buttress_core::Deadline;
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, QueryError, SlowQuery};
use buttress_testkit::TestDatabase;
use support::{backend, figure, postgres, spy, until_backends};
use tokio::time::{Instant, timeout};

fn slow_after(url: &str, threshold: Duration) -> Postgres {
    let config = PostgresConfig::from_url(url).unwrap().with_name("slow-db").with_pool_size(1);
    Postgres::new(config.with_slow_query(threshold)).unwrap()
}

const THRESHOLD: Duration = Duration::from_millis(200);

fn only(db: &Postgres) -> SlowQuery {
    let slow = db.slow_queries(9);
    assert_eq!(slow.len(), 1, "{slow:?}");
    slow.into_iter().next().unwrap()
}

#[tokio::test]
async fn the_slow_ones_are_counted_and_listed_by_the_worst() {
    let test = TestDatabase::new().await;
    let db = slow_after(&test.url(), THRESHOLD);
    let start = Instant::now();
    for seconds in [0.0, 0.25, 0.5, 0.22] {
        db.query(Query::new("select pg_sleep(:seconds)").bind("seconds", seconds)).await.unwrap();
    }
    db.transaction(async |tx| tx.query(Query::new("select pg_sleep(0.8), 'hunter2'")).await).await.unwrap();

    assert_eq!(figure(&db, "slow_queries"), 4.0);
    let slow = db.slow_queries(9);
    let texts: Vec<_> = slow.iter().map(SlowQuery::text).collect();
    assert_eq!(texts, ["select pg_sleep(?), ?", "select pg_sleep(:seconds)"]);
    assert_eq!((slow[1].count(), slow[1].failed(), slow[1].given_up()), (3, 0, 0));
    assert!(slow[1].worst() >= Duration::from_millis(500) && slow[1].worst() < slow[0].worst());
    assert!(slow[0].last_seen() > slow[1].last_seen() && slow[1].last_seen() > start);
    assert!(!format!("{slow:?}").contains("hunter2"));
    assert_eq!(db.slow_queries(1).len(), 1);
}

#[tokio::test]
async fn a_query_that_was_given_up_because_it_was_slow_is_recorded() {
    let test = TestDatabase::new().await;
    let db = slow_after(&test.url(), THRESHOLD);
    db.query(Query::new("select 1")).await.unwrap();
    let sleeper = || Query::new("select pg_sleep(30)");
    let limit = THRESHOLD * 2;
    // Dropped, under a deadline, in a transaction, and by the server.
    assert!(timeout(limit, db.query(sleeper())).await.is_err());
    Deadline::after(limit).scope(db.query(sleeper())).await.unwrap_err();
    let in_transaction = db.transaction(async |tx| tx.query(sleeper()).await);
    Deadline::after(limit).scope(in_transaction).await.unwrap_err();
    let cut_off = db.transaction(async |tx| {
        tx.query(Query::new("set local statement_timeout = 400")).await?;
        tx.query(sleeper()).await
    });
    cut_off.await.unwrap_err();
    // And before it was slow.
    assert!(timeout(THRESHOLD / 10, db.query(sleeper())).await.is_err());

    let slow = only(&db);
    assert_eq!((slow.text(), slow.count(), slow.given_up(), slow.failed()), ("select pg_sleep(?)", 4, 3, 1));
    assert!(slow.worst() >= THRESHOLD && slow.worst() < THRESHOLD * 20, "{slow:?}");
    assert_eq!(figure(&db, "slow_queries"), 4.0);
}

#[tokio::test]
async fn the_wait_for_a_connection_is_not_slowness() {
    let test = TestDatabase::new().await;
    let threshold = Duration::from_millis(600);
    let db = slow_after(&test.url(), threshold);
    let one = || db.query(Query::new("select pg_sleep(0.15)"));
    let rows = tokio::try_join!(one(), one(), one(), one(), one(), one());
    assert!(rows.is_ok());
    assert_eq!(figure(&db, "slow_queries"), 0.0);
    assert!(figure(&db, "waited_time") > threshold.as_micros() as f64);
}

async fn shop(url: &str) -> Postgres {
    let db = postgres(url, 1);
    for sql in [
        "create table customers (id int primary key, name text)",
        "create table orders (id int primary key, customer int references customers, total numeric, placed timestamptz)",
        "create table effects (at text)",
        "create function effect(t text) returns int language plpgsql volatile as \
         $$ begin insert into effects values (t); return 1; end $$",
        "create function lying(t text) returns int language plpgsql immutable as \
         $$ begin insert into effects values (t); return 1; end $$",
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
    db
}

/// Nothing was executed and nothing is left.
async fn nothing_is_left(db: &Postgres, pid: i32) {
    assert_eq!(backend(db).await, pid, "the connection was lost");
    let count = async |sql: &'static str| -> i64 {
        db.query(Query::new(sql)).await.unwrap().one().unwrap().get(0).unwrap()
    };
    assert_eq!(count("select count(*) from effects").await, 0);
    assert_eq!(count("select count(*) from customers").await, 0);
    assert_eq!(count("select count(*) from pg_prepared_statements where name ~ 'buttress'").await, 0);
    assert_eq!(
        count("select count(*) from pg_settings where name = 'plan_cache_mode' and setting <> 'auto'").await,
        0
    );
    assert_eq!(
        count("select count(*) from pg_settings where name = 'transaction_read_only' and setting = 'on'")
            .await,
        0
    );
}

#[tokio::test]
async fn explain_shows_a_plan_and_executes_nothing() {
    let test = TestDatabase::new().await;
    let db = shop(&test.url()).await;
    let pid = backend(&db).await;

    let join = "select c.name, sum(o.total), effect(:tag) from orders o join customers c on c.id = o.customer \
                where o.placed > :since and c.name = :name group by c.name order by 2 limit :most;";
    let plan = db.explain(join).await.unwrap();
    for part in ["Limit", "Join", "orders", "customers", "$2", "$3", "cost="] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(plan.lines().count() > 5 && !plan.contains("actual"), "{plan}");

    for text in [
        "insert into customers select 1, effect(:name)::text",
        "update customers set name = effect(:name)::text where id = :id",
        "delete from customers where effect(:name) = 1",
        "merge into customers c using orders o on c.id = o.id when matched then delete",
        "with gone as (delete from customers returning effect('a')) select * from gone",
        "values (effect('a'), :b::int)",
        "table customers",
        "(select effect('a')) union all (select 2) -- ;",
    ] {
        let plan = db.explain(text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(plan.contains("cost="), "{text}: {plan}");
    }
    nothing_is_left(&db, pid).await;
}

#[tokio::test]
async fn no_text_can_make_explain_execute_anything() {
    let test = TestDatabase::new().await;
    let db = shop(&test.url()).await;
    // The lexer takes all that follows the backslash for a string; such a server does not.
    let url = format!("{}?options=-c%20standard_conforming_strings%3Doff", test.url());
    let lax = postgres(&url, 1);
    for db in [&db, &lax] {
        let pid = backend(db).await;
        for text in [
            "select 1; select effect('a')",
            "select 1;\n;insert into effects values ('a')",
            "select 1) ; select effect('a') --",
            "; select effect('a')",
            "analyze effects",
            "explain analyze select effect('a')",
            "execute buttress_explained",
            "do $$ begin perform effect('a'); end $$",
            "call effect('a')",
            "create table made as select effect('a')",
            "select effect('a') into made",
            "refresh materialized view x",
            "vacuum",
            "commit",
            "select '\\'' ; insert into effects values ('a'); --'",
            "select '\\'; insert into effects values ($$a$$); commit; select \\''",
            "select '\\''; commit; insert into effects values ($$a$$); begin; --'",
            "select e'\\''; insert into effects values ('a') --'",
            "select 1 /* /* */ ; insert into effects values ('a') -- */ */",
            "select $a$ $a$; insert into effects values ('a')",
            "select lying('a')",
            "select * from customers where id = lying('a')",
            "select nope",
            "select",
            "(",
            "select $1",
            "select 'never closed",
        ] {
            let outcome = db.explain(text).await;
            let plan = outcome.as_deref().unwrap_or_default();
            assert!(plan.is_empty() || text == "select" || plan.contains("Result"), "{text}: {plan}");
            if let Err(error) = outcome {
                assert!(!error.sent(), "{text}: {error}");
            }
            nothing_is_left(db, pid).await;
        }
    }
    let several = db.explain("select 1; select 2").await.unwrap_err();
    assert!(matches!(&several, Error::Query { cause: QueryError::NotExplained(_), .. }), "{several}");
}

#[tokio::test]
async fn a_slow_one_is_explained_by_its_original() {
    let test = TestDatabase::new().await;
    let db = slow_after(&test.url(), Duration::ZERO);
    let query =
        Query::new("select * from pg_class where relname = :name and relpages > 98765").bind("name", "x");
    db.query(query).await.unwrap();
    let slow = only(&db);
    assert_eq!(slow.text(), "select * from pg_class where relname = :name and relpages > ?");
    let plan = db.explain(&slow).await.unwrap();
    assert!(plan.contains("pg_class") && plan.contains("$1") && plan.contains("98765"), "{plan}");
    // It counts as none.
    assert_eq!(only(&db).count(), 1);

    let names: Vec<_> = (0..3_000).map(|n| format!("n{n}")).collect();
    let long = format!("select '{}'", names.join(", "));
    db.query(Query::new(long)).await.unwrap();
    let long = db.slow_queries(9).into_iter().find(|slow| slow.text() == "select ?").unwrap();
    let error = db.explain(&long).await.unwrap_err();
    assert!(matches!(&error, Error::Query { cause: QueryError::NotExplained(_), .. }), "{error}");
}

#[tokio::test]
async fn explain_has_the_deadline_and_is_cancelled() {
    let test = TestDatabase::new().await;
    let db = shop(&test.url()).await;
    let mut holder = spy(test.config()).await;
    let watcher = spy(test.config()).await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("lock table customers in access exclusive mode").await.unwrap();
    let text = "select * from customers where id = :id";
    let explaining = Deadline::after(Duration::from_millis(200)).scope(db.explain(text));
    let error = explaining.await.unwrap_err();
    assert!(!error.sent(), "{error}");
    assert!(timeout(Duration::from_millis(200), db.explain(text)).await.is_err());
    until_backends(&watcher, "wait_event_type = 'Lock'", 0).await;
    lock.rollback().await.unwrap();
    assert!(db.explain(text).await.unwrap().contains("customers"));
    let pid = backend(&db).await;
    nothing_is_left(&db, pid).await;
}
