use std::{future::poll_fn, hash::Hash, sync::Arc, time::Duration};

use buttress_core::{Metric, Observe, Origin, Rejected, Setting, Value, WeakObserve};

use crate::{
    InvalidLimits, Limit, Quota, clock,
    inner::{Gate, Inner},
    limit,
    places::Whose,
    ticket::{Door, Ticket},
};

/// A limit, for code that is no `Service`: made by [`new`](Self::new), or by a layer's
/// [`limiter`](crate::RateLimitLayer::limiter).
///
/// Clones are the same limit.
#[derive(Debug, Clone)]
pub struct RateLimiter(pub(crate) Arc<Inner>);

impl RateLimiter {
    /// A limit of its own. For several rates at once, take it from a [layer](crate::RateLimitLayer::builder).
    #[must_use]
    pub fn new(name: &str, limit: impl Into<Limit>) -> Self {
        Self(Arc::new(Inner::new(Origin::new("rate-limit", name), &[limit.into()], &[], 0)))
    }

    /// Takes units now, or none. Reads the clock.
    ///
    /// # Errors
    /// [`Rejected`] as [`RateLimited`](buttress_core::Reason::RateLimited) where they are not there, with the time after
    /// which they are; without a time where a limit is of fewer units, or nothing is known of it.
    #[inline]
    pub fn try_acquire(&self, units: u32) -> Result<(), Rejected> {
        try_acquire(&self.0, None, units)
    }

    /// Waits for units, first come, first served. Where they will not be there in time, or before the caller's
    /// [`Deadline`](buttress_core::Deadline), it is refused at once.
    ///
    /// Dropping the future gives its place back, and units that it had.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// # Panics
    /// When it has to wait and there is no tokio runtime with a timer.
    pub async fn acquire(&self, units: u32, longest: Duration) -> Result<(), Rejected> {
        acquire(&self.0, None, units, longest).await
    }

    /// What is left of each limit now.
    #[must_use]
    pub fn quotas(&self) -> Vec<Quota> {
        self.0.quotas(None, clock::now())
    }

    /// Lets at most so many units through during that time, whatever the limits would: what a server asks of its clients.
    /// What holds already holds beside it, for its own time.
    pub fn restrict(&self, units: u32, during: Duration) {
        restrict(&self.0, None, units, during);
    }

    /// The limits.
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        self.0.limits()
    }

    /// Sets the limits, from now on, in the order in which they stand in [`limits`](Self::limits).
    ///
    /// What was taken goes on to count: with 80 of 100 taken, 120 are left when the limit becomes 200, and none when it
    /// becomes 50, until enough have come back. A unit counts for the new period, from when it came: it may count a part of
    /// a window longer than that, and never shorter. Made longer, a period holds what the former still knew: units that had
    /// come back are not taken a second time. A fixed window counts on from what was taken since its former edge. With GCRA
    /// as many units have to come back as before, each in the time that it takes now. Neither of these two remembers when
    /// each unit came: where the time changes in which one comes back, units that were taken before are not given back.
    ///
    /// Those who wait look again: they are let through in their turn by the new limits, or refused at once where they
    /// cannot be in time any more, or wait for more units than a limit has now. A [restriction](Self::restrict) stays. A
    /// call that goes on while the limits change is decided by the former or the new ones.
    ///
    /// ```
    /// use buttress_rate_limit::{Rate, RateLimiter};
    ///
    /// let search = RateLimiter::new("search", Rate::per_minute(100));
    /// search.try_acquire(80)?;
    /// search.set_limits([Rate::per_minute(200)])?;
    /// assert_eq!(search.quotas()[0].remaining, 120);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If there are more or fewer of them than the limiter has, or one is held by another algorithm: then what is known of
    /// the past does not say what would be left. The limits stay as they are.
    pub fn set_limits(
        &self,
        limits: impl IntoIterator<Item = impl Into<Limit>>,
    ) -> Result<(), InvalidLimits> {
        let limits: Vec<Limit> = limits.into_iter().map(Into::into).collect();
        self.0.set_limits(&limits)
    }
}

/// A limit for each key: made by a layer, see [`KeyedLayer::limiter`](crate::KeyedLayer::limiter).
///
/// Clones are the same limits. A key is known by its [`Hash`]: give it in the form in which the layer's function does.
#[derive(Debug, Clone)]
pub struct KeyedRateLimiter(pub(crate) Arc<Inner>);

impl KeyedRateLimiter {
    /// Takes units of that key and of the limits of all, now, or none.
    ///
    /// # Errors
    /// As [`RateLimiter::try_acquire`].
    #[inline]
    pub fn try_acquire(&self, key: &impl Hash, units: u32) -> Result<(), Rejected> {
        try_acquire(&self.0, self.0.print(key), units)
    }

    /// Waits for units of that key and of the limits of all: see [`RateLimiter::acquire`].
    ///
    /// # Errors
    /// As [`RateLimiter::acquire`].
    ///
    /// # Panics
    /// As [`RateLimiter::acquire`].
    pub async fn acquire(&self, key: &impl Hash, units: u32, longest: Duration) -> Result<(), Rejected> {
        let whose = self.0.print(key);
        acquire(&self.0, whose, units, longest).await
    }

    /// What is left of each limit now: first those of all calls together, then those of that key.
    #[must_use]
    pub fn quotas(&self, key: &impl Hash) -> Vec<Quota> {
        self.0.quotas(self.0.print(key), clock::now())
    }

    /// Lets at most so many units of that key through during that time: see [`RateLimiter::restrict`].
    ///
    /// At most 65,536 keys are restricted at the same time; where there would be more, the restrictions of all keys are
    /// forgotten for which nobody waits.
    pub fn restrict(&self, key: &impl Hash, units: u32, during: Duration) {
        restrict(&self.0, self.0.print(key), units, during);
    }

    /// The same, for all keys together.
    pub fn restrict_all(&self, units: u32, during: Duration) {
        restrict(&self.0, None, units, during);
    }

    /// The limits: first those of all calls together, then those of each key.
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        self.0.limits()
    }

    /// Sets the limits of all calls together: see [`RateLimiter::set_limits`]. Those of each key stay.
    ///
    /// # Errors
    /// As [`RateLimiter::set_limits`].
    pub fn set_overall(
        &self,
        limits: impl IntoIterator<Item = impl Into<Limit>>,
    ) -> Result<(), InvalidLimits> {
        let limits: Vec<Limit> = limits.into_iter().map(Into::into).collect();
        self.0.set_limits(&limits)
    }

    /// How many keys have units that have not come back yet. It looks at every place of the table.
    #[must_use]
    pub fn active_keys(&self) -> usize {
        self.0.active(clock::now()).unwrap_or(0)
    }
}

#[inline]
fn try_acquire(inner: &Arc<Inner>, whose: Whose, units: u32) -> Result<(), Rejected> {
    let now = clock::now();
    let wait = if inner.places.are_quiet() {
        match inner.take_all(whose, units, now) {
            Ok(()) => return Ok(()),
            Err(wait) => wait,
        }
    } else {
        match inner.enter(whose, units, now, now) {
            Gate::Through => return Ok(()),
            Gate::Refused(wait) => wait,
            Gate::Waits(_) => unreachable!("it may not wait"),
        }
    };
    Err(inner.reject(wait))
}

async fn acquire(inner: &Arc<Inner>, whose: Whose, units: u32, longest: Duration) -> Result<(), Rejected> {
    if inner.places.are_quiet() && inner.take_all(whose, units, clock::now()).is_ok() {
        return Ok(());
    }
    match Ticket::draw(inner, whose, units, longest) {
        Door::Open => Ok(()),
        Door::Shut(rejected) => Err(rejected),
        Door::Wait(mut ticket) => poll_fn(|cx| ticket.poll(cx)).await,
    }
}

pub(crate) fn restrict(inner: &Inner, whose: Whose, units: u32, during: Duration) {
    let now = clock::now();
    let nanos = u64::try_from(during.as_nanos()).unwrap_or(u64::MAX);
    inner.places.restrict(whose, units, now, now.saturating_add(nanos));
}

/// `waiting`, what is `remaining` of the limit that has the least, `restricted` (1 while a server's
/// [restriction](RateLimiter::restrict) holds), and the rejections.
impl Observe for RateLimiter {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        observe(&self.0, visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        limit::settings(self.limits(), visit);
    }
}

/// The same, of the limits of all calls together, and `keys` that are active.
impl Observe for KeyedRateLimiter {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "there are fewer keys than a float can count")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("keys", Value::Gauge(self.active_keys() as f64)));
        observe(&self.0, visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        limit::settings(self.limits(), visit);
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer wait than a float can count")]
fn observe(inner: &Inner, visit: &mut dyn FnMut(Metric)) {
    visit(Metric::new("waiting", Value::Gauge(inner.places.waiting() as f64)));
    if let Some(least) = inner.quotas(None, clock::now()).iter().map(|quota| quota.remaining).min() {
        visit(Metric::new("remaining", Value::Gauge(least.into())));
    }
    let restricted = if inner.is_restricted(clock::now()) { 1.0 } else { 0.0 };
    visit(Metric::new("restricted", Value::Gauge(restricted)));
    inner.origin.observe_rejections(visit);
}
