//! A stream of a million rows. A process of its own, since it reads the memory of the whole process.

mod support;

use std::fs;

use buttress_batch::BatchLayer;
use buttress_postgres::{InsertBatch, Query};
use buttress_testkit::TestDatabase;
use futures_util::{StreamExt, stream};
use support::postgres;

/// The resident memory of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

#[derive(Clone)]
struct Item {
    id: i64,
    name: String,
    number: i32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_take_little_memory() {
    const ROWS: i64 = 1_000_000;
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 4);
    db.query(Query::new("create table items (id bigint primary key, name text, number int)")).await.unwrap();
    let inserts = InsertBatch::builder("items")
        .column("id", |item: &Item| &item.id)
        .column("name", |item: &Item| &item.name)
        .column("number", |item: &Item| &item.number)
        .build(&db)
        .unwrap();

    let start = resident();
    let items = stream::iter((0..ROWS).map(|id| Item { id, name: format!("name {id}"), number: id as i32 }));
    let mut results =
        std::pin::pin!(BatchLayer::new("import").max_size(10_000).in_flight(2).process(items, inserts));
    let (mut written, mut most) = (0, 0);
    while let Some(result) = results.next().await {
        assert!(!result.unwrap().is_skipped());
        written += 1;
        if written % 10_000 == 0 {
            most = most.max(resident().saturating_sub(start));
        }
    }
    assert_eq!(written, ROWS);
    let stored =
        db.query(Query::new("select count(*), sum(number)::bigint from items")).await.unwrap().one().unwrap();
    assert_eq!((stored.get::<i64>(0).unwrap(), stored.get::<i64>(1).unwrap()), (ROWS, ROWS * (ROWS - 1) / 2));
    eprintln!("at most {:.1} MiB over the start", most as f64 / (1 << 20) as f64);
    assert!(most < 64 << 20, "{most} bytes over the start");
}
