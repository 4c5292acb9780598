//! Many rows by one statement.

mod support;

use std::time::Duration;

use buttress_batch::BatchLayer;
use buttress_core::{Deadline, Rejectable};
use buttress_postgres::{
    Error, InsertBatch, Inserted, Postgres, Query, QueryError, SqlStateClassifier,
    tokio_postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked},
};
use buttress_testkit::TestDatabase;
use bytes::{BufMut, BytesMut};
use futures_util::future::join_all;
use tower::{Layer, ServiceExt};

use self::support::postgres;

#[derive(Debug, Clone)]
struct Event {
    id: i64,
    kind: String,
    note: Option<String>,
}

fn event(id: i64, kind: &str) -> Event {
    Event { id, kind: kind.to_owned(), note: (id % 3 == 0).then(|| format!("note {id}")) }
}

fn events(ids: impl IntoIterator<Item = i64>) -> Vec<Event> {
    ids.into_iter().map(|id| event(id, "a")).collect()
}

async fn table(db: &Postgres) {
    let sql = "create table events (seq bigserial, id bigint primary key, kind text not null check (kind <> 'bad'), note text)";
    db.query(Query::new(sql)).await.unwrap();
}

fn plain() -> buttress_postgres::InsertBatchBuilder<Event> {
    InsertBatch::builder("events")
        .column("id", |e: &Event| &e.id)
        .column("kind", |e: &Event| &e.kind)
        .column("note", |e: &Event| &e.note)
}

async fn stored(db: &Postgres) -> Vec<(i64, String, Option<String>)> {
    let rows = db.query(Query::new("select id, kind, note from events order by id")).await.unwrap();
    rows.iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap())).collect()
}

fn seq(inserted: &Result<Inserted, Error>) -> Option<i64> {
    inserted.as_ref().unwrap().row().map(|row| row.get("seq").unwrap())
}

fn skipped(results: &[Result<Inserted, Error>]) -> Vec<bool> {
    results.iter().map(|result| result.as_ref().unwrap().is_skipped()).collect()
}

#[tokio::test]
async fn rows_of_any_number_are_written() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    table(&db).await;
    let inserts = plain().copy_above(100).build(&db).unwrap();
    let mut next = 0;
    for size in [0, 1, 2, 99, 100, 101, 3_000] {
        let results = inserts.insert(&events(next..next + size)).await.unwrap();
        assert_eq!(results.len(), usize::try_from(size).unwrap());
        assert!(skipped(&results).iter().all(|skipped| !skipped));
        next += size;
        assert_eq!(stored(&db).await.len(), usize::try_from(next).unwrap(), "{size}");
    }
    for (at, (id, kind, note)) in (0..).zip(stored(&db).await) {
        let event = event(at, "a");
        assert_eq!((id, kind, note), (event.id, event.kind, event.note));
    }
}

#[tokio::test]
async fn what_returns_comes_to_its_row() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    table(&db).await;
    let inserts = plain().returning(["seq", "id"]).build(&db).unwrap();
    for ids in [vec![7], vec![5, 3, 9, 1], (1_000..3_000).rev().collect()] {
        let results = inserts.insert(&events(ids.clone())).await.unwrap();
        for (id, result) in ids.iter().zip(&results) {
            let row = result.as_ref().unwrap().row().unwrap();
            assert_eq!(row.get::<i64>("id").unwrap(), *id);
            assert_eq!(row.as_driver().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_there_is_skipped_or_updated() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    table(&db).await;
    let skip = plain().skip_on_conflict(["id"]).build(&db).unwrap();
    let skip_and_tell = plain().skip_on_conflict(["id"]).returning(["seq"]).build(&db).unwrap();
    let update = plain().update_on_conflict(["id"], ["kind"]).build(&db).unwrap();
    let update_and_tell = plain().update_on_conflict(["id"], ["kind"]).returning(["seq"]).build(&db).unwrap();

    assert_eq!(skipped(&skip.insert(&events([1])).await.unwrap()), [false]);
    assert_eq!(skipped(&skip.insert(&events([1])).await.unwrap()), [true]);
    // The first of equal ones is written.
    let rows = [event(1, "x"), event(2, "first"), event(2, "second"), event(3, "a")];
    assert_eq!(skipped(&skip.insert(&rows).await.unwrap()), [true, false, true, false]);
    assert_eq!(stored(&db).await[1].1, "first");
    let results = skip_and_tell.insert(&events([3, 5, 4, 1, 6])).await.unwrap();
    assert_eq!(skipped(&results), [true, false, false, true, false]);
    let seqs: Vec<_> = results.iter().filter_map(seq).collect();
    assert_eq!(seqs.len(), 3);
    let in_table =
        db.query(Query::new("select seq from events where id in (4, 5, 6) order by id")).await.unwrap();
    let by_id: Vec<i64> = in_table.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(seqs, [by_id[1], by_id[0], by_id[2]]);

    // The last of equal ones is written.
    let rows = [event(1, "old"), event(7, "a"), event(1, "new")];
    assert_eq!(skipped(&update.insert(&rows).await.unwrap()), [false; 3]);
    assert_eq!(stored(&db).await[0].1, "new");
    let results = update_and_tell.insert(&[event(7, "x"), event(8, "y"), event(7, "z")]).await.unwrap();
    assert_eq!(skipped(&results), [false; 3]);
    assert_eq!(seq(&results[0]), seq(&results[2]));
    assert_ne!(seq(&results[0]), seq(&results[1]));
    assert_eq!(stored(&db).await.iter().find(|(id, ..)| *id == 7).unwrap().1, "z");
}

#[tokio::test]
async fn regression_26_one_duplicate_in_a_hundred_rows_fails_alone() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 4);
    table(&db).await;
    let inserts = plain().returning(["seq"]).build(&db).unwrap();
    inserts.insert(&events([42])).await.unwrap();

    let layer = BatchLayer::new("events").bisect(SqlStateClassifier::blames_a_row);
    let service = layer.layer(inserts);
    let results = join_all(events(0..100).into_iter().map(|event| service.clone().oneshot(event))).await;
    for (id, result) in (0..100).zip(results) {
        match result {
            Ok(inserted) => assert!(id != 42 && inserted.row().is_some()),
            Err(error) => {
                assert_eq!((id, error.sqlstate().unwrap().code()), (42, "23505"), "{error}");
            }
        }
    }
    assert_eq!(stored(&db).await.len(), 100);
    assert!(service.batch().stats().batches <= 3, "{:?}", service.batch().stats());
}

/// A value that cannot be written.
#[derive(Debug, Clone, Copy)]
struct Picky(i32);

impl ToSql for Picky {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<buttress_postgres::tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>>
    {
        if self.0 == 13 { Err("13 is secret".into()) } else { self.0.to_sql(ty, out) }
    }
    fn accepts(ty: &Type) -> bool {
        <i32 as ToSql>::accepts(ty)
    }
    buttress_postgres::tokio_postgres::types::to_sql_checked!();
}

#[tokio::test]
async fn a_value_that_cannot_be_written_fails_alone_and_is_not_shown() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    db.query(Query::new("create table numbers (a int, b int)")).await.unwrap();
    let build = |above| {
        InsertBatch::<(Picky, i32)>::builder("numbers")
            .column("b", |row: &(Picky, i32)| &row.1)
            .column("a", |row: &(Picky, i32)| &row.0)
            .copy_above(above)
            .build(&db)
            .unwrap()
    };
    for above in [0, 1_000] {
        let inserts = build(above);
        let rows: Vec<_> = [1, 13, 2, 13].map(|n| (Picky(n), n)).into();
        let results = inserts.insert(&rows).await.unwrap();
        assert!(results[0].is_ok() && results[2].is_ok());
        for refused in [&results[1], &results[3]] {
            let error = refused.as_ref().unwrap_err();
            assert!(matches!(error, Error::Query { cause: QueryError::Unfit { .. }, .. }) && !error.sent());
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
            assert!(error.to_string().contains("`:a`"), "{error}");
        }
        // None is left, and one alone.
        assert!(inserts.insert(&rows[1..2]).await.unwrap()[0].is_err());
        let both = [rows[1], rows[3]];
        assert!(inserts.insert(&both).await.unwrap().iter().all(Result::is_err));
    }
    let sums =
        db.query(Query::new("select sum(a), sum(b), count(*) from numbers")).await.unwrap().one().unwrap();
    let sums: [i64; 3] = [0, 1, 2].map(|column| sums.get(column).unwrap());
    assert_eq!(sums, [6, 6, 4]);
}

/// Writes the values, the first alone and the rest together, and reads them.
async fn column_of<V>(db: &Postgres, ty: &str, values: Vec<V>)
where
    V: ToSql + for<'a> FromSql<'a> + PartialEq + std::fmt::Debug + Clone + Send + Sync + 'static,
{
    for above in [0, 1_000] {
        let text = format!("create table one_column (n int generated always as identity, v {ty})");
        db.query(Query::new(text)).await.unwrap();
        let inserts = InsertBatch::<V>::builder("one_column")
            .column("v", |v: &V| v)
            .copy_above(above)
            .build(db)
            .unwrap();
        for part in [&values[..1], &values[1..]] {
            for result in inserts.insert(part).await.unwrap() {
                result.unwrap();
            }
        }
        let rows = db.query(Query::new("select v from one_column order by n")).await.unwrap();
        let back: Vec<V> = rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(back, values, "{ty} above {above}");
        db.query(Query::new("drop table one_column")).await.unwrap();
    }
}

#[tokio::test]
async fn columns_of_many_types_come_back_as_they_were() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    column_of(&db, "smallint", vec![i16::MIN, 0, i16::MAX]).await;
    column_of(&db, "bigint", vec![Some(i64::MIN), None, Some(1)]).await;
    column_of(&db, "text", vec!["".to_owned(), "a'b\"\\".into(), "ä€𝄞".into()]).await;
    column_of(&db, "varchar(3)", vec!["abc".to_owned(), "".into(), "ä€𝄞".into()]).await;
    column_of(&db, "bytea", vec![vec![0_u8, 255], vec![], vec![1; 3000]]).await;
    column_of(&db, "boolean", vec![true, false, true]).await;
    column_of(&db, "double precision", vec![0.5, f64::MAX, -0.0]).await;
    db.query(Query::new("create domain positive as int check (value > 0)")).await.unwrap();
    db.query(Query::new("create domain small_positive as positive check (value < 10)")).await.unwrap();
    column_of(&db, "small_positive", vec![1, 2, 9]).await;
    // Several rows with arrays are copied.
    column_of(&db, "int[]", vec![vec![1, 2], vec![], vec![3]]).await;
}

#[derive(Debug, Clone, PartialEq)]
struct Pair(i32, i32);

impl ToSql for Pair {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Kind::Composite(fields) = ty.kind() else { return Err("it is not composite".into()) };
        out.put_i32(2);
        for (field, n) in fields.iter().zip([self.0, self.1]) {
            out.put_u32(field.type_().oid());
            out.put_i32(4);
            out.put_i32(n);
        }
        Ok(IsNull::No)
    }
    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Composite(_))
    }
    to_sql_checked!();
}

#[tokio::test]
async fn columns_of_a_composite_type_are_copied() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create type pair as (a int, b int)")).await.unwrap();
    db.query(Query::new("create table pairs (p pair)")).await.unwrap();
    let pairs = || InsertBatch::<Pair>::builder("pairs").column("p", |pair: &Pair| pair);
    let inserts = pairs().build(&db).unwrap();
    for rows in [vec![Pair(1, 2)], vec![Pair(3, 4), Pair(5, 6)]] {
        assert_eq!(skipped(&inserts.insert(&rows).await.unwrap()), vec![false; rows.len()]);
    }
    let rows = db.query(Query::new("select (p).a * 10 + (p).b from pairs order by 1")).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0).unwrap()).collect::<Vec<i32>>(), [12, 34, 56]);
    let telling = pairs().returning(["p"]).build(&db).unwrap();
    // One alone could be sent, but two could not.
    for rows in [vec![Pair(1, 2)], vec![Pair(1, 2), Pair(3, 4)]] {
        let error = telling.insert(&rows).await.unwrap().remove(0).unwrap_err();
        assert!(matches!(error, Error::Query { cause: QueryError::ArrayColumn(_), .. }), "{error}");
    }
    let never = pairs().copy_above(usize::MAX).build(&db).unwrap();
    assert!(never.insert(&[Pair(1, 2)]).await.unwrap()[0].is_err());
}

#[tokio::test]
async fn values_are_not_copied_into_a_column_of_another_type() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    db.query(Query::new("create table changed (v int)")).await.unwrap();
    let inserts =
        InsertBatch::<i32>::builder("changed").column("v", |v: &i32| v).copy_above(1).build(&db).unwrap();
    inserts.insert(&[1, 2]).await.unwrap();
    // As wide, so that the server would not notice.
    db.query(Query::new("alter table changed alter v type real")).await.unwrap();
    for result in inserts.insert(&[3, 4]).await.unwrap() {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Query { cause: QueryError::Unfit { .. }, .. }), "{error}");
    }
    db.query(Query::new("alter table changed alter v type int")).await.unwrap();
    assert_eq!(skipped(&inserts.insert(&[5, 6]).await.unwrap()), [false; 2]);
    let sum = db.query(Query::new("select sum(v) from changed")).await.unwrap().one().unwrap();
    assert_eq!(sum.get::<i64>(0).unwrap(), 14);
}

#[tokio::test]
async fn what_a_trigger_leaves_out_of_an_update_is_told() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    table(&db).await;
    for sql in [
        "create function leave_out() returns trigger language plpgsql as \
         $$ begin if new.kind = 'out' then return null; end if; return new; end $$",
        "create trigger leave_out before insert on events for each row execute function leave_out()",
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
    let update = plain().update_on_conflict(["id"], ["kind"]).build(&db).unwrap();
    let rows = [event(1, "a"), event(2, "out"), event(3, "a"), event(3, "b")];
    assert_eq!(skipped(&update.insert(&rows).await.unwrap()), [false, true, false, false]);
}

#[tokio::test]
async fn a_copy_that_fails_or_is_left_half_way_leaves_nothing() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    table(&db).await;
    let inserts = plain().copy_above(1).build(&db).unwrap();
    let before = support::backend(&db).await;
    let rows = || events(0..20_000);
    let error = inserts.insert(&[vec![event(-1, "bad")], rows()].concat()).await.unwrap_err();
    assert!(SqlStateClassifier::blames_a_row(&error), "{error}");
    assert_eq!(support::backend(&db).await, before);

    for sql in [
        "create function nap() returns trigger language plpgsql as \
         $$ begin if new.kind = 'nap' then perform pg_sleep(20); end if; return new; end $$",
        "create trigger nap before insert on events for each row execute function nap()",
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
    let naps = [rows(), vec![event(-1, "nap")]].concat();
    let limit = Duration::from_millis(500);
    let late = Deadline::after(limit).scope(inserts.insert(&naps)).await.unwrap_err();
    assert!(late.rejected().is_some() && late.sent(), "{late}");
    assert!(tokio::time::timeout(limit, inserts.insert(&naps)).await.is_err());
    let (spy, text) = (support::spy(test.config()).await, "state = 'active' and query like 'copy%'");
    support::until_backends(&spy, text, 0).await;
    let kill = async {
        support::until_backends(&spy, text, 1).await;
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where datname = current_database() and pid <> pg_backend_pid()";
        spy.execute(sql, &[]).await.unwrap();
    };
    let (lost, ()) = tokio::join!(inserts.insert(&naps), kill);
    assert!(lost.as_ref().is_err_and(Error::sent), "{lost:?}");
    assert!(stored(&db).await.is_empty());
    inserts.insert(&rows()).await.unwrap();
    assert_eq!(stored(&db).await.len(), 20_000);
}

#[tokio::test]
async fn a_column_can_be_computed() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table computed (n int, twice int, text text)")).await.unwrap();
    for above in [1, 1_000] {
        let inserts = InsertBatch::<i32>::builder("computed")
            .column("n", |n: &i32| n)
            .column_with("twice", |n: &i32| n * 2)
            .column_with("text", |n: &i32| format!("{n}!"))
            .copy_above(above)
            .build(&db)
            .unwrap();
        for rows in [&[1][..], &[2, 3]] {
            assert!(inserts.insert(rows).await.unwrap().iter().all(Result::is_ok));
        }
    }
    let right = Query::new("select count(*) from computed where twice = 2 * n and text = n || '!'");
    assert_eq!(db.query(right).await.unwrap().one().unwrap().get::<i64>(0).unwrap(), 6);
}
