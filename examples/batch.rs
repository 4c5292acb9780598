//! A thousand callers insert a row each, and one of the rows violates a constraint: some round trips, and one error.
//!
//! `cargo run --example batch`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_batch::BatchLayer;
use buttress_core::{BoxError, Rejectable, Rejected};
use tokio::time::Instant;

#[derive(Debug)]
enum InsertError {
    Rejected(Rejected),
    /// Nothing of the statement was done.
    Duplicate,
}

impl From<Rejected> for InsertError {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for InsertError {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

static ROUND_TRIPS: AtomicU32 = AtomicU32::new(0);

/// One statement with many rows, which fails as a whole.
async fn insert(rows: Vec<u32>) -> Result<Vec<Result<u32, InsertError>>, InsertError> {
    ROUND_TRIPS.fetch_add(1, Relaxed);
    tokio::time::sleep(Duration::from_millis(5)).await;
    if rows.contains(&666) {
        return Err(InsertError::Duplicate);
    }
    Ok(rows.into_iter().map(Ok).collect())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let inserts = BatchLayer::new("inserts")
        .max_size(250)
        .bisect(|error| matches!(error, InsertError::Duplicate))
        .function(insert);

    let start = Instant::now();
    let callers: Vec<_> = (0..1_000)
        .map(|row| {
            let inserts = inserts.clone();
            tokio::spawn(async move { (row, inserts.call(row).await) })
        })
        .collect();
    for caller in callers {
        match caller.await? {
            (_, Ok(_)) => {}
            (row, Err(InsertError::Duplicate)) => println!("row {row} was there already"),
            (row, Err(InsertError::Rejected(rejected))) => println!("row {row}: {rejected}"),
        }
    }
    println!("1,000 callers: {} round trips, {:.0?}", ROUND_TRIPS.load(Relaxed), start.elapsed());
    inserts.close().await;
    println!("{:#?}", inserts.stats());
    Ok(())
}
