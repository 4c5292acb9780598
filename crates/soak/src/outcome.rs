//! All that a soak leaves behind, for the checks and for the report.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ledger::Ledger, processes::Ended, recovery::Happened, sample::Sample, upstream::Counted, watch::Look,
};

#[derive(Debug)]
pub(crate) struct Soaked {
    pub(crate) seed: u64,
    /// The load.
    pub(crate) lasts: Duration,
    /// In the order of their ends.
    pub(crate) samples: Vec<Sample>,
    pub(crate) bursts: Vec<Duration>,
    /// What was said where it failed: how often, and when first and last.
    pub(crate) words: BTreeMap<String, (usize, Duration, Duration)>,
    pub(crate) faults: Vec<Happened>,
    pub(crate) looks: Vec<Look>,
    pub(crate) upstream: Counted,
    pub(crate) books: Books,
    pub(crate) ends: Vec<Ended>,
}

/// What was written, and what is there.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) orders: Ledger,
    /// Keys of orders in Postgres, and how often.
    pub(crate) order_rows: BTreeMap<String, i64>,
    /// Keys of orders in the workers' ledger.
    pub(crate) order_jobs: BTreeMap<String, i64>,
    pub(crate) jobs: Ledger,
    /// All other keys there.
    pub(crate) job_rows: BTreeMap<String, i64>,
    /// Jobs that were given up.
    pub(crate) dead: i64,
    /// Jobs that nobody has done.
    pub(crate) open: i64,
}
