//! Queries, rows, transactions and what goes wrong with them.

mod support;

use buttress_core::{Classify, Outcome};
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, QueryError, SqlStateClassifier};
use buttress_testkit::TestDatabase;
use support::{figure, postgres};
use tower::{Service, ServiceExt};

fn outcome(error: Error) -> Outcome {
    SqlStateClassifier.classify(&Err::<(), _>(error))
}

#[tokio::test]
async fn parameters_of_many_kinds_come_back() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    let query = Query::new(
        "select :i::int8 as i, :t as t, :b::bytea as b, :n::int4 is null as n, ':i' as quoted, \
         (array[:t, 'z'])[1:1] as a, (array[10, 20, 30])[(:k):(:k)] as s, '{\"x\": 1}'::jsonb ? 'x' as j -- :c",
    )
    .bind("i", i64::MAX)
    .bind("t", "it's :t".to_owned())
    .bind("b", vec![0_u8, 255])
    .bind("n", None::<i32>)
    .bind("k", 2_i32);
    let row = db.query(query).await.unwrap().one().unwrap();
    assert_eq!(row.get::<i64>("i").unwrap(), i64::MAX);
    assert_eq!(row.get::<&str>("t").unwrap(), "it's :t");
    assert_eq!(row.get::<Vec<u8>>("b").unwrap(), [0, 255]);
    assert!(row.get::<bool>("n").unwrap() && row.get::<bool>("j").unwrap());
    assert_eq!(row.get::<&str>("quoted").unwrap(), ":i");
    assert_eq!(row.get::<Vec<String>>("a").unwrap(), ["it's :t"]);
    assert_eq!(row.get::<Vec<i32>>("s").unwrap(), [20]);
}

/// Were a text cut up otherwise than the server does it, the server would find another number of parameters.
#[tokio::test]
async fn the_server_reads_the_texts_as_we_do() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (n int, a int[], \"q:x\" int)")).await.unwrap();
    for text in [
        r"select :x::int4, '\', E'\':x', U&'\0041:x', N':x', B'1', X'1F'",
        "select E'a'\n'b\\':x', :x::int4",
        "select E'a' -- :x '\n 'b\\'', :x::int4",
        "select $$:x '$x$ $$, $x$ $$ :x $x$, $größe$ :x $größe$, :x::int4",
        "select /* :x /* ' */ \" :x */ :x::int4 -- :x ' \"",
        "select -- ' :x\r :x::int4",
        "select a[1:n], a[:n], a[n:], a[:], a[(:x::int4)], a[ :x ], a[1: :x], a[(:x):n] from t",
        "select \"q:x\", a[\"q:x\":n], a[a[1]:n] from t limit:x::int4",
        "select (array[:x::int4, 2, n])[1:n] from t where n = any(array[:x, n])",
        "select a[case when n = :x::int4 then :x else 1 end] from t",
        "select make_interval(days := :x::int4), make_interval(days :=:x)",
        "select '{\"a:x\": 1}'::jsonb ? 'a', '[1]'::jsonb @> '1', 5 - -:x::int4, @ -:x::int4, 2 ^ :x::int4",
        "; ; (select :x::int4);",
    ] {
        let result = db.query(Query::new(text).bind("x", 1_i32)).await;
        assert!(result.is_ok(), "{text}: {}", result.unwrap_err());
    }
}

#[tokio::test]
async fn rows_are_counted() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    let created = db.query(Query::new("create table t (id int8 primary key, name text)")).await.unwrap();
    assert_eq!((created.affected(), created.len()), (0, 0));
    let inserted =
        db.query(Query::new("insert into t select g, 'n' || g from generate_series(1, 3) g")).await.unwrap();
    assert_eq!(inserted.affected(), 3);

    let all = Query::new("select id, name from t order by id");
    let rows = db.query(all.clone()).await.unwrap();
    assert_eq!((rows.len(), rows.affected(), rows.is_empty()), (3, 3, false));
    let ids: Vec<i64> = rows.into_iter().map(|row| row.get("id").unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);

    let error = db.query(all.clone()).await.unwrap().one().unwrap_err();
    assert!(matches!(error, Error::TooMany { rows: 3, .. }), "{error}");
    assert!(matches!(db.query(all).await.unwrap().optional(), Err(Error::TooMany { rows: 3, .. })));
    let none = Query::new("select id from t where id = :id").bind("id", 9_i64);
    assert!(db.query(none.clone()).await.unwrap().optional().unwrap().is_none());
    let error = db.query(none).await.unwrap().one().unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(outcome(error), Outcome::Ignored);
}

#[tokio::test]
async fn a_column_is_refused_by_name() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let row = db.query(Query::new("select 'secret' as t, null::int as n")).await.unwrap().one().unwrap();
    for (error, says) in [
        (row.get::<i32>("t").unwrap_err(), "column `t`: cannot convert between the Rust type `i32`"),
        (row.get::<i32>("n").unwrap_err(), "column `n`: a Postgres value was `NULL`"),
        (row.get::<i32>("x").unwrap_err(), "column `x`: there is no such column"),
        (row.get::<i32>(7).unwrap_err(), "column `7`: there is no such column"),
    ] {
        assert!(matches!(error, Error::Decode { .. }));
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error:?}{row:?}").contains("secret"));
    }
}

#[tokio::test]
async fn wrong_queries_are_refused_by_name_before_anything_is_sent() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    for (query, expected) in [
        (Query::new("select :a"), QueryError::Missing("a".into())),
        (Query::new("select 1").bind("a", 1), QueryError::Unknown("a".into())),
        (Query::new("select ':a'").bind("a", 1), QueryError::Unknown("a".into())),
        (Query::new("select :a").bind("a", 1).bind("a", 1), QueryError::Twice("a".into())),
        (Query::new("select $1"), QueryError::Positional("$1".into())),
    ] {
        match db.query(query).await.unwrap_err() {
            Error::Query { cause, .. } => assert_eq!(cause, expected),
            other => panic!("{other}"),
        }
    }
    assert_eq!(figure(&db, "connections"), 0.0);

    // Which type is wanted is known to the server alone.
    let error = db.query(Query::new("select :id::int8").bind("id", "4711")).await.unwrap_err();
    assert!(matches!(&error, Error::Query { cause: QueryError::Unfit { name, .. }, .. } if &**name == "id"));
    assert!(!error.sent() && !format!("{error:?}").contains("4711"), "{error:?}");
    assert_eq!(outcome(error), Outcome::Ignored);
    assert_eq!((figure(&db, "connections"), figure(&db, "discarded")), (1.0, 0.0));
}

#[tokio::test]
async fn what_the_server_says_is_shown_without_its_detail() {
    let test = TestDatabase::new().await;
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_name("orders-db").with_pool_size(1);
    let db = Postgres::new(config).unwrap();
    db.query(Query::new("create table t (secret text primary key)")).await.unwrap();
    let insert = Query::new("insert into t values (:s)").bind("s", "hunter2");
    db.query(insert.clone()).await.unwrap();
    let error = db.query(insert).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "postgres `orders-db`: ERROR 23505: duplicate key value violates unique constraint \"t_pkey\""
    );
    let mut shown = format!("{error} {error:?}");
    let mut link = std::error::Error::source(&error);
    while let Some(source) = link {
        shown += &format!("{source} {source:?}");
        link = source.source();
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(error.database().unwrap().detail(), Some("Key (secret)=(hunter2) already exists."));
    assert_eq!(outcome(error), Outcome::Ignored);

    let error = db.query(Query::new("selec 1")).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42601");
    assert!(!error.sent());
    assert_eq!(figure(&db, "discarded"), 0.0, "the server's refusals do the connection no harm");
}

#[tokio::test]
async fn more_names_than_the_protocol_can_count_are_refused_before_anything_is_sent() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let query = |names: i32| {
        let rows = (0..names).map(|n| format!("(:p{n}::int)")).collect::<Vec<_>>().join(",");
        let query = Query::new(format!("select count(*) from (values {rows}) v"));
        (0..names).fold(query, |query, n| query.bind(format!("p{n}"), n))
    };
    let error = db.query(query(65_536)).await.unwrap_err();
    assert!(matches!(error, Error::Query { cause: QueryError::TooManyNames(65_536), .. }), "{error}");
    assert_eq!(figure(&db, "connections"), 0.0);
    let most = db.query(query(65_535)).await.unwrap().one().unwrap();
    assert_eq!(most.get::<i64>(0).unwrap(), 65_535);
}

#[tokio::test]
async fn a_transaction_commits_or_rolls_back_also_in_a_spawned_task() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int primary key)")).await.unwrap();
    let insert = |id: i32| Query::new("insert into t values (:id)").bind("id", id);

    #[derive(Debug)]
    enum Mine {
        Database(Error),
        Enough,
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Self::Database(error)
        }
    }

    let spawned = db.clone();
    let count = tokio::spawn(async move {
        let borrowed = String::from("borrowed by the closure");
        spawned
            .transaction(async |tx| {
                tx.query(insert(1)).await?;
                assert!(!borrowed.is_empty());
                let count: i64 = tx.query(Query::new("select count(*) from t")).await?.one()?.get(0)?;
                Ok::<_, Mine>(count)
            })
            .await
    });
    assert_eq!(count.await.unwrap().unwrap(), 1);

    let result: Result<(), _> = db
        .transaction(async |tx| {
            tx.query(insert(2)).await?;
            Err(Mine::Enough)
        })
        .await;
    assert!(matches!(result, Err(Mine::Enough)));

    let result: Result<(), _> = db
        .transaction(async |tx| {
            tx.query(insert(3)).await?;
            tx.query(insert(1)).await?;
            Ok(())
        })
        .await;
    assert!(matches!(result, Err(Mine::Database(error)) if error.sqlstate().unwrap().code() == "23505"));

    // Swallowing the failure does not make a commit of it.
    let result = db
        .transaction(async |tx| {
            tx.query(insert(4)).await?;
            let _swallowed = tx.query(insert(1)).await;
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");

    // What never reached the server does not spoil the transaction.
    db.transaction(async |tx| {
        assert!(tx.query(Query::new("commit")).await.is_err());
        assert!(tx.query(Query::new("insert into t values (:id)").bind("id", "text")).await.is_err());
        tx.query(insert(5)).await
    })
    .await
    .unwrap();

    let left = db.query(Query::new("select id from t order by id")).await.unwrap();
    let left: Vec<i32> = left.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(left, [1, 5]);
    assert_eq!((figure(&db, "connections"), figure(&db, "discarded")), (1.0, 0.0));
}

#[tokio::test]
async fn a_constraint_that_fails_at_commit_is_no_uncertain_commit() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int unique deferrable initially deferred)")).await.unwrap();
    let result = db
        .transaction(async |tx| {
            tx.query(Query::new("insert into t values (1), (1)")).await?;
            Ok::<_, Error>(())
        })
        .await;
    let error = result.unwrap_err();
    assert!(
        matches!(error, Error::Database { .. }) && error.sqlstate().unwrap().code() == "23505",
        "{error}"
    );
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn set_local_holds_for_its_transaction_and_set_is_refused() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let show = || Query::new("select current_setting('work_mem')");
    let before: String = db.query(show()).await.unwrap().one().unwrap().get(0).unwrap();
    let inside = db
        .transaction(async |tx| {
            tx.query(Query::new("set local work_mem = '1MB'")).await?;
            tx.query(show()).await?.one()?.get::<String>(0)
        })
        .await
        .unwrap();
    assert_eq!(inside, "1MB");
    assert_eq!(db.query(show()).await.unwrap().one().unwrap().get::<String>(0).unwrap(), before);
    let error = db.query(Query::new("set work_mem = '1MB'")).await.unwrap_err();
    assert!(matches!(error, Error::Query { cause: QueryError::SessionState("SET"), .. }), "{error}");

    // The server takes the words that end with the transaction for names as well.
    for name in ["local.tenant", "transaction.tenant", "constraints.tenant"] {
        for text in [format!("set {name} = 'x'"), format!("set {name} to 'x'")] {
            let error = db.query(Query::new(text)).await.unwrap_err();
            assert!(matches!(error, Error::Query { cause: QueryError::SessionState("SET"), .. }), "{error}");
        }
        let set = Query::new("select current_setting(:name, true)").bind("name", name);
        assert_eq!(db.query(set).await.unwrap().one().unwrap().get::<Option<&str>>(0).unwrap(), None);
    }
    db.transaction(async |tx| {
        for text in [
            "set transaction isolation level serializable",
            "set local local.tenant = 'x'",
            "set constraints all deferred",
        ] {
            tx.query(Query::new(text)).await?;
        }
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_service_is_always_ready_and_readiness_takes_nothing() {
    let test = TestDatabase::new().await;
    let mut db = postgres(&test.url(), 1);
    for _ in 0..5 {
        let mut clone = db.clone();
        clone.ready().await.unwrap();
    }
    let rows = db.ready().await.unwrap().call(Query::new("select 1")).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_refused_login_is_a_failure_to_connect() {
    let test = TestDatabase::new().await;
    let url = test.url().replace(test.name(), "no_such_database");
    let db = postgres(&url, 1);
    let error = db.query(Query::new("select 1")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent());
    assert_eq!(error.sqlstate().unwrap().code(), "3D000");
    assert!(
        error.to_string().contains("FATAL 3D000: database \"no_such_database\" does not exist"),
        "{error}"
    );
    assert_eq!(outcome(error), Outcome::Failure);
}

#[tokio::test]
async fn a_burst_over_a_small_pool_is_answered() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 4);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..500_i64 {
        let db = db.clone();
        calls.spawn(async move {
            db.oneshot(Query::new("select :n::int8").bind("n", n))
                .await
                .unwrap()
                .one()
                .unwrap()
                .get::<i64>(0)
                .unwrap()
        });
    }
    let mut answers = calls.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers, (0..500).collect::<Vec<_>>());
    assert!(figure(&db, "connections") <= 4.0);
    assert_eq!(figure(&db, "queries"), 500.0);
}
