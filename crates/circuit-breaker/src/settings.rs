use std::time::Duration;

use buttress_core::{Backoff, Jitter, Setting, SettingValue};

use crate::{
    probes::Probes,
    ramp::Ramp,
    throttle::Throttle,
    trip::{Policy, Trip},
};

/// All thresholds and times of a breaker. Every value is valid by construction, so nothing here can fail.
///
/// The layer's [`Builder`](crate::Builder) sets the same; this is for a breaker that runs:
///
/// ```
/// use buttress_circuit_breaker::{CircuitBreakerLayer, Trip, Window};
///
/// let breaker = CircuitBreakerLayer::new("orders-db").breaker();
/// let stricter = Trip::failure_rate(0.2, Window::calls(100)?)?;
/// breaker.configure(breaker.settings().trip(stricter)); // what the window holds lives on
/// # Ok::<_, buttress_circuit_breaker::InvalidTrip>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    pub(crate) policy: Policy,
    pub(crate) probes: Probes,
    pub(crate) ramp: Ramp,
    pub(crate) open_for: Backoff,
    pub(crate) slow_call: Duration,
    pub(crate) count_dropped: bool,
    pub(crate) obey_throttling: bool,
    pub(crate) shadow: Option<Trip>,
}

impl Settings {
    /// Each by the name of the method that sets it.
    pub(crate) fn tell(&self, visit: &mut dyn FnMut(Setting)) {
        use SettingValue::{Count, Off, Ratio, Word};
        let length = SettingValue::Duration;
        let mut tell = |name, value| visit(Setting::new(name, value));
        match self.policy {
            Policy::Trip(trip) => {
                let rates = trip.rates;
                tell("failure_rate", rates.map_or(Off, |rates| Ratio(rates.failed.share())));
                tell("slow_rate", rates.and_then(|rates| rates.slow).map_or(Off, |slow| Ratio(slow.share())));
                tell("min_calls", rates.map_or(Off, |rates| Count(rates.min_calls.into())));
                tell("window", rates.map_or(Off, |rates| rates.window.setting()));
                tell("consecutive", trip.consecutive.map_or(Off, |n| Count(n.into())));
            }
            Policy::Throttle(throttle) => {
                tell("throttle_k", Ratio(throttle.k()));
                tell("window", length(throttle.window));
            }
        }
        tell("open_for", length(self.open_for.first()));
        tell("open_for_cap", length(self.open_for.cap()));
        tell("probes", Count(self.probes.permitted.into()));
        tell("probe_lease", length(self.probes.lease));
        tell("ramp", length(self.ramp.length(self.policy)));
        tell("slow_call", length(self.slow_call));
        tell("ignore_dropped", Word(if self.count_dropped { "no" } else { "yes" }));
        tell("obey_throttling", Word(if self.obey_throttling { "yes" } else { "no" }));
    }

    /// When it opens. Default: half of the last 100 calls failed, once there were 20.
    #[must_use]
    pub const fn trip(mut self, trip: Trip) -> Self {
        self.policy = Policy::Trip(trip);
        self
    }

    /// Refuses a share of the calls instead of opening.
    #[must_use]
    pub const fn throttle(mut self, throttle: Throttle) -> Self {
        self.policy = Policy::Throttle(throttle);
        self
    }

    /// How long it stays open, each time that it opens again without having closed. Default: 5 s, shortened by up to a
    /// half by chance.
    ///
    /// An exponential backoff leaves a backend alone for longer each time, and finds out later that it is back: after an
    /// outage of a minute with 5 s, doubling, up to a minute. A few probes every few seconds are no load that would hinder
    /// a backend, so the default does not grow.
    #[must_use]
    pub const fn open_for(mut self, backoff: Backoff) -> Self {
        self.open_for = backoff;
        self
    }

    /// How it finds out whether the backend is back. Default: 3 probes with a lease of 10 s.
    #[must_use]
    pub const fn probes(mut self, probes: Probes) -> Self {
        self.probes = probes;
        self
    }

    /// How it lets calls back in after the probes have succeeded. Default: over 5 s, or a shorter window.
    #[must_use]
    pub const fn ramp(mut self, ramp: Ramp) -> Self {
        self.ramp = ramp;
        self
    }

    /// From which duration on a call is slow. Default: 1 s.
    ///
    /// A call that is dropped, or that ends without telling anything of the backend, after waiting that long counts as
    /// failed: otherwise a timeout around the breaker would hide a backend that hangs. Slow calls that end count with
    /// [`Trip::with_slow_rate`].
    #[must_use]
    pub const fn slow_call(mut self, duration: Duration) -> Self {
        self.slow_call = duration;
        self
    }

    /// Never counts a dropped call as failed.
    #[must_use]
    pub const fn ignore_dropped(mut self) -> Self {
        self.count_dropped = false;
        self
    }

    /// Opens at once, for as long as it says, when an answer asks to be left alone for some time
    /// (`Outcome::Throttled(Some(time))`: a 429, or a 503 with `Retry-After`). Without this, such an answer is one failure
    /// like others, and makes the time longer if the breaker opens. Either way it counts for at most a minute, or the
    /// longest [`open_for`](Self::open_for), if that is more.
    ///
    /// Right where the limit is for all that this breaker guards; wrong where it is for one user of many.
    #[must_use]
    pub const fn obey_throttling(mut self) -> Self {
        self.obey_throttling = true;
        self
    }

    /// Counts beside the live decisions what the breaker would do with this trip, without acting:
    /// [`Snapshot::shadow`](crate::Snapshot::shadow) reports it.
    #[must_use]
    pub const fn shadow(mut self, candidate: Trip) -> Self {
        self.shadow = Some(candidate);
        self
    }

    /// Ends the counting for a candidate.
    #[must_use]
    pub const fn without_shadow(mut self) -> Self {
        self.shadow = None;
        self
    }

    /// The longest time that a backend can ask for.
    pub(crate) fn longest_hint(&self) -> Duration {
        self.open_for.cap().max(Duration::from_secs(60))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::Trip(Trip::default()),
            probes: Probes::default(),
            ramp: Ramp::default(),
            open_for: Backoff::constant(Duration::from_secs(5)).with_jitter(Jitter::Equal),
            slow_call: Duration::from_secs(1),
            count_dropped: true,
            obey_throttling: false,
            shadow: None,
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_default_opens_for_at_most_five_seconds_and_not_always_as_long() {
        let mut times: Vec<_> = Settings::default().open_for.delays().take(100).collect();
        times.sort_unstable();
        assert!(times[0] < Duration::from_secs(3) && times[0] >= Duration::from_millis(2500), "{times:?}");
        assert!(times[99] > Duration::from_secs(4) && times[99] <= Duration::from_secs(5), "{times:?}");
    }
}
