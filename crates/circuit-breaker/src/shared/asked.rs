//! What a backend asked for, until somebody tells the machine: without the lock.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::{
    breaker::Machine,
    knobs::to_nanos,
    published::epoch_of,
    state::{Changes, Ticket},
    sync::{Acquire, AtomicU64, Relaxed},
};

/// Until when the backend asked to be left alone, and in which epoch: microseconds, and the epoch's last bits above them.
/// Zero where nobody asked. An epoch belongs to it: a breaker that is lent again must not obey what another backend asked.
#[derive(Debug, Default)]
pub(super) struct Asked(AtomicU64);

/// 2,284 years fit.
const MICROS: u32 = 56;
const EPOCHS: u64 = u64::MAX >> MICROS;

impl Asked {
    fn ask(&self, epoch: u64, until_nanos: u64) {
        let asked = epoch << MICROS | until_nanos.div_ceil(1_000);
        let mut word = self.0.load(Relaxed);
        loop {
            let next = match epoch.wrapping_sub(word >> MICROS) & EPOCHS {
                0 => word.max(asked),
                // Of an epoch that is over.
                later if later <= EPOCHS / 2 || word == 0 => asked,
                _ => return,
            };
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// What was asked in that epoch, in nanoseconds. What was in another is forgotten.
    fn take(&self, epoch: u64) -> Option<u64> {
        // Looking first, since it is hardly ever there.
        if self.0.load(Relaxed) == 0 {
            return None;
        }
        let word = self.0.swap(0, Relaxed);
        let is_of_it = (epoch ^ word >> MICROS) & EPOCHS == 0;
        is_of_it.then(|| (word & (u64::MAX >> EPOCHS.count_ones())).saturating_mul(1_000))
    }
}

impl Shared {
    /// Takes what a backend asked for to the machine.
    pub(super) fn tell_what_was_asked(&self, machine: &mut Machine) {
        if let Some(nanos) = self.asked.take(machine.epoch().get()) {
            machine.leave_alone(self.start + Duration::from_nanos(nanos));
        }
    }

    /// The backend asks to be left alone for so long. Opens at once, if that is obeyed.
    #[cold]
    pub(crate) fn leave_alone(&self, ticket: Ticket, length: Duration, now: Instant) -> Changes {
        let epoch = ticket.epoch.get();
        if epoch_of(self.word.0.load(Acquire)) != epoch {
            return Changes::new();
        }
        let length = to_nanos(length).min(self.knobs.0.longest_hint_nanos());
        self.asked.ask(epoch, self.nanos(now).saturating_add(length));
        if !self.knobs.0.obeys_throttling() || ticket.probe.is_some() {
            return Changes::new();
        }
        let (obeyed, mut changes) = self.with(now, |machine| machine.obey(ticket, now));
        changes.extend(obeyed);
        changes
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_most_that_was_asked_in_the_last_epoch_is_told(
            first in 1..u64::MAX >> 8, calls in prop::collection::vec((0..100_u64, any::<u64>()), 1..30),
        ) {
            let asked = Asked::default();
            for (later, nanos) in &calls {
                asked.ask(first + later, *nanos);
            }
            let last = calls.iter().map(|(later, _)| later).max().unwrap();
            let most = calls.iter().filter(|(later, _)| later == last).map(|(_, nanos)| nanos).max().unwrap();
            let told = asked.take(first + last).unwrap();
            prop_assert!(*most <= told && told - most < 1_000 || told == u64::MAX);
            prop_assert_eq!(asked.take(first + last), None, "once");
            asked.ask(first, 5);
            prop_assert_eq!(asked.take(first + 1), None, "another epoch");
        }
    }
}
