#[cfg(feature = "keyed")]
use std::sync::atomic::{Ordering::Acquire, fence};
use std::{future::poll_fn, pin::pin, sync::Arc};

use buttress_core::{
    ByError, Classify, Decision, Metric, Observe, Origin, Outcome, Reason, Rejectable, Rejected, Setting,
    Value, WeakObserve,
};

use crate::{
    Criticality, InvalidLimit,
    adaptive::Gather,
    config::Settings,
    loan::Loan,
    permit::Admitted,
    permits::{Count, Entry, Permits},
    ticket::{Door, Ticket},
};

/// A handle to a bulkhead: to read it, to steer it, and to guard code that is no `Service`.
///
/// Clones are the same bulkhead.
///
/// ```
/// use buttress_bulkhead::{BulkheadLayer, Limit};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let limiter = BulkheadLayer::new("thumbnails", Limit::fixed(4)?).limiter();
/// let permit = limiter.acquire().await?; // given back when it is dropped
/// assert_eq!(limiter.snapshot().in_flight, 1);
/// # drop(permit);
/// # Ok::<_, buttress_core::BoxError>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Loan>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) settings: Settings,
    pub(crate) adaptive: Option<Gather>,
    pub(crate) permits: Permits,
}

impl Inner {
    pub(crate) fn new(origin: Origin, settings: Settings) -> Self {
        Self {
            origin,
            settings,
            adaptive: settings.limit.adapts().map(|adaptive| Gather::new(adaptive, settings.stripes)),
            permits: Permits::new(settings.plan()),
        }
    }

    /// Whether it can be lent as that.
    pub(crate) fn fits(&self, origin: Origin, settings: &Settings) -> bool {
        self.origin == origin
            && self.settings == *settings
            && self.adaptive.as_ref().is_none_or(Gather::runs)
            && self.permits.are_home()
    }

    pub(crate) fn renew(&self) {
        self.permits.renew(self.settings.plan().limit);
        if let Some(adaptive) = &self.adaptive {
            adaptive.renew();
        }
    }

    pub(crate) fn reject(&self, reason: Reason) -> Rejected {
        self.origin.reject(reason)
    }

    /// For a decision: as of the moment after it.
    #[cold]
    fn in_words(&self) -> String {
        let Count { limit, in_flight, waiting, .. } = self.permits.count();
        format!("{in_flight} of {limit} in flight, {waiting} waiting")
    }

    /// Takes a permit wherever there is one. An adaptive limit is told when it was reached.
    pub(crate) fn enter(&self, level: impl FnOnce() -> Criticality, may_wait: bool) -> Entry {
        let entry = self.permits.enter(level, may_wait);
        if let Some(adaptive) = &self.adaptive
            && !matches!(entry, Entry::Permit(_))
        {
            adaptive.saw_full(&self.permits);
        }
        match entry {
            Entry::Full => Decision::note(self.origin, "refused", || self.in_words()),
            Entry::Wait(_) => Decision::note(self.origin, "queued", || self.in_words()),
            Entry::Permit(_) => {}
        }
        entry
    }

    /// Takes a permit or refuses at once.
    pub(crate) fn admit(&'static self, level: impl FnOnce() -> Criticality) -> Result<Admitted, Reason> {
        if let Some(admitted) = Admitted::at_hand(self) {
            return Ok(admitted);
        }
        match self.enter(level, false) {
            Entry::Permit(source) => Ok(Admitted::new(self, source)),
            Entry::Wait(_) | Entry::Full => Err(Reason::Overloaded),
        }
    }

    async fn wait(&'static self) -> Result<Admitted, Rejected> {
        let entered = match self.settings.queue {
            None => self.admit(Criticality::current),
            Some(queue) => match Ticket::draw(self, Criticality::current, queue) {
                Door::Open(admitted) => Ok(admitted),
                Door::Shut(reason) => Err(reason),
                Door::Wait(mut ticket) => poll_fn(|cx| ticket.poll(cx)).await,
            },
        };
        entered.map_err(|reason| self.reject(reason))
    }
}

impl Limiter {
    pub(crate) fn new(origin: Origin, settings: Settings) -> Self {
        Self(Arc::new(Loan::of(origin, settings)))
    }

    #[inline]
    pub(crate) fn inner(&self) -> &'static Inner {
        self.0.inner()
    }

    /// Takes a permit: at once, or when it is this caller's turn where the layer has a [`Queue`](crate::Queue). How much
    /// the call matters is [`Criticality::current`].
    ///
    /// Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`Rejected`] with [`Reason::Overloaded`] where no permit is free in time or one that matters more took the place,
    /// with [`Reason::DeadlineExceeded`] where the caller's deadline ended the wait.
    ///
    /// # Panics
    /// When it has to wait and there is no tokio runtime with a timer.
    pub async fn acquire(&self) -> Result<Permit, Rejected> {
        let mut admitted = self.inner().wait().await?;
        admitted.waits();
        Ok(Permit(admitted))
    }

    /// Takes a permit, or refuses at once, also where calls wait.
    ///
    /// # Errors
    /// [`Rejected`] with [`Reason::Overloaded`].
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        let inner = self.inner();
        let mut admitted = inner.admit(Criticality::current).map_err(|reason| inner.reject(reason))?;
        admitted.waits();
        Ok(Permit(admitted))
    }

    /// Runs a function that is no `Service` with a permit, which it takes as [`acquire`](Self::acquire) does. For an
    /// adaptive limit its result is judged by [`ByError`], whatever the layer's classifier is: see
    /// [`call_with`](Self::call_with).
    ///
    /// # Errors
    /// What `f` returns, or what `acquire` does.
    ///
    /// # Panics
    /// As `acquire` does.
    pub async fn call<T, E: Rejectable>(&self, f: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        self.call_with(ByError, f).await
    }

    /// The same, judged by this classifier.
    ///
    /// # Errors
    /// What `f` returns, or what [`acquire`](Self::acquire) does.
    ///
    /// # Panics
    /// As `acquire` does.
    pub async fn call_with<T, E: Rejectable>(
        &self,
        classify: impl Classify<T, E>,
        f: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut admitted = self.inner().wait().await?;
        let result = {
            let mut call = pin!(f());
            poll_fn(|cx| {
                let poll = call.as_mut().poll(cx);
                if poll.is_pending() {
                    admitted.waits();
                }
                poll
            })
            .await
        };
        admitted.finish_with(&classify, &result);
        result
    }

    /// The limit now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        figure(self.inner().permits.limit())
    }

    /// Sets the limit, from now on. A higher one lets those in who wait; a lower one is reached when enough of the calls
    /// in flight have ended. An adaptive limit goes on from there.
    ///
    /// # Errors
    /// If that cannot be: zero, above [`Limit::MAX`](crate::Limit::MAX), not above the reserve, or outside of an
    /// adaptive limit's bounds. Then the limit stays as it is.
    pub fn set_limit(&self, limit: u32) -> Result<(), InvalidLimit> {
        self.inner().settings.limit.allows(limit)?;
        self.set_allowed(limit);
        self.inner().permits.attend();
        Ok(())
    }

    /// Sets a limit that is allowed, without waking anybody.
    pub(crate) fn set_allowed(&self, limit: u32) {
        let inner = self.inner();
        match &inner.adaptive {
            Some(adaptive) => adaptive.set_limit(&inner.permits, limit),
            None => inner.permits.set_limit(limit as usize),
        }
    }

    /// Whether there is another handle, or anybody holds or awaits a permit.
    #[cfg(feature = "keyed")]
    pub(crate) fn is_in_use(&self) -> bool {
        if Arc::strong_count(&self.0) > 1 {
            return true;
        }
        // Whoever let go of a handle took a permit before: it is seen here.
        fence(Acquire);
        !self.inner().permits.are_home()
    }

    /// The figures now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Count { limit, in_flight, waiting, shed } = self.inner().permits.count();
        Snapshot { limit: figure(limit), in_flight: figure(in_flight), waiting: figure(waiting), shed }
    }
}

/// None of them is above [`Limit::MAX`](crate::Limit::MAX).
fn figure(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// `limit`, `in_flight`, `waiting`, `shed`, and the rejections.
impl Observe for Limiter {
    fn origin(&self) -> Origin {
        self.inner().origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let snapshot = self.snapshot();
        visit(Metric::new("limit", Value::Gauge(snapshot.limit.into())));
        visit(Metric::new("in_flight", Value::Gauge(snapshot.in_flight.into())));
        visit(Metric::new("waiting", Value::Gauge(snapshot.waiting.into())));
        visit(Metric::new("shed", Value::Counter(snapshot.shed)));
        self.inner().origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.inner().settings.tell(visit);
    }
}

/// What a bulkhead knew at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many calls may be in flight.
    pub limit: u32,
    /// How many are. After the limit was lowered it can be above it, until enough of them have ended. While other threads
    /// take and give back permits, or move free ones, it can be off by those.
    pub in_flight: u32,
    /// How many calls wait.
    pub waiting: u32,
    /// How many waiting calls have been shed for one that mattered more. They are among the rejections too.
    pub shed: u64,
}

/// Permission for one call, given back when it is dropped.
///
/// An adaptive limit wants to know how the call ended: [`finish`](Self::finish).
#[derive(Debug)]
#[must_use = "dropping it gives the permit back"]
pub struct Permit(Admitted);

impl Permit {
    /// The call ended like this. A permit that is dropped instead tells an adaptive limit nothing, unless the call took
    /// longer than [`slow_call`](crate::Adaptive::with_slow_call).
    pub fn finish(mut self, outcome: Outcome) {
        self.0.finish(outcome);
    }
}
