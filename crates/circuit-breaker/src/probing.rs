use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

use crate::{probes::Probes, state::Verdict};

/// The probes of one half-open time.
#[derive(Debug)]
pub(crate) struct Probing {
    since: Instant,
    leases: Vec<Lease>,
    succeeded: u32,
}

#[derive(Debug)]
struct Lease {
    number: NonZeroU64,
    until: Instant,
}

/// What a probe says.
pub(crate) enum Probed {
    Failed,
    /// So many have.
    Succeeded(u32),
    /// It gives its slot back.
    Nothing,
}

impl Probing {
    pub(crate) const fn new(since: Instant) -> Self {
        Self { since, leases: Vec::new(), succeeded: 0 }
    }

    pub(crate) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(crate) const fn succeeded(&self) -> u32 {
        self.succeeded
    }

    /// Whether as many probes are out as there may be, and never more than are still needed.
    pub(crate) fn is_full(&self, probes: &Probes) -> bool {
        let needed = probes.successes.saturating_sub(self.succeeded);
        self.leases.len() >= probes.permitted.min(needed) as usize
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.leases.iter().map(|lease| lease.until).min()
    }

    pub(crate) fn lend(&mut self, number: NonZeroU64, until: Instant) {
        self.leases.push(Lease { number, until });
    }

    /// Takes the verdict on a probe that is out; nothing where it is not.
    pub(crate) fn judge(
        &mut self,
        number: NonZeroU64,
        verdict: Verdict,
        slow_is_bad: bool,
        now: Instant,
    ) -> Option<Probed> {
        let at = self.leases.iter().position(|lease| lease.number == number)?;
        let lease = self.leases.swap_remove(at);
        Some(match verdict {
            // Nobody came by when the lease ended, or this would be of an older epoch.
            _ if now >= lease.until => Probed::Failed,
            Verdict::Good { slow } if !(slow && slow_is_bad) => {
                self.succeeded += 1;
                Probed::Succeeded(self.succeeded)
            }
            Verdict::Good { .. } | Verdict::Bad { .. } => Probed::Failed,
            Verdict::None => Probed::Nothing,
        })
    }
}
