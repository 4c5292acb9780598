//! The layers that stand before a part.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;

/// At most so many calls in so much time, by a sliding window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RateLimit {
    /// How many calls.
    pub limit: u32,
    /// In how much time.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub per: Duration,
    /// How long a call may wait for its turn; with zero it is refused at once.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub max_wait: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { limit: 100, per: Duration::from_secs(60), max_wait: Duration::ZERO }
    }
}

/// What failed is repeated, where nothing is done twice by that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retry {
    /// How often a call is repeated at most; 0 never does.
    pub retries: u32,
    /// How long before the first of them.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub delay: Duration,
    /// How much longer before each further one.
    pub factor: f64,
    /// The longest such wait.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub max_delay: Duration,
    /// How much of a wait is left to chance, so that callers that failed together do not come back together.
    pub jitter: Jitter,
    /// Which calls are repeated.
    pub requests: Requests,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 3,
            delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(10),
            jitter: Jitter::Full,
            requests: Requests::Repeatable,
        }
    }
}

/// How much of a delay is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Jitter {
    /// All of it.
    Full,
    /// Its second half.
    Equal,
    /// Nothing.
    None,
}

/// Which calls may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Requests {
    /// Those that may be carried out twice without harm, as far as they say so themselves; and any that were not sent.
    Repeatable,
    /// Every one: what a server did before its answer was lost is done once more.
    All,
}

/// Calls are refused for a while where they fail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CircuitBreaker {
    /// False: there is none.
    pub enabled: bool,
    /// So many failures in a row open it.
    pub failures: u32,
    /// For how long it stays open before it tries again: so long, or up to half of it less by chance, so that several
    /// processes do not come back together.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub open_for: Duration,
    /// This share of failed calls in `window` opens it too, from 0 to 1, once there were 20 calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<f64>,
    /// For how long calls count for `failure_rate`.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub window: Duration,
    /// For how long it lets a growing share of the calls through once it has closed; with zero all of them at once.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub ramp: Duration,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            open_for: Duration::from_secs(60),
            failure_rate: None,
            window: Duration::from_secs(60),
            ramp: Duration::from_secs(5),
        }
    }
}

/// At most so many calls on their way at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Bulkhead {
    /// How many calls.
    pub limit: u32,
    /// How many more may wait; with 0 they are refused at once.
    #[serde(default)]
    pub queue: u32,
    /// How long one may wait.
    #[serde(default = "a_second", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub max_wait: Duration,
}

const fn a_second() -> Duration {
    Duration::from_secs(1)
}
