//! The layers that the tables of a part stand for.

use std::time::Duration;

use buttress_bulkhead::{InvalidQueue, Limit as CallLimit, Queue};
use buttress_circuit_breaker::{InvalidTrip, Ramp, Settings, Trip, Window};
use buttress_core::Backoff;
use buttress_rate_limit::{InvalidRate, Limit, Rate};

use super::{
    Bulkhead, CircuitBreaker, Jitter, RateLimit, Retry,
    wrong::{Wrong, at_most_30_years, from_to, some_time},
};

/// More repetitions are a slip of the pen: with full jitter and the longest wait at its default, a hundred take eight
/// minutes.
const MOST_RETRIES: u32 = 100;

impl RateLimit {
    /// A sliding window.
    pub(crate) fn limit(&self) -> Result<Limit, Wrong> {
        at_most_30_years("max_wait", self.max_wait)?;
        let rate = Rate::try_new(self.limit, self.per).map_err(|invalid| match invalid {
            InvalidRate::NoUnits => {
                Wrong::new("limit", self.limit, "it would refuse every call, write at least 1")
            }
            InvalidRate::NoTime => Wrong::duration("per", self.per, "write at least \"1ms\""),
            InvalidRate::TooLong { .. } => Wrong::duration("per", self.per, "write at most \"366days\""),
            InvalidRate::TooFast { .. } => Wrong::duration(
                "per",
                self.per,
                "it is more than one call in a nanosecond, write a longer time",
            ),
            other => Wrong::hidden("limit", other.to_string()),
        })?;
        Ok(Limit::sliding_window(rate))
    }
}

impl Retry {
    /// The waits before the repetitions.
    pub(crate) fn backoff(&self) -> Result<Backoff, Wrong> {
        from_to("retries", self.retries, 0, MOST_RETRIES)?;
        some_time("delay", self.delay)?;
        at_most_30_years("max_delay", self.max_delay)?;
        let backoff = Backoff::exponential(self.delay, self.max_delay).map_err(|_| {
            let fix = format!("it is below `delay`, write at least {}", super::wrong::written(self.delay));
            Wrong::duration("max_delay", self.max_delay, fix)
        })?;
        let backoff = backoff
            .with_factor(self.factor)
            .map_err(|_| Wrong::new("factor", self.factor, "write a number of at least 1"))?;
        Ok(backoff.with_jitter(match self.jitter {
            Jitter::Full => buttress_core::Jitter::Full,
            Jitter::Equal => buttress_core::Jitter::Equal,
            Jitter::None => buttress_core::Jitter::None,
        }))
    }
}

impl CircuitBreaker {
    /// After so many failures in a row, and by their share of the window too where that is given.
    pub(crate) fn settings(&self) -> Result<Settings, Wrong> {
        let open_for = some_time("open_for", self.open_for)?;
        let window = Window::time(self.window)
            .map_err(|_| Wrong::duration("window", self.window, "write \"1ms\" to \"1day\""))?;
        let trip = match self.failure_rate {
            None => Trip::consecutive(self.failures),
            Some(rate) => Trip::failure_rate(rate, window)
                .and_then(|trip| trip.with_min_calls(20))
                .and_then(|trip| trip.with_consecutive(self.failures)),
        };
        let trip = trip.map_err(|invalid| match (invalid, self.failure_rate) {
            (InvalidTrip::Rate(_), Some(rate)) => Wrong::new(
                "failure_rate",
                rate,
                "write a number above 0 and at most 1, such as 0.5 for half of the calls",
            ),
            _ => Wrong::new(
                "failures",
                self.failures,
                "it would open before any failure, write at least 1, or `enabled = false` for none",
            ),
        })?;
        let open_for = Backoff::constant(open_for).with_jitter(buttress_core::Jitter::Equal);
        let ramp = match self.ramp {
            Duration::ZERO => Ramp::NONE,
            length => Ramp::over(length)
                .map_err(|_| Wrong::duration("ramp", length, "write at most \"1day\", or \"0s\" for none"))?,
        };
        Ok(Settings::default().trip(trip).open_for(open_for).ramp(ramp))
    }
}

impl Bulkhead {
    /// So many calls, without a place to wait and with the default for the wait.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, queue: 0, max_wait: Duration::from_secs(1) }
    }

    /// How many calls at once.
    pub(crate) fn limit(&self) -> Result<CallLimit, Wrong> {
        from_to("limit", self.limit, 1, CallLimit::MAX)?;
        CallLimit::fixed(self.limit).map_err(|invalid| Wrong::new("limit", self.limit, invalid.to_string()))
    }

    /// Where they wait, if they do.
    pub(crate) fn queue(&self) -> Result<Option<Queue>, Wrong> {
        if self.queue == 0 {
            at_most_30_years("max_wait", self.max_wait)?;
            return Ok(None);
        }
        Queue::try_new(self.queue, self.max_wait).map(Some).map_err(|invalid| match invalid {
            InvalidQueue::Capacity(_) => {
                Wrong::new("queue", self.queue, format!("write a number from 0 to {}", CallLimit::MAX))
            }
            _ if self.max_wait.is_zero() => Wrong::duration(
                "max_wait",
                self.max_wait,
                "write at least \"1ms\", or `queue = 0` so that none waits",
            ),
            _ => Wrong::duration("max_wait", self.max_wait, "write at most \"1day\""),
        })
    }
}
