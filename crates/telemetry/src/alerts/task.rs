use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Alert, AlertState, Change, Severity, machine::Machine, notify::Counts, queue::Queue};
use crate::Registry;

/// What the task tells those who ask.
#[derive(Debug, Default)]
pub(crate) struct Board {
    active: Mutex<Vec<AlertState>>,
    pub(crate) counts: Arc<Counts>,
}

impl Board {
    pub(crate) fn active(&self) -> Vec<AlertState> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks every so often, for ever.
pub(crate) async fn watch(
    registry: Registry,
    mut machine: Machine,
    every: Duration,
    board: Arc<Board>,
    queues: Vec<Arc<Queue>>,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // It runs the code of layers that are not ours.
        let Ok(snapshot) = catch_unwind(AssertUnwindSafe(|| registry.snapshot())) else {
            tracing::warn!("a layer panicked when it was asked for its figures: no rule was looked at");
            continue;
        };
        let alerts = machine.look(Instant::now(), &snapshot);
        *board.active.lock().unwrap_or_else(PoisonError::into_inner) = machine.active();
        for alert in alerts {
            log(&alert);
            for queue in &queues {
                let dropped = queue.push(alert.clone());
                board.counts.dropped.fetch_add(u64::from(dropped), Relaxed);
            }
        }
    }
}

fn log(Alert { change, state, .. }: &Alert) {
    let AlertState { rule, layer, instance, value, threshold, summary, .. } = state;
    let severity = state.severity.word();
    match (change, state.severity) {
        (Change::Fired, Severity::Critical) => {
            tracing::error!(%rule, severity, %layer, instance, value, threshold, "alert fired: {summary}");
        }
        (Change::Fired, Severity::Warning) => {
            tracing::warn!(%rule, severity, %layer, instance, value, threshold, "alert fired: {summary}");
        }
        (Change::Cleared(why), _) => {
            let reason = why.word();
            tracing::info!(%rule, severity, %layer, instance, value, threshold, reason, "alert cleared: {summary}");
        }
    }
}
