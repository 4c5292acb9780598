//! While the store is away.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::{
    clock,
    cluster::{
        Store,
        desk::Desk,
        round_trip::Failure,
        worker::{Errand, FIRST_PAUSE, Kind, Worker},
    },
};

/// Between attempts at most. Of each pause, half is left to chance.
const LONGEST_PAUSE: u64 = 1_000_000_000;

impl<St: Store> Worker<St> {
    /// While the store is away nobody waits, and it is asked now and then whether it is back.
    pub(super) async fn turn_away(&mut self, due: Vec<Arc<Desk>>, now: u64) -> bool {
        self.fail(due.into_iter().map(|desk| Errand { desk, kind: Kind::Look, returned: 0 }));
        if self.shared.callers.is_closing() {
            return false;
        }
        let is_time = now >= self.shared.probe_at.load(Relaxed);
        if !is_time || !self.shared.is_wanted.swap(false, Relaxed) {
            self.rest(now).await;
            return true;
        }
        let desk = Arc::clone(&self.shared.desk);
        let kind = self.kind_of_charge(&mut desk.slow(), now).unwrap_or(Kind::Look);
        if let Err(errands) = self.go(vec![Errand { desk, kind, returned: 0 }]).await {
            self.fail(errands.into_iter());
        }
        true
    }

    pub(super) fn go_away(&mut self, failure: &Failure) {
        let shared = Arc::clone(&self.shared);
        if !shared.is_away() {
            shared.counts.absences.fetch_add(1, Relaxed);
            let (name, error) = (shared.origin.name(), failure.to_string());
            tracing::warn!(name, error, policy = ?shared.when_away, "the store of a rate limit is away");
            self.pause = FIRST_PAUSE;
            shared.is_wanted.store(true, Relaxed);
        }
        self.set_probe(clock::now());
    }

    fn set_probe(&mut self, now: u64) {
        let pause = self.pause as f64 * (0.5 + self.dice.throw() / 2.0);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.shared.probe_at.store(now + pause as u64, Relaxed);
    }

    pub(super) fn come_back(&mut self, asked_at: u64) {
        if self.shared.is_away() {
            self.shared.returns_since.store(asked_at, Relaxed);
            self.shared.probe_at.store(0, Relaxed);
            // It may be another one, which knows nobody.
            self.shared.roll(|roll| roll.begin_anew());
            self.shared.ring_all();
            tracing::info!(name = self.shared.origin.name(), "the store of a rate limit is back");
        }
    }
}
