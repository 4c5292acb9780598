//! A hedge around calls that are answered before it is wanted.

use std::time::Duration;

use buttress_hedge::{CloneRequest, HedgeLayer as ButtressLayer};
use tower::{
    Layer,
    hedge::{Hedge, Policy},
};
use tower_resilience_hedge::{HedgeError, HedgeLayer};

use crate::{
    backend::{Backend, Broken, HEALTHY, Never},
    body::{shared, single},
    ours,
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

const DELAY: Duration = Duration::from_millis(100);
/// tower's histogram is thrown away after two of these.
const WINDOW: Duration = Duration::from_secs(10);
const FEWEST: u64 = 100;

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("hedge", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("buttress fixed in time", |_| {
            shared(ButtressLayer::new("fixed in time", CloneRequest).delay(DELAY).layer(HEALTHY))
        }),
        row("tower", |_| single(Hedge::new(HEALTHY, Always, FEWEST, 0.95, WINDOW))),
        row("tower-resilience", |_| {
            let layer = HedgeLayer::builder().delay(DELAY).max_hedged_attempts(2).build();
            // It clones errors, which `BoxError` does not.
            shared(layer.layer(Backend::<Never, Broken>::new()))
        }),
    ];
    [ours::rows_of("hedge"), others].concat()
}

/// The policy that tower leaves to its user.
#[derive(Clone)]
struct Always;

impl Policy<u64> for Always {
    fn clone_request(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn can_retry(&self, _: &u64) -> bool {
        true
    }
}

impl Refusal for HedgeError<Broken> {
    fn is_refusal(&self) -> bool {
        false
    }
}
