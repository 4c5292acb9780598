use std::{
    future::{Future, poll_fn},
    mem::replace,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
};

use buttress_core::{
    ByError, Classify, Deadline, Metric, Observe, Origin, Reason, Rejectable, Setting, SettingValue, Value,
    WeakObserve,
};
use tokio::time::{Instant, sleep};

use crate::{
    Budget,
    rules::{Course, Rules},
};

/// A handle of a [`RetryLayer`](crate::RetryLayer): repeats functions that are no `Service`, and tells the figures.
///
/// Clones, the layer and its services share one budget and its counters.
#[derive(Debug)]
pub struct Retrier<C = ByError>(Arc<Rules<C>>);

impl<C> Retrier<C> {
    pub(crate) fn new(rules: Rules<C>) -> Self {
        Self(Arc::new(rules))
    }

    /// Calls `f` until it succeeds or the rules say that its result stands. The same rules as for a service, but that
    /// `f` says by itself what it repeats.
    ///
    /// `async || ...` is such a function where it does not change what it captures. (The bound is not `AsyncFnMut`: the
    /// compiler could not see that the future is `Send`, so it could not be spawned.)
    ///
    /// Dropping the future drops the attempt that runs.
    ///
    /// ```
    /// use buttress_retry::RetryLayer;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let retrier = RetryLayer::new("prices").retrier();
    /// let mut attempts = 0;
    /// let price = retrier
    ///     .call(|| {
    ///         attempts += 1;
    ///         let attempt = attempts;
    ///         async move { if attempt < 3 { Err(std::io::Error::other("not yet")) } else { Ok(100) } }
    ///     })
    ///     .await?;
    /// assert_eq!((price, attempts), (100, 3));
    /// # Ok::<_, std::io::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The last error of `f`; a `DeadlineExceeded` where the wait before an attempt took until the deadline although it
    /// should have ended before.
    ///
    /// # Panics
    /// When it has to wait between attempts and there is no tokio runtime with a timer.
    pub async fn call<F, T, E>(&self, mut f: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        E: Rejectable,
    {
        self.0.budget.deposit(Instant::now);
        let mut course = Course::default();
        loop {
            let result = f().await;
            let Some(wait) = self.0.next(&result, &mut course, |_| true) else { return course.end(result) };
            drop(result);
            // Calls that fail at once would otherwise keep the thread for as long as they are repeated.
            if wait.is_zero() {
                pending_once().await
            } else {
                sleep(wait).await
            }
            // The timer can be late where the runtime is busy.
            if Deadline::has_expired() {
                return course.end(Err(self.0.origin.reject(Reason::DeadlineExceeded).into()));
            }
        }
    }

    /// The budget, to be shared with another layer.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }
}

impl<C> Clone for Retrier<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// `calls`, which are those of all who share the budget; `retries`; how often a failure stood because of
/// `attempts_exhausted`, `budget_exhausted`, `deadline_bound` (the wait would not have ended before the caller's deadline)
/// or `hint_too_long` (the backend asked for more patience than the backoff has); what is `available` in a limited
/// budget; and the layer's own rejections.
impl<C: Send + Sync> Observe for Retrier<C> {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        let Rules { origin, retries, backoff, ref budget, .. } = *self.0;
        let budget = budget.clone();
        // The layer and its services hold the counts, and each handle has rules of its own: the counts are what lives on.
        WeakObserve::of(&self.0.counts, move |counts| {
            Retrier::new(Rules {
                origin,
                retries,
                backoff,
                budget: budget.clone(),
                classify: ByError,
                counts,
            })
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of retries, not a ledger")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let counts = &*self.0.counts;
        let mut counter = |name, value| visit(Metric::new(name, Value::Counter(value)));
        counter("calls", self.0.budget.calls());
        counter("retries", counts.retries.load(Relaxed));
        counter("attempts_exhausted", counts.attempts_exhausted.load(Relaxed));
        counter("budget_exhausted", counts.budget_exhausted.load(Relaxed));
        counter("deadline_bound", counts.deadline_bound.load(Relaxed));
        counter("hint_too_long", counts.hint_too_long.load(Relaxed));
        if let Some(available) = self.0.budget.available(Instant::now()) {
            visit(Metric::new("available", Value::Gauge(available as f64)));
        }
        self.0.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let backoff = &self.0.backoff;
        visit(Setting::new("retries", SettingValue::Count(self.0.retries.into())));
        visit(Setting::new("backoff_first", SettingValue::Duration(backoff.first())));
        visit(Setting::new("backoff_cap", SettingValue::Duration(backoff.cap())));
        visit(Setting::new("backoff_factor", SettingValue::Ratio(backoff.factor())));
        self.0.budget.settings(visit);
    }
}

/// Lets the runtime do something else.
async fn pending_once() {
    let mut was_pending = false;
    poll_fn(|cx| {
        if replace(&mut was_pending, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
