//! Which requests may be sent while the first attempt goes on.

mod script;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_hedge::{Budget, HedgeLayer, ReplayRequest};
use script::{End::Answers, Script};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

const MS: Duration = Duration::from_millis(1);

/// Allows a copy to race the first time so often it is asked; a retry could always send it.
#[derive(Clone)]
struct Allows(u32, Arc<AtomicU32>);

impl ReplayRequest<()> for Allows {
    fn replay(&self, (): &()) -> Option<()> {
        Some(())
    }

    fn can_race(&self, (): &()) -> bool {
        self.1.fetch_add(1, Relaxed) < self.0
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_race_is_not_hedged_and_costs_no_budget() {
    // Asked before the first attempt, and before the hedge.
    for (allowed, asked, started) in [(0, 1, vec![0]), (1, 2, vec![0]), (2, 2, vec![0, 100])] {
        let budget = Budget::try_new(0.0, 1, 1000 * MS).unwrap();
        let rule = Allows(allowed, Arc::default());
        let layer = HedgeLayer::new("race", rule.clone()).delay(100 * MS).budget(budget.clone());
        let script = Script::of([(1000, Answers); 2]);
        layer.layer(script.clone()).oneshot(()).await.unwrap();
        assert_eq!((script.started(), rule.1.load(Relaxed)), (started.clone(), asked));
        assert_eq!(budget.available(Instant::now()), Some(2 - started.len() as u64));
    }
}
