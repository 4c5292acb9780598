//! The machine of one part: it takes `now`, and reads no clock.

use tokio::time::Instant;

use crate::rules::Rules;

/// What a result counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
}

/// What the results have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Unknown,
    Up,
    Down,
}

/// Thresholds as Envoy's `healthy_threshold` and `unhealthy_threshold`: the first result decides at once, later ones in a row.
#[derive(Debug)]
pub(crate) struct Machine {
    rules: Rules,
    standing: Standing,
    /// Results in a row that speak against the standing.
    against: u32,
    /// When the last probe began, and what chance said then.
    last: Option<(Instant, f64)>,
    running: bool,
    born: Instant,
}

impl Machine {
    pub(crate) fn new(rules: Rules, now: Instant) -> Self {
        Self { rules, standing: Standing::Unknown, against: 0, last: None, running: false, born: now }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// How many results in a row spoke against the standing.
    pub(crate) fn against(&self) -> u32 {
        self.against
    }

    /// When the next probe is to begin; it may have passed. None while one runs.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.running {
            return None;
        }
        let Some((began, chance)) = self.last else { return Some(self.born) };
        let calm = self.standing == Standing::Up && self.against == 0;
        let wait = if calm { self.rules.interval } else { self.rules.recheck };
        Some(began + wait.mul_f64(1.0 - Rules::JITTER * chance))
    }

    /// Whether no probe has ended for so long that the schedule cannot be kept: one blocks its thread, or the runtime starves.
    /// Then nothing is known of the part.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        let last = self.last.map_or(self.born, |(began, _)| began);
        now > last + 2 * self.rules.interval + Rules::ALLOWANCE
    }

    /// A probe begins. `chance` is from 0 to 1.
    pub(crate) fn begin(&mut self, now: Instant, chance: f64) {
        debug_assert!(!self.running, "probes of one part never overlap");
        self.running = true;
        self.last = Some((now, chance));
    }

    /// The probe ended. Tells whether the standing changed.
    pub(crate) fn end(&mut self, verdict: Verdict) -> bool {
        self.running = false;
        self.count(verdict)
    }

    /// Counts a result, of a probe or of a call. Tells whether the standing changed.
    pub(crate) fn count(&mut self, verdict: Verdict) -> bool {
        let (says, needed) = match verdict {
            Verdict::Good => (Standing::Up, self.rules.up),
            Verdict::Bad => (Standing::Down, self.rules.down),
        };
        if says == self.standing {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let changes = self.standing == Standing::Unknown || self.against >= needed;
        if changes {
            self.standing = says;
            self.against = 0;
        }
        changes
    }
}

#[cfg(test)]
mod tests;
