use std::time::Duration;

use crate::Limit;

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// The limit.
    pub limit: Limit,
    /// The units that can be taken now.
    pub remaining: u32,
    /// How long until all units are there, if none are taken meanwhile; zero where they are.
    pub reset_after: Duration,
    /// How long a [restriction](crate::RateLimiter::restrict) still holds, of several the one with the fewest units.
    pub restricted_for: Option<Duration>,
}
