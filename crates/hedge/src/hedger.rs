use std::{
    future::Future,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_budget::Budget;
use buttress_core::{
    ByError, Classify, CloneRequest, Metric, Observe, Origin, Rejectable, Setting, SettingValue, Value,
    WeakObserve,
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ResponseFuture,
    loan::{Inner, Loan},
};

/// A handle of a [`HedgeLayer`](crate::HedgeLayer): hedges functions that are no `Service`, and tells the figures.
///
/// Clones, the layer and its services share one budget, one measure of how long calls take, and their counters.
#[derive(Debug, Clone)]
pub struct Hedger<C = ByError> {
    lent: &'static Inner,
    budget: Budget,
    classify: C,
    /// Keeps the state from being lent to another layer.
    shared: Arc<OnceLock<Loan>>,
}

impl<C> Hedger<C> {
    pub(crate) const fn new(
        lent: &'static Inner,
        shared: Arc<OnceLock<Loan>>,
        budget: Budget,
        classify: C,
    ) -> Self {
        Self { lent, budget, classify, shared }
    }

    /// Calls `f`, and once more where the first call is late. The same rules as for a service, but that `f` is taken at its
    /// word: whatever it does may be done twice.
    ///
    /// `async || ...` is such a function where it does not change what it captures. (The bound is not `AsyncFnMut`: two of
    /// its futures could not run at the same time.)
    ///
    /// Dropping the future drops all attempts.
    ///
    /// ```
    /// use std::{sync::atomic::{AtomicU32, Ordering::Relaxed}, time::Duration};
    /// use buttress_hedge::{CloneRequest, HedgeLayer};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let hedger = HedgeLayer::new("prices", CloneRequest).delay(Duration::from_millis(20)).hedger();
    /// let calls = AtomicU32::new(0);
    /// let price = hedger
    ///     .call(async || {
    ///         if calls.fetch_add(1, Relaxed) == 0 {
    ///             std::future::pending::<()>().await;
    ///         }
    ///         Ok::<_, std::io::Error>(100)
    ///     })
    ///     .await?;
    /// assert_eq!((price, calls.into_inner()), (100, 2));
    /// # Ok::<_, std::io::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Those of `f`: an error that is final at once, else the last one when all attempts have failed.
    ///
    /// # Panics
    /// When the first attempt has to wait and there is no tokio runtime with a timer.
    pub async fn call<F, T, E>(&self, mut f: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E> + Clone,
        E: Rejectable,
    {
        self.budget.deposit(Instant::now);
        let first = f();
        let is_hedged = self.lent.settings.attempts > 1;
        let (spare, kept) = if is_hedged { (Some(Function(f)), Some(())) } else { (None, None) };
        ResponseFuture::new(first, spare, kept, self.lent, self.classify.clone(), CloneRequest).await
    }

    /// The budget, to be shared with another layer.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }
}

/// A function as a service, so that both are hedged by the same code.
struct Function<F>(F);

impl<F, R, T, E> Service<()> for Function<F>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> R {
        self.0()
    }
}

/// `calls` whose first attempt was polled; `hedges` that started; `hedge_wins`, which ended their call: the last of several
/// failures is none; `budget_exhausted`, how often a hedge was wanted and not granted; the `delay` in seconds.
impl<C: Send + Sync> Observe for Hedger<C> {
    fn origin(&self) -> Origin {
        self.lent.origin
    }

    fn downgrade(&self) -> WeakObserve {
        let (lent, budget) = (self.lent, self.budget.clone());
        WeakObserve::of(&self.shared, move |shared| Hedger {
            lent,
            budget: budget.clone(),
            classify: ByError,
            shared,
        })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let counts = &self.lent.counts;
        let mut counter = |name, value| visit(Metric::new(name, Value::Counter(value)));
        counter("calls", self.lent.estimator.calls());
        counter("hedges", counts.hedges.load(Relaxed));
        counter("hedge_wins", counts.hedge_wins.load(Relaxed));
        counter("budget_exhausted", counts.budget_exhausted.load(Relaxed));
        visit(Metric::new("delay", Value::Gauge(self.lent.delay().as_secs_f64())).with_unit("s"));
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let settings = &self.lent.settings;
        visit(Setting::new("attempts", SettingValue::Count(settings.attempts.into())));
        settings.delay.settings(visit);
        self.budget.settings(visit);
    }
}
