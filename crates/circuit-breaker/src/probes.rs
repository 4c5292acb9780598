use std::{error::Error, fmt, time::Duration};

/// How the breaker finds out whether the backend is back. The default is 3 probes with a lease of 10 s, all of which must
/// succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probes {
    pub(crate) permitted: u32,
    pub(crate) lease: Duration,
    pub(crate) successes: u32,
    pub(crate) longest: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Probes {
    /// Half-open, at most `permitted` calls are let through; when that many have succeeded the breaker closes, at the
    /// first failure it opens again. A probe that has no result after `lease` counts as failed, so that one that hangs
    /// cannot keep the breaker half-open. After three leases without a verdict the breaker closes.
    ///
    /// # Errors
    /// If `permitted` is zero or above 1,000, or `lease` is zero or above a day.
    pub const fn try_new(permitted: u32, lease: Duration) -> Result<Self, InvalidProbes> {
        if permitted == 0 || permitted > Self::MOST {
            Err(InvalidProbes::Permitted(permitted))
        } else if lease.is_zero() || lease.as_secs() > DAY.as_secs() {
            Err(InvalidProbes::Lease(lease))
        } else {
            Ok(Self { permitted, lease, successes: permitted, longest: lease.saturating_mul(3) })
        }
    }

    /// Closes when so many probes have succeeded; `permitted` is then how many are let through at the same time, and
    /// never more than are still needed.
    ///
    /// # Errors
    /// If it is zero or above 1,000.
    pub const fn with_successes(mut self, successes: u32) -> Result<Self, InvalidProbes> {
        if successes == 0 || successes > Self::MOST {
            return Err(InvalidProbes::Successes(successes));
        }
        self.successes = successes;
        Ok(self)
    }

    /// Closes after this time without a verdict, whatever the probes do; the window judges then. Default: three leases.
    ///
    /// # Errors
    /// If it is shorter than a lease, or longer than three days.
    pub fn with_longest(mut self, longest: Duration) -> Result<Self, InvalidProbes> {
        if longest < self.lease || longest > 3 * DAY {
            return Err(InvalidProbes::Longest { longest, lease: self.lease });
        }
        self.longest = longest;
        Ok(self)
    }

    const MOST: u32 = 1_000;
}

impl Default for Probes {
    fn default() -> Self {
        let lease = Duration::from_secs(10);
        Self { permitted: 3, lease, successes: 3, longest: 3 * lease }
    }
}

/// Why [`Probes`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidProbes {
    /// No probe, with which the breaker could never close, or more than 1,000.
    Permitted(u32),
    /// A lease of zero, which every probe would lose, or of more than a day.
    Lease(Duration),
    /// No success, with which the breaker would close without a probe, or more than 1,000.
    Successes(u32),
    /// A longest time that ends before the first lease, or never.
    Longest {
        /// The longest time.
        longest: Duration,
        /// The lease.
        lease: Duration,
    },
}

impl fmt::Display for InvalidProbes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permitted(n) => write!(f, "half-open needs 1 to 1000 permitted probes, not {n}"),
            Self::Lease(lease) => {
                write!(f, "a probe's lease must be above zero and at most a day, not {lease:?}")
            }
            Self::Successes(n) => write!(f, "closing must take 1 to 1000 successful probes, not {n}"),
            Self::Longest { longest, lease } => {
                write!(
                    f,
                    "half-open must last at least a lease ({lease:?}) and at most three days, not {longest:?}"
                )
            }
        }
    }
}

impl Error for InvalidProbes {}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let second = Duration::from_secs(1);
        assert_eq!(Probes::try_new(0, second), Err(InvalidProbes::Permitted(0)));
        assert_eq!(Probes::try_new(1_001, second), Err(InvalidProbes::Permitted(1_001)));
        assert_eq!(Probes::try_new(1, Duration::ZERO), Err(InvalidProbes::Lease(Duration::ZERO)));
        assert!(Probes::try_new(1, 2 * DAY).is_err());
        let probes = Probes::try_new(1, second).unwrap();
        assert_eq!(probes.with_successes(0), Err(InvalidProbes::Successes(0)));
        assert!(probes.with_successes(1_001).is_err());
        assert!(probes.with_longest(second / 2).is_err());
        assert!(probes.with_longest(4 * DAY).is_err());
        assert_eq!(probes.with_longest(second).unwrap().longest, second);
    }
}
