//! Batches of all policies against a map.

mod support;

use std::collections::BTreeMap;

use buttress_postgres::{Error, InsertBatch, Inserted, Postgres, Query, SqlStateClassifier};
use buttress_testkit::TestDatabase;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use support::postgres;

#[derive(Debug, Clone, PartialEq)]
struct Item {
    key: i32,
    part: String,
    value: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Policy {
    Fail,
    Skip,
    Update,
}

#[derive(Debug, Clone)]
struct Step {
    policy: Policy,
    returning: bool,
    copied: bool,
    rows: Vec<Item>,
}

type Table = BTreeMap<(i32, String), Option<String>>;

/// What a batch does to the table, and whether each row is written; `None` where it fails as a whole.
fn model(table: &mut Table, step: &Step) -> Option<Vec<bool>> {
    let before = table.clone();
    let mut written = Vec::new();
    for row in &step.rows {
        let key = (row.key, row.part.clone());
        let there = table.contains_key(&key);
        match step.policy {
            Policy::Fail if there => {
                *table = before;
                return None;
            }
            Policy::Skip if there => written.push(false),
            _ => {
                table.insert(key, row.value.clone());
                written.push(true);
            }
        }
    }
    Some(written)
}

fn service(db: &Postgres, step: &Step) -> InsertBatch<Item> {
    let mut builder = InsertBatch::builder("Items and \"more\"")
        .column("value", |item: &Item| &item.value)
        .column("the key", |item: &Item| &item.key)
        .column("part", |item: &Item| &item.part)
        .copy_above(if step.copied { 1 } else { 1_000 });
    let key = ["part", "the key"];
    builder = match step.policy {
        Policy::Fail => builder,
        Policy::Skip => builder.skip_on_conflict(key),
        Policy::Update => builder.update_on_conflict(key, ["value"]),
    };
    if step.returning {
        builder = builder.returning(["the key", "value", "part"]);
    }
    builder.build(db).unwrap()
}

async fn check(db: &Postgres, steps: &[Step]) {
    db.query(Query::new("truncate \"Items and \"\"more\"\"\"")).await.unwrap();
    let mut table = Table::new();
    for step in steps {
        let expected = model(&mut table, step);
        let result = service(db, step).insert(&step.rows).await;
        match (expected, result) {
            (None, Err(error)) => assert!(SqlStateClassifier::blames_a_row(&error), "{error}"),
            (Some(written), Ok(results)) => told(step, &written, &results, &table),
            (expected, result) => panic!("{step:?}: {expected:?}, {result:?}"),
        }
        let sql = "select \"the key\", part, value from \"Items and \"\"more\"\"\"";
        let rows = db.query(Query::new(sql)).await.unwrap();
        let stored: Table = rows
            .iter()
            .map(|row| ((row.get(0).unwrap(), row.get(1).unwrap()), row.get(2).unwrap()))
            .collect();
        assert_eq!(stored, table, "{step:?}");
        assert_eq!(rows.len(), stored.len());
    }
}

fn told(step: &Step, written: &[bool], results: &[Result<Inserted, Error>], table: &Table) {
    assert_eq!(results.len(), step.rows.len());
    for ((row, written), result) in step.rows.iter().zip(written).zip(results) {
        let inserted = result.as_ref().unwrap();
        assert_eq!(inserted.is_skipped(), !written, "{step:?}: {row:?}");
        assert_eq!(inserted.row().is_some(), step.returning && *written, "{step:?}: {row:?}");
        if let Some(back) = inserted.row() {
            assert_eq!(back.get::<i32>("the key").unwrap(), row.key);
            assert_eq!(back.get::<&str>("part").unwrap(), row.part);
            let key = (row.key, row.part.clone());
            assert_eq!(back.get::<Option<String>>("value").unwrap(), table[&key], "{step:?}: {row:?}");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let item = (0..12_i32, prop_oneof![Just("a"), Just("B'\"\\"), Just("")], any::<Option<u8>>()).prop_map(
        |(key, part, value)| Item { key, part: part.to_owned(), value: value.map(|n| n.to_string()) },
    );
    let policy = prop_oneof![Just(Policy::Fail), Just(Policy::Skip), Just(Policy::Update)];
    let step = (policy, any::<bool>(), any::<bool>(), vec(item, 0..8))
        .prop_map(|(policy, returning, copied, rows)| Step { policy, returning, copied, rows });
    vec(step, 1..8)
}

#[test]
fn every_batch_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_test, db) = runtime.block_on(async {
        let test = TestDatabase::new().await;
        let db = postgres(&test.url(), 1);
        let sql = "create table \"Items and \"\"more\"\"\" (n bigserial, \"the key\" int, part text, value text, \
                   primary key (\"the key\", part))";
        db.query(Query::new(sql)).await.unwrap();
        (test, db)
    });
    let mut runner = TestRunner::new(Config { cases: 120, ..Config::default() });
    runner
        .run(&steps(), |steps| {
            runtime.block_on(check(&db, &steps));
            Ok(())
        })
        .unwrap();
}
