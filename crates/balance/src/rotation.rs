//! Who is in the rotation: the decisions alone. Time is an argument.

use crate::config::{Ejection, Nanos, nanos};

/// Success rates are compared this often.
pub(crate) const INTERVAL: Nanos = 10_000_000_000;
/// The fewest calls in an interval that make a success rate.
const CALLS: u64 = 100;
/// The fewest endpoints with a success rate that make a mean.
const ENDPOINTS: usize = 5;
/// So many standard deviations below the mean is an outlier,
const DEVIATIONS: f64 = 1.9;
/// if it is also by this much below it: among equals, one failure in a thousand calls is two deviations.
const GAP: f64 = 0.05;

/// What is held against one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Standing {
    pub(crate) ejected_until: Option<Nanos>,
    /// From outside, until it is taken back.
    pub(crate) marked: bool,
    /// How often it has been ejected lately.
    times: u32,
    in_rotation_since: Nanos,
    /// Its successes and failures when the interval began.
    counted: Tally,
}

impl Standing {
    pub(crate) const fn is_in_rotation(&self) -> bool {
        self.ejected_until.is_none() && !self.marked
    }
}

/// Successes and failures, ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

/// An endpoint that fails more than the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outlier {
    pub(crate) index: usize,
    pub(crate) rate: f64,
    pub(crate) mean: f64,
}

#[derive(Debug)]
pub(crate) struct Rotation {
    ejection: Ejection,
    standings: Vec<Standing>,
    interval_ends: Nanos,
}

impl Rotation {
    pub(crate) const fn new(ejection: Ejection) -> Self {
        Self { ejection, standings: Vec::new(), interval_ends: INTERVAL }
    }

    pub(crate) fn insert(&mut self, now: Nanos) {
        self.standings.push(Standing { in_rotation_since: now, ..Standing::default() });
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.standings.swap_remove(index);
    }

    pub(crate) fn standings(&self) -> &[Standing] {
        &self.standings
    }

    pub(crate) fn in_rotation(&self) -> usize {
        self.standings.iter().filter(|standing| standing.is_in_rotation()).count()
    }

    /// With less than half of the endpoints in the rotation, all are used: those that are left could not take it all.
    pub(crate) fn panics(&self) -> bool {
        2 * self.in_rotation() < self.standings.len()
    }

    /// When [`bring_back`](Self::bring_back) or [`outliers`](Self::outliers) has something to do.
    pub(crate) fn due(&self) -> Nanos {
        if self.ejection.is_off() {
            return Nanos::MAX;
        }
        self.returns().map_or(self.interval_ends, |returns| returns.min(self.interval_ends))
    }

    /// When the next one comes back.
    pub(crate) fn returns(&self) -> Option<Nanos> {
        self.standings.iter().filter_map(|standing| standing.ejected_until).min()
    }

    /// Ejects an endpoint, and says until when; unless it is out already, or too many are, or it is the last one.
    /// `jitter`, from 0 to 1, makes it last up to a tenth longer.
    pub(crate) fn eject(&mut self, index: usize, now: Nanos, jitter: f64) -> Option<Nanos> {
        let ejected = self.standings.iter().filter(|standing| standing.ejected_until.is_some()).count();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share"
        )]
        let most = (self.standings.len() as f64 * self.ejection.max_share) as usize;
        if self.ejection.is_off()
            || self.standings[index].ejected_until.is_some()
            || ejected >= most.max(1)
            || !self.standings.iter().enumerate().any(|(other, it)| other != index && it.is_in_rotation())
        {
            return None;
        }
        let standing = &mut self.standings[index];
        standing.times = (standing.times + 1).min(Ejection::LONGEST);
        let time = nanos(self.ejection.time).saturating_mul(standing.times.into());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "noise"
        )]
        let jitter = (time as f64 * 0.1 * jitter) as u64;
        let until = now.saturating_add(time).saturating_add(jitter);
        standing.ejected_until = Some(until);
        Some(until)
    }

    /// Marks an endpoint from outside, or takes the mark back. Says whether that changes anything.
    pub(crate) fn mark(&mut self, index: usize, marked: bool, now: Nanos) -> bool {
        let standing = &mut self.standings[index];
        let changes = standing.marked != marked;
        standing.marked = marked;
        if changes && standing.is_in_rotation() {
            standing.in_rotation_since = now;
        }
        changes
    }

    /// Ends the ejections whose time is up, and says whose.
    pub(crate) fn bring_back(&mut self, now: Nanos) -> Vec<usize> {
        let mut back = Vec::new();
        for (index, standing) in self.standings.iter_mut().enumerate() {
            if standing.ejected_until.is_some_and(|until| until <= now) {
                standing.ejected_until = None;
                standing.in_rotation_since = now;
                back.push(index);
            }
        }
        back
    }

    /// At the end of an interval, the endpoints whose success rate is an outlier; they are not ejected yet. Who was well
    /// for all of the interval is forgiven one ejection.
    pub(crate) fn outliers(&mut self, now: Nanos, tally: impl Fn(usize) -> Tally) -> Vec<Outlier> {
        if now < self.interval_ends || self.ejection.is_off() {
            return Vec::new();
        }
        let began = self.interval_ends - INTERVAL;
        self.interval_ends = now.saturating_add(INTERVAL);
        let mut rates = Vec::new();
        for (index, standing) in self.standings.iter_mut().enumerate() {
            let tally = tally(index);
            let successes = tally.successes.saturating_sub(standing.counted.successes);
            let calls = successes + tally.failures.saturating_sub(standing.counted.failures);
            standing.counted = tally;
            if !standing.is_in_rotation() {
                continue;
            }
            if standing.in_rotation_since <= began {
                standing.times = standing.times.saturating_sub(1);
            }
            if calls >= CALLS {
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                rates.push((index, successes as f64 / calls as f64));
            }
        }
        if rates.len() < ENDPOINTS {
            return Vec::new();
        }
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let count = rates.len() as f64;
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
        let least = (mean - DEVIATIONS * variance.sqrt()).min(mean - GAP);
        rates.retain(|(_, rate)| *rate < least);
        rates.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        rates.into_iter().map(|(index, rate)| Outlier { index, rate, mean }).collect()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "rotation_tests.rs"]
mod tests;
