//! Behind PgBouncer in transaction mode, with fewer of the server's connections than there are clients.

mod support;

use std::{collections::HashSet, time::Duration};

use buttress_postgres::{
    Error, Postgres, PostgresConfig, Query, StatementMode,
    tokio_postgres::{
        Client, Config,
        types::{FromSql, Type},
    },
};
use buttress_testkit::{Fault, FaultProxy, PgBouncer, TestDatabase};
use support::{SLEEPING, backend, figure, spy, until_backends};
use tokio::time::timeout;

fn postgres(bouncer: &PgBouncer, test: &TestDatabase, size: usize, mode: StatementMode) -> Postgres {
    let config = PostgresConfig::from_url(&bouncer.url_of(test.name())).unwrap().with_pool_size(size);
    Postgres::new(config.with_wait_timeout(Duration::from_secs(30)).with_statement_mode(mode)).unwrap()
}

fn unnamed(bouncer: &PgBouncer, test: &TestDatabase, size: usize) -> Postgres {
    postgres(bouncer, test, size, StatementMode::Unnamed)
}

/// A client beside ours, which can hold one of the server's connections for as long as it likes.
async fn neighbour(bouncer: &PgBouncer, test: &TestDatabase) -> Client {
    let config: Config = bouncer.url_of(test.name()).parse().unwrap();
    spy(config).await
}

struct Mood(String);

impl<'a> FromSql<'a> for Mood {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(ty: &Type) -> bool {
        ty.name().starts_with("mood")
    }
}

#[tokio::test]
async fn named_statements_are_missed_on_another_connection_and_unnamed_ones_are_not() {
    let test = TestDatabase::new().await;
    let bouncer = PgBouncer::start(test.addr(), 2).await;
    for (mode, expected) in [(StatementMode::Named, Some("26000")), (StatementMode::Unnamed, None)] {
        let db = postgres(&bouncer, &test, 1, mode);
        let neighbour = neighbour(&bouncer, &test).await;
        let query = || Query::new("select :n::int + pg_backend_pid()").bind("n", 0);
        let before: i32 = db.query(query()).await.unwrap().one().unwrap().get(0).unwrap();
        // The pooler gives out the connection that was used last. The next one has another.
        neighbour.batch_execute("begin").await.unwrap();
        let here: i32 = neighbour.query_typed("select pg_backend_pid()", &[]).await.unwrap()[0].get(0);
        assert_eq!(here, before);
        let outcome = db.transaction(async |tx| tx.query(query()).await).await;
        match expected {
            Some(state) => assert_eq!(outcome.unwrap_err().sqlstate().unwrap().code(), state),
            None => assert_ne!(outcome.unwrap().one().unwrap().get::<i32>(0).unwrap(), before),
        }
        neighbour.batch_execute("commit").await.unwrap();
    }
}

/// One round of a client: values of many types, and a transfer between two accounts.
async fn work(db: &Postgres, round: i64) -> Result<i32, Error> {
    let values = Query::new(
        "insert into facts (number, small, amount, name, is_true, raw, list, mood, point)
         values (:number, :small, :amount, :name, :is_true, :raw, :list, :mood::text::mood, :point::int)
         returning id, mood, pair",
    )
    .bind("number", round)
    .bind("small", i16::try_from(round).unwrap())
    .bind("amount", 0.5_f64)
    .bind("name", Some("Ada"))
    .bind("is_true", true)
    .bind("raw", vec![0_u8, 255])
    .bind("list", vec!["a", "b"])
    .bind("mood", "sad")
    .bind("point", None::<i32>);
    let row = db.query(values).await?.one()?;
    assert_eq!(row.get::<Mood>("mood")?.0, "sad");
    let id: i32 = row.get("id")?;
    let found = Query::new("select number, list, raw from facts where id = :id and name = :name");
    let row = db.query(found.bind("id", id).bind("name", "Ada")).await?.one()?;
    assert_eq!(
        (row.get::<i64>(0)?, row.get::<Vec<String>>(1)?),
        (round, vec!["a".to_owned(), "b".to_owned()])
    );

    db.transaction(async |tx| {
        let pid = async || tx.query(Query::new("select pg_backend_pid()")).await?.one()?.get::<i32>(0);
        let before = pid().await?;
        for (id, by) in [(1_i32, -1_i64), (2, 1)] {
            let change = Query::new("update accounts set amount = amount + :by where id = :id");
            assert_eq!(tx.query(change.bind("by", by).bind("id", id)).await?.affected(), 1);
        }
        let row =
            tx.query(Query::new("select 'glad'::mood_after, :a::bigint").bind("a", round)).await?.one()?;
        assert_eq!((row.get::<Mood>(0)?.0.as_str(), row.get::<i64>(1)?), ("glad", round));
        assert_eq!(pid().await?, before);
        Ok(before)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_two_connections() {
    const CLIENTS: i64 = 6;
    const ROUNDS: i64 = 10;
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    spy.batch_execute(
        "create type mood as enum ('sad'); create type mood_after as enum ('glad');
         create type pair as (a int, m mood); create domain coordinate as int;
         create table facts (id serial, number bigint, small smallint, amount float8, name text, is_true bool,
            raw bytea, list text[], mood mood, point coordinate, pair pair default row(1, 'sad')::pair);
         create table accounts (id int, amount bigint); insert into accounts values (1, 100), (2, 0)",
    )
    .await
    .unwrap();
    let bouncer = PgBouncer::start(test.addr(), 2).await;

    // Pools of their own, as processes of their own have them.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let db = unnamed(&bouncer, &test, 3);
            tokio::spawn(async move {
                let mut pids = HashSet::new();
                for round in 0..ROUNDS {
                    let three = tokio::join!(work(&db, round), work(&db, round), work(&db, round));
                    pids.extend([three.0.unwrap(), three.1.unwrap(), three.2.unwrap()]);
                }
                assert_eq!((figure(&db, "discarded"), figure(&db, "cancelled")), (0.0, 0.0));
                pids
            })
        })
        .collect();
    let mut pids = HashSet::new();
    for client in clients {
        pids.extend(client.await.unwrap());
    }
    assert_eq!(pids.len(), 2, "the server's connections were shared: {pids:?}");

    let done = CLIENTS * ROUNDS * 3;
    let sums = spy.query("select amount from accounts order by id", &[]).await.unwrap();
    assert_eq!((sums[0].get::<_, i64>(0), sums[1].get::<_, i64>(0)), (100 - done, done));
    assert_eq!(spy.query_one("select count(*) from facts", &[]).await.unwrap().get::<_, i64>(0), done);
    nothing_is_left(&bouncer, &test).await;
}

/// On neither of the server's two connections.
async fn nothing_is_left(bouncer: &PgBouncer, test: &TestDatabase) {
    let mut pids = HashSet::new();
    let neighbours = [neighbour(bouncer, test).await, neighbour(bouncer, test).await];
    for neighbour in &neighbours {
        neighbour.batch_execute("begin").await.unwrap();
        let look = "select count(*), pg_backend_pid() from pg_prepared_statements";
        let row = neighbour.query_typed(look, &[]).await.unwrap().remove(0);
        assert_eq!(row.get::<_, i64>(0), 0, "statements stayed prepared");
        pids.insert(row.get::<_, i32>(1));
    }
    assert_eq!(pids.len(), 2);
}

#[tokio::test]
async fn types_of_ones_own_are_looked_up_on_whatever_connection_there_is() {
    let test = TestDatabase::new().await;
    let (bouncer, spy) = (PgBouncer::start(test.addr(), 2).await, spy(test.config()).await);
    let (db, neighbour) = (unnamed(&bouncer, &test, 1), neighbour(&bouncer, &test).await);
    let mut pids = HashSet::new();
    for n in 0..6 {
        spy.batch_execute(&format!(
            "create type mood{n} as enum ('sad'); create type pair{n} as (a int, m mood{n})"
        ))
        .await
        .unwrap();
        // Each time another of the server's connections.
        if n % 2 == 1 {
            neighbour.batch_execute("begin").await.unwrap();
        }
        pids.insert(backend(&db).await);
        let query =
            || Query::new(format!("select 'sad'::mood{n}, row(1, 'sad')::pair{n}, array['sad'::mood{n}]"));
        if n % 3 == 0 {
            let row = db.transaction(async |tx| tx.query(query()).await).await.unwrap().one().unwrap();
            assert_eq!(row.get::<Mood>(0).unwrap().0, "sad");
        }
        let row = db.query(query()).await.unwrap().one().unwrap();
        assert_eq!(row.get::<Mood>(0).unwrap().0, "sad");
        if n % 2 == 1 {
            neighbour.batch_execute("commit").await.unwrap();
        }
    }
    assert_eq!(pids.len(), 2);
    assert_eq!(figure(&db, "discarded"), 0.0);
    nothing_is_left(&bouncer, &test).await;
}

#[tokio::test]
async fn a_column_of_a_type_that_is_new_costs_one_call_at_most() {
    let test = TestDatabase::new().await;
    let (bouncer, spy) = (PgBouncer::start(test.addr(), 2).await, spy(test.config()).await);
    spy.batch_execute("create table t (id serial)").await.unwrap();
    for pool_size in [1, 2] {
        let db = unnamed(&bouncer, &test, pool_size);
        let insert = || Query::new("insert into t default values returning *");
        let count = async || spy.query_one("select count(*) from t", &[]).await.unwrap().get::<_, i64>(0);
        for n in 0..3 {
            db.query(insert()).await.unwrap();
            let name = format!("mood_{pool_size}_{n}");
            let add = format!(
                "create type {name} as enum ('sad'); alter table t add column {name} {name} default 'sad'"
            );
            spy.batch_execute(&add).await.unwrap();
            let before = count().await;
            if let Err(error) = db.query(insert()).await {
                assert!(error.sent(), "{error}");
            }
            assert_eq!(count().await, before + 1, "it was carried out once");
            let row = db.query(insert()).await.unwrap().one().unwrap();
            assert_eq!(row.get::<Mood>(name.as_str()).unwrap().0, "sad");
        }
    }
}

#[tokio::test]
async fn names_that_others_left_behind_are_not_in_the_way() {
    let test = TestDatabase::new().await;
    let bouncer = PgBouncer::start(test.addr(), 1).await;
    let neighbour = neighbour(&bouncer, &test).await;
    let db = unnamed(&bouncer, &test, 1);
    // Such as the driver gives: it counts all that this process prepares.
    let left: String = (0..2_000).map(|n| format!("prepare s{n} as select 'wrong';")).collect();
    for in_transaction in [false, true] {
        neighbour.batch_execute(&left).await.unwrap();
        let query = Query::new(format!("select :n::int, {in_transaction}")).bind("n", 1);
        let row = match in_transaction {
            false => db.query(query).await,
            true => db.transaction(async |tx| tx.query(query).await).await,
        };
        assert_eq!(row.unwrap().one().unwrap().get::<i32>(0).unwrap(), 1);
    }
}

#[tokio::test]
async fn what_is_given_up_is_cancelled_through_the_pooler() {
    let test = TestDatabase::new().await;
    let (bouncer, spy) = (PgBouncer::start(test.addr(), 2).await, spy(test.config()).await);
    let db = unnamed(&bouncer, &test, 2);
    let sleeper = || Query::new("select pg_sleep(:seconds)").bind("seconds", 30_f64);
    for in_transaction in [false, true] {
        let cut_off = match in_transaction {
            false => timeout(Duration::from_millis(300), db.query(sleeper())).await.is_err(),
            true => {
                let work = db.transaction(async |tx| tx.query(sleeper()).await);
                timeout(Duration::from_millis(300), work).await.is_err()
            }
        };
        assert!(cut_off);
        let cancelled_after = until_backends(&spy, SLEEPING, 0).await;
        assert!(cancelled_after < Duration::from_secs(1), "{cancelled_after:?}");
        timeout(Duration::from_secs(2), db.query(Query::new("select 1"))).await.expect("soon").unwrap();
    }
    assert_eq!(figure(&db, "cancelled"), 2.0);
}

#[tokio::test]
async fn a_pooler_that_does_not_answer_does_not_keep_another_from_cancelling() {
    let test = TestDatabase::new().await;
    let (bouncer, spy) = (PgBouncer::start(test.addr(), 2).await, spy(test.config()).await);
    let first = FaultProxy::start(bouncer.addr()).await;
    first.set(Fault::Refuse);
    let url = format!("postgres://postgres@{},{}/{}", first.addr(), bouncer.addr(), test.name());
    let config = PostgresConfig::from_url(&url).unwrap().with_statement_mode(StatementMode::Unnamed);
    let db = Postgres::new(config).unwrap();
    backend(&db).await;
    first.set(Fault::BlackHole);
    let sleeper = Query::new("select pg_sleep(30)");
    assert!(timeout(Duration::from_millis(300), db.query(sleeper)).await.is_err());
    let cancelled_after = until_backends(&spy, SLEEPING, 0).await;
    assert!(cancelled_after < Duration::from_secs(1), "{cancelled_after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_up_dropped_at_any_time_leaves_nothing() {
    let test = TestDatabase::new().await;
    let (bouncer, spy) = (PgBouncer::start(test.addr(), 2).await, spy(test.config()).await);
    spy.batch_execute("create type mood as enum ('sad')").await.unwrap();
    let db = unnamed(&bouncer, &test, 4);
    db.query(Query::new("select 0")).await.unwrap();
    for step in 0..60_u64 {
        // Each one is a text that is not known yet.
        let query = Query::new(format!("select {step}, 'sad'::mood, :n::int")).bind("n", 1);
        let _done_or_not = timeout(Duration::from_micros(step * 100), db.query(query)).await;
    }
    let row =
        timeout(Duration::from_secs(5), db.query(Query::new("select 'sad'::mood"))).await.expect("soon");
    assert_eq!(row.unwrap().one().unwrap().get::<Mood>(0).unwrap().0, "sad");
    until_backends(&spy, "state like 'idle in transaction%'", 0).await;
    nothing_is_left(&bouncer, &test).await;
}
