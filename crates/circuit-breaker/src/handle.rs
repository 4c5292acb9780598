use std::{sync::Arc, time::Duration};

use buttress_core::{
    ByError, Classify, Metric, Observe, Origin, Outcome, Reason, Rejectable, Rejected, Value, thread_number,
};
use tokio::time::Instant;

use crate::{
    breaker::{Machine, State, Ticket, Transition, Verdict},
    config::Settings,
    loan::Loan,
    permit::Admitted,
    published::Refusal,
    shared::Shared,
    window::Tally,
};

/// A handle to a circuit breaker: to read it, to steer it, and to guard code that is no `Service`.
///
/// Clones are the same breaker.
///
/// ```
/// use buttress_circuit_breaker::{CircuitBreakerLayer, State};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let breaker = CircuitBreakerLayer::new("orders-db").breaker();
/// let rows = breaker.call(async || Ok::<_, std::io::Error>(3)).await?;
/// assert_eq!(breaker.state(), State::Closed);
/// # Ok::<_, std::io::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Loan>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) shared: Shared,
}

impl Inner {
    #[inline]
    pub(crate) fn reject(&self, refusal: Refusal) -> Rejected {
        let rejected = self.origin.reject(Reason::CircuitOpen);
        match refusal.retry_after() {
            Some(after) => rejected.with_retry_after(after),
            None => rejected,
        }
    }

    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict, now: impl Fn() -> Instant) {
        if let Some(transition) = self.shared.settle(thread_number(), ticket, verdict, now) {
            self.tell(&transition);
        }
    }

    /// Outside of the lock, since a subscriber is a user's code.
    #[cold]
    pub(crate) fn tell(&self, &Transition { from, to, tally, consecutive, open_for }: &Transition) {
        if from == to {
            return;
        }
        let (name, from, to) = (self.origin.name(), from.as_str(), to.as_str());
        let Tally { calls, failed, slow } = tally;
        match open_for {
            Some(open_for) => tracing::warn!(
                name,
                from,
                to,
                calls,
                failed,
                slow,
                consecutive,
                ?open_for,
                "circuit breaker opened: calls are refused"
            ),
            None => tracing::info!(name, from, to, "circuit breaker changed its state"),
        }
    }
}

impl Breaker {
    pub(crate) fn new(origin: Origin, settings: Settings) -> Self {
        Self(Arc::new(Loan::of(origin, settings)))
    }

    #[inline]
    pub(crate) fn inner(&self) -> &'static Inner {
        self.0.inner()
    }

    /// Admits one call, or refuses it at once. Reads the clock.
    ///
    /// # Errors
    /// [`Rejected`] with [`Reason::CircuitOpen`], and with the time left where it is known.
    pub fn acquire(&self) -> Result<Permit, Rejected> {
        let mut admitted = Admitted::admit(self.inner()).map_err(|refusal| self.inner().reject(refusal))?;
        admitted.waits();
        Ok(Permit(admitted))
    }

    /// Runs a function that is no `Service`, or refuses at once. Its result is judged by [`ByError`], whatever the
    /// layer's classifier is: see [`call_with`](Self::call_with). Dropping the future is the same as dropping the
    /// [`Permit`].
    ///
    /// # Errors
    /// What `f` returns, or [`Rejected`] with [`Reason::CircuitOpen`].
    pub async fn call<T, E: Rejectable>(&self, f: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        self.call_with(ByError, f).await
    }

    /// The same, judged by this classifier.
    ///
    /// # Errors
    /// What `f` returns, or [`Rejected`] with [`Reason::CircuitOpen`].
    pub async fn call_with<T, E: From<Rejected>>(
        &self,
        classify: impl Classify<T, E>,
        f: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut admitted = Admitted::admit(self.inner()).map_err(|refusal| self.inner().reject(refusal))?;
        admitted.waits();
        let result = f().await;
        admitted.finish(classify.classify(&result));
        result
    }

    /// The state now. An open breaker whose time is up stays [`Open`](State::Open) until the next call makes it
    /// half-open.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().shared.state()
    }

    /// The state and the figures now, with every call counted that has ended.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let (snapshot, transition) = self.inner().shared.with(now, |machine| {
            let Tally { calls, failed, slow } = machine.tally();
            Snapshot {
                state: machine.state(),
                calls,
                failed,
                slow,
                consecutive_failures: machine.consecutive(),
                retry_after: machine.refuses_until().map(|until| until.saturating_duration_since(now)),
                opened: machine.opened,
            }
        });
        transition.iter().for_each(|transition| self.inner().tell(transition));
        snapshot
    }

    /// Refuses every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.steer(|machine, _| Some(machine.hold(true)));
    }

    /// Lets every call through until [`reset`](Self::reset). Calls are still counted.
    pub fn force_closed(&self) {
        self.steer(|machine, _| Some(machine.hold(false)));
    }

    /// Opens it for that long, as if it had tripped: then probes decide. Does nothing while it is forced open or closed.
    pub fn isolate(&self, length: Duration) {
        self.steer(|machine, now| machine.isolate(length, now));
    }

    /// Closes it from any state, with nothing counted.
    pub fn reset(&self) {
        self.steer(|machine, _| Some(machine.reset()));
    }

    fn steer(&self, f: impl FnOnce(&mut Machine, Instant) -> Option<Transition>) {
        let now = Instant::now();
        let (transition, earlier) = self.inner().shared.with(now, |machine| f(machine, now));
        earlier.iter().chain(&transition).for_each(|transition| self.inner().tell(transition));
    }
}

/// `state` (0 closed, 1 open, 2 half-open, 3 forced open, 4 forced closed), the window's `calls`, `failed` and `slow`,
/// `opened`, and the rejections.
impl Observe for Breaker {
    fn origin(&self) -> Origin {
        self.inner().origin
    }

    #[expect(clippy::cast_precision_loss, reason = "a window holds fewer calls than a float can count")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let snapshot = self.snapshot();
        visit(Metric::new("state", Value::Gauge(f64::from(snapshot.state as u8))));
        visit(Metric::new("calls", Value::Gauge(snapshot.calls as f64)));
        visit(Metric::new("failed", Value::Gauge(snapshot.failed as f64)));
        visit(Metric::new("slow", Value::Gauge(snapshot.slow as f64)));
        visit(Metric::new("opened", Value::Counter(snapshot.opened)));
        self.inner().origin.observe_rejections(visit);
    }
}

/// What a breaker knew at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// The calls in the window; 0 where there is no window.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were slow; counted only with a slow rate.
    pub slow: u64,
    /// The failures since the last success.
    pub consecutive_failures: u64,
    /// How long calls are refused yet.
    pub retry_after: Option<Duration>,
    /// How often it has opened by itself.
    pub opened: u64,
}

/// An admitted call. Say how it ended; dropped without a word it gives its slot back, and counts as failed where it
/// took longer than `slow_call`.
#[derive(Debug)]
#[must_use = "dropping it ends the call"]
pub struct Permit(Admitted);

impl Permit {
    /// The call ended like this.
    pub fn finish(mut self, outcome: Outcome) {
        self.0.finish(outcome);
    }
}
