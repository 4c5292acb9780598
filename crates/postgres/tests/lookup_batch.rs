//! Many keys by one query.

mod support;

use std::time::Duration;

use buttress_batch::BatchLayer;
use buttress_core::Deadline;
use buttress_postgres::{Error, LookupBatch, Postgres, Query, QueryError, Row};
use buttress_testkit::TestDatabase;
use futures_util::future::join_all;
use tower::{Layer, ServiceExt};

use self::support::{figure, postgres};

async fn users(db: &Postgres) {
    for sql in [
        "create table users (id bigint primary key, name text not null, city text)",
        "insert into users select n, 'user ' || n, 'city ' || n % 3 from generate_series(1, 100) n",
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
}

fn by_id<A: buttress_postgres::Found>(db: &Postgres) -> LookupBatch<i64, A> {
    LookupBatch::new(
        db,
        Query::new("select id, name from users where id = any(:keys) order by id desc"),
        "id",
    )
}

fn name(row: &Row) -> String {
    row.get("name").unwrap()
}

#[tokio::test]
async fn an_answer_goes_to_its_key() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    users(&db).await;
    let lookup = by_id::<Option<Row>>(&db);
    let found = lookup.get(vec![7, 1_000, 3, 7, 100, 7]).await.unwrap();
    let names: Vec<_> = found.into_iter().map(|answer| answer.unwrap().map(|row| name(&row))).collect();
    let user = |id: u64| Some(format!("user {id}"));
    assert_eq!(names, [user(7), None, user(3), user(7), user(100), user(7)]);
    assert!(lookup.get(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_has_as_many_rows_as_its_answer_can_hold() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    users(&db).await;
    let query = || {
        Query::new("select city, id, name from users where city = any(:keys) and id <= :most order by id")
            .bind("most", 7_i64)
    };
    let keys = || ["city 1", "city 2", "nowhere"].map(str::to_owned).to_vec();
    let all = LookupBatch::<String, Vec<Row>>::new(&db, query(), "city").get(keys()).await.unwrap();
    let ids: Vec<Vec<i64>> = all
        .into_iter()
        .map(|rows| rows.unwrap().iter().map(|row| row.get("id").unwrap()).collect())
        .collect();
    assert_eq!(ids, [vec![1, 4, 7], vec![2, 5], vec![]]);

    let query = query().bind("unknown", 1);
    let error = LookupBatch::<String, Vec<Row>>::new(&db, query, "city").get(keys()).await.unwrap_err();
    assert!(matches!(error, Error::Query { cause: QueryError::Unknown(_), .. }), "{error}");

    // Where there may be one, the others are not harmed.
    let query = Query::new("select city, name from users where city = any(:keys) and id in (1, 4, 5)");
    let one = LookupBatch::<String, Option<Row>>::new(&db, query, "city").get(keys()).await.unwrap();
    assert!(matches!(one[0], Err(Error::TooMany { .. })));
    assert_eq!(name(one[1].as_ref().unwrap().as_ref().unwrap()), "user 5");
    assert!(one[2].as_ref().unwrap().is_none());
}

#[tokio::test]
async fn what_nobody_asked_for_is_told() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    users(&db).await;
    let query = Query::new("select id, name from users where id >= any(:keys)");
    let error = LookupBatch::<i64, Option<Row>>::new(&db, query, "id").get(vec![99]).await.unwrap_err();
    assert!(matches!(error, Error::Query { cause: QueryError::NotAsked(_), .. }), "{error}");
    assert!(error.to_string().contains("`id`"), "{error}");

    let query = Query::new("select name from users where id = any(:keys)");
    let error = LookupBatch::<i64, Option<Row>>::new(&db, query, "id").get(vec![99]).await.unwrap_err();
    assert!(matches!(&error, Error::Decode { column, .. } if &**column == "id"), "{error}");
}

#[tokio::test]
async fn many_callers_make_few_queries() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    users(&db).await;
    let service = BatchLayer::new("users").layer(by_id::<Option<Row>>(&db));
    let before = figure(&db, "queries");
    let found = join_all((0..500).map(|n| service.clone().oneshot(n % 120))).await;
    for (n, answer) in (0..500).zip(found) {
        let expected = (1..=100).contains(&(n % 120)).then(|| format!("user {}", n % 120));
        assert_eq!(answer.unwrap().map(|row| name(&row)), expected);
    }
    let queries = figure(&db, "queries") - before;
    assert!(queries <= 4.0, "{queries}");
}

#[tokio::test]
async fn a_caller_who_is_late_leaves_the_others_alone() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    users(&db).await;
    let query = Query::new("select id, name, pg_sleep(0.2) from users where id = any(:keys)");
    let service = BatchLayer::new("users").layer(LookupBatch::<i64, Option<Row>>::new(&db, query, "id"));
    let hurried = Deadline::after(Duration::from_millis(50)).scope(service.clone().oneshot(1));
    let (first, patient, hurried) =
        tokio::join!(service.clone().oneshot(3), service.clone().oneshot(2), hurried);
    assert!(first.unwrap().is_some() && patient.unwrap().is_some());
    assert!(matches!(hurried, Err(Error::Rejected(_))), "{hurried:?}");
}

#[tokio::test]
async fn what_was_carried_out_is_not_told_to_be_unsent() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    users(&db).await;
    let query =
        Query::new("update users set city = null where name = any(:keys) returning upper(name) as name");
    let lookup = LookupBatch::<String, Option<Row>>::new(&db, query, "name");
    let error = lookup.get(vec!["user 7".to_owned()]).await.unwrap_err();
    assert!(matches!(error, Error::Query { cause: QueryError::NotAsked(_), .. }) && error.sent(), "{error}");
    assert!(error.to_string().ends_with("; the query was carried out"), "{error}");
}
