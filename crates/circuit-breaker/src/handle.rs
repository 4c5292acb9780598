use std::{sync::Arc, time::Duration};

use buttress_core::{
    ByError, Classify, Metric, Observe, Origin, Outcome, Rejectable, Rejected, Setting, UnknownAction, Value,
    WeakObserve, thread_stripes,
};
use tokio::{sync::watch, time::Instant};

use crate::{
    breaker::Machine,
    inner::Inner,
    loan::Loan,
    permit::Admitted,
    settings::Settings,
    shadow::Shadow,
    state::{Hold, State, Transition},
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

impl Breaker {
    pub(crate) fn new(origin: Origin, settings: Settings) -> Self {
        Self(Arc::new(Loan::of(origin, settings, thread_stripes(), None)))
    }

    #[cfg(feature = "keyed")]
    pub(crate) fn loan(&self) -> &Loan {
        &self.0
    }

    /// For one of many, each with few callers: of few cells, and told of by its key.
    #[cfg(feature = "keyed")]
    pub(crate) fn of_key(origin: Origin, settings: Settings, key: String) -> Self {
        Self(Arc::new(Loan::of(origin, settings, 2, Some(key))))
    }

    #[inline]
    pub(crate) fn inner(&self) -> &'static Inner {
        self.0.inner()
    }

    /// Admits one call, or refuses it at once. Reads the clock.
    ///
    /// # Errors
    /// [`Rejected`] with [`Reason::CircuitOpen`](buttress_core::Reason::CircuitOpen), and with the time left where it is known.
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
    /// What `f` returns, or [`Rejected`] with [`Reason::CircuitOpen`](buttress_core::Reason::CircuitOpen).
    pub async fn call<T, E: Rejectable>(&self, f: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        self.call_with(ByError, f).await
    }

    /// The same, judged by this classifier.
    ///
    /// # Errors
    /// What `f` returns, or [`Rejected`] with [`Reason::CircuitOpen`](buttress_core::Reason::CircuitOpen).
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
        self.inner().with(now, |machine| {
            let Tally { calls, failed, slow } = machine.tally();
            Snapshot {
                state: machine.state(),
                calls,
                failed,
                slow,
                consecutive_failures: machine.consecutive(),
                retry_after: machine.refuses_until().map(|until| until.saturating_duration_since(now)),
                opened: machine.opened,
                shadow: machine.shadow(),
            }
        })
    }

    /// The settings that it works by.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.inner().with(Instant::now(), |machine| *machine.settings())
    }

    /// Works by other settings from now on. Its state lives on, and what was counted, as far as a window of another size
    /// reaches; a window of time cannot be made of one of calls, nor the other way round, and begins anew. Calls that are
    /// running are not counted where it opens by something else than before, or has another shadow.
    pub fn configure(&self, settings: Settings) {
        self.steer(|machine, now| machine.configure(settings, now));
    }

    /// Every transition from now on: the last one is kept, and where several come quickly, those between may be missed
    /// (see [`Transition::number`]). First it holds the state now: as the last transition, or as one into itself where
    /// nobody has listened before. It ends when the last handle and service of the breaker is gone.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Transition> {
        self.inner().subscribe(Instant::now())
    }

    /// Refuses every call until [`reset`](Self::reset).
    pub fn force_open(&self) {
        self.steer(|machine, _| Some(machine.hold(Hold::Open)));
    }

    /// Lets every call through until [`reset`](Self::reset). Calls are still counted.
    pub fn force_closed(&self) {
        self.steer(|machine, _| Some(machine.hold(Hold::Closed)));
    }

    /// Lets every call through until [`reset`](Self::reset), and counts what it would have done otherwise: see
    /// [`Snapshot::shadow`]. To try a breaker out where there was none. A [`Throttle`](crate::Throttle) is not tried out.
    pub fn metrics_only(&self) {
        self.steer(|machine, _| Some(machine.hold(Hold::MetricsOnly)));
    }

    /// Opens it for that long, as if it had tripped: then probes decide. Does nothing while it is forced open or closed, or
    /// only tried out.
    pub fn isolate(&self, length: Duration) {
        self.steer(|machine, now| machine.isolate(length, now));
    }

    /// Closes it from any state, with nothing counted.
    pub fn reset(&self) {
        self.steer(|machine, _| Some(machine.reset()));
    }

    fn steer(&self, f: impl FnOnce(&mut Machine, Instant) -> Option<Transition>) {
        let now = Instant::now();
        self.inner().steer(now, |machine| f(machine, now));
    }
}

/// `state` (0 closed, 1 open, 2 half-open, 3 forced open, 4 forced closed, 5 metrics only, 6 recovering, 7 throttling), `window_calls`,
/// `window_failed` and `window_slow`, `opened`, with a shadow also `shadow_opened`, `shadow_refused` and
/// `shadow_refused_good`, and the rejections.
impl Observe for Breaker {
    fn origin(&self) -> Origin {
        self.inner().origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "a window holds fewer calls than a float can count")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let snapshot = self.snapshot();
        visit(Metric::new("state", Value::Gauge(f64::from(snapshot.state as u8))));
        visit(Metric::new("window_calls", Value::Gauge(snapshot.calls as f64)));
        visit(Metric::new("window_failed", Value::Gauge(snapshot.failed as f64)));
        visit(Metric::new("window_slow", Value::Gauge(snapshot.slow as f64)));
        visit(Metric::new("opened", Value::Counter(snapshot.opened)));
        if let Some(shadow) = snapshot.shadow {
            visit(Metric::new("shadow_opened", Value::Counter(shadow.opened)));
            visit(Metric::new("shadow_refused", Value::Counter(shadow.refused)));
            visit(Metric::new("shadow_refused_good", Value::Counter(shadow.refused_good)));
        }
        self.inner().origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.settings().tell(visit);
    }

    /// `force_open`, `force_closed`, and `reset`, which ends both and closes it.
    fn actions(&self) -> &'static [&'static str] {
        &["force_open", "force_closed", "reset"]
    }

    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        match action {
            "force_open" => self.force_open(),
            "force_closed" => self.force_closed(),
            "reset" => self.reset(),
            _ => return Err(UnknownAction),
        }
        Ok(())
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
    /// What the candidate of [`Settings::shadow`] would have done, or the own thresholds where they are only tried.
    pub shadow: Option<Shadow>,
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
