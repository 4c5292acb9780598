use std::time::Duration;

use crate::{Arrivals, Durations};

/// Who calls, how long they wait for an answer, and what they do without one.
///
/// ```
/// use std::time::Duration;
/// use buttress_simulator::{Arrivals, Callers, Durations};
///
/// // People who wait for two seconds and then reload, three times at most.
/// let people = Callers::arriving(Arrivals::poisson(80.0))
///     .patient_for(Duration::from_secs(2))
///     .trying_again(3, Durations::constant(Duration::ZERO));
///
/// // 20 workers that call, think for half a second, and call again.
/// let workers = Callers::working(20, Durations::exponential(Duration::from_millis(500)));
/// # let _ = (people, workers);
/// ```
#[derive(Debug, Clone)]
pub struct Callers {
    pub(crate) source: Source,
    pub(crate) patience: Duration,
    pub(crate) tries: u32,
    pub(crate) pause: Durations,
}

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Open(Arrivals),
    Closed { callers: usize, think: Durations },
}

impl Callers {
    /// An open loop: calls come whatever becomes of those before them.
    #[must_use]
    pub fn arriving(arrivals: Arrivals) -> Self {
        Self::of(Source::Open(arrivals))
    }

    /// A closed loop: each of so many callers thinks, calls, waits for the end of the call, and thinks again. The
    /// slower the answers, the fewer the calls, so a closed loop hides overload; many batch workers are one.
    #[must_use]
    pub fn working(callers: usize, think: Durations) -> Self {
        Self::of(Source::Closed { callers, think })
    }

    fn of(source: Source) -> Self {
        let patience = Duration::from_secs(10);
        Self { source, patience, tries: 1, pause: Durations::constant(Duration::ZERO) }
    }

    /// How long a caller waits for an answer. Then he leaves: the future of the call is dropped, and no later answer
    /// counts. Default: 10 s. `Duration::MAX` waits for ever.
    #[must_use]
    pub fn patient_for(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How often a caller whose call failed, or whose patience ran out, calls again, how long after, and with his
    /// patience anew each time. Default: never. For what a client library does, put its retry into the stack instead.
    ///
    /// All tries together are one offered call, answered if any of them is.
    #[must_use]
    pub fn trying_again(mut self, times: u32, after: Durations) -> Self {
        self.tries = times.saturating_add(1);
        self.pause = after;
        self
    }
}
