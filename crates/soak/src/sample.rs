//! What one request came to.

use std::time::Duration;

/// What it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A user: from the cache, else from Postgres.
    User,
    /// A user with a profile: from the upstream, too.
    Profile,
    /// One of many profiles at once, which reach the limits.
    Burst,
    /// An order, into Postgres and into the workers' queue.
    Order,
}

impl Class {
    pub(crate) const ALL: [Self; 4] = [Self::User, Self::Profile, Self::Burst, Self::Order];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "users",
            Self::Profile => "profiles",
            Self::Burst => "profiles in bursts",
            Self::Order => "orders",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With what was asked for.
    Good,
    /// By a limit, which said so.
    Limited,
    /// With this status, or with 0: without an answer.
    Failed(u16),
    /// There was no answer long after its deadline. The client gave it up.
    Hung,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When it was sent, after the beginning of the load.
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) class: Class,
    pub(crate) outcome: Outcome,
}

impl Sample {
    pub(crate) fn end(&self) -> Duration {
        self.at + self.took
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self.class, Class::User | Class::Profile)
    }

    pub(crate) fn is_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_) | Outcome::Hung)
    }
}

/// The 99th percentile of the good reads that ended in this time. None where there are fewer than 20.
pub(crate) fn p99(samples: &[Sample], from: Duration, until: Duration) -> Option<Duration> {
    let inside = |sample: &&Sample| (from..until).contains(&sample.end());
    let good = samples.iter().filter(|sample| sample.is_read() && sample.outcome == Outcome::Good);
    let mut took: Vec<_> = good.filter(inside).map(|sample| sample.took).collect();
    took.sort_unstable();
    (took.len() >= 20).then(|| took[(took.len() * 99).div_ceil(100) - 1])
}

/// How many of those that ended in this time failed.
pub(crate) fn failed(samples: &[Sample], from: Duration, until: Duration) -> usize {
    let inside = |sample: &&Sample| (from..until).contains(&sample.end());
    samples.iter().filter(inside).filter(|sample| sample.is_failed()).count()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn read(at_ms: u64, took_ms: u64) -> Sample {
        Sample {
            at: Duration::from_millis(at_ms),
            took: Duration::from_millis(took_ms),
            class: Class::User,
            outcome: Outcome::Good,
        }
    }

    #[test]
    fn the_percentile_is_that_of_good_reads_of_its_time() {
        let mut samples: Vec<_> = (1..=100).map(|n| read(1_000, n)).collect();
        let (from, until) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(p99(&samples, from, until), Some(Duration::from_millis(99)));
        samples.push(Sample { outcome: Outcome::Failed(503), ..read(1_000, 900) });
        samples.push(Sample { class: Class::Order, ..read(1_000, 900) });
        samples.push(read(1_000, 1_001));
        assert_eq!(p99(&samples, from, until), Some(Duration::from_millis(99)));
        assert_eq!(failed(&samples, from, until), 1);
        assert_eq!(p99(&samples[..19], from, until), None);
    }
}
