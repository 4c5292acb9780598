use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A point in time by two clocks: the one on the wall, which a `Date` is compared with, and one that only goes forward, by
/// which the time in the cache is measured. Setting the wall clock neither wears a stored response out nor makes it young.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the clock that only goes forward.
    pub instant: Instant,
    /// By the clock on the wall.
    pub system: SystemTime,
}

impl Moment {
    /// Reads both clocks.
    #[expect(
        clippy::disallowed_methods,
        reason = "an origin's dates are by the time of day; for all that passes here, the other clock counts"
    )]
    #[must_use]
    pub fn now() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }

    /// Later by this much on both clocks. A clock that cannot show it stays.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        Self {
            instant: self.instant.checked_add(by).unwrap_or(self.instant),
            system: self.system.checked_add(by).unwrap_or(self.system),
        }
    }

    /// What has passed since, by the clock that only goes forward; nothing, if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}
