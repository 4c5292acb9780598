use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_budget::Budget;
use buttress_core::{Deadline, Decision, Origin, Shelf, thread_stripes};
use tokio::time::Instant;

use crate::{HedgeDelay, estimator::Estimator};

/// What all services of a layer share, and the futures of their calls.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) settings: Settings,
    pub(crate) estimator: Estimator,
    pub(crate) counts: Counts,
    /// Asked only where a hedge is wanted. Services hold it as well, for each call to be counted.
    budget: Mutex<Budget>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub(crate) attempts: u32,
    pub(crate) delay: HedgeDelay,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hedges: AtomicU64,
    pub(crate) hedge_wins: AtomicU64,
    pub(crate) budget_exhausted: AtomicU64,
}

impl Inner {
    fn new(origin: Origin, settings: Settings, budget: Budget) -> Self {
        let share = match settings.delay {
            HedgeDelay::Fixed(_) => 0.5,
            HedgeDelay::Measured(percentile) => percentile.share(),
        };
        Self {
            origin,
            settings,
            estimator: Estimator::new(share, thread_stripes()),
            counts: Counts::default(),
            budget: Mutex::new(budget),
        }
    }

    fn renew(&self, budget: Budget) {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = budget;
        self.estimator.renew();
        let Counts { hedges, hedge_wins, budget_exhausted } = &self.counts;
        [hedges, hedge_wins, budget_exhausted].into_iter().for_each(|count| count.store(0, Relaxed));
    }

    /// Whether the delay goes by what calls take.
    #[inline]
    pub(crate) const fn measures(&self) -> bool {
        matches!(self.settings.delay, HedgeDelay::Measured(_))
    }

    pub(crate) fn delay(&self) -> Duration {
        match self.settings.delay {
            HedgeDelay::Fixed(delay) => delay,
            HedgeDelay::Measured(percentile) => percentile.delay(self.estimator.quantile()),
        }
    }

    /// Whether an attempt that begins now will rather end before the caller's deadline than not. Of what is not measured
    /// it is known only that it takes some time.
    pub(crate) fn could_end_in_time(&self, now: Instant) -> bool {
        let Some(deadline) = Deadline::current() else { return true };
        let takes = if self.measures() { self.estimator.median() } else { Duration::ZERO };
        now.checked_add(takes).is_some_and(|ends| ends < deadline.instant())
    }

    /// Asks the budget for a hedge.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let granted = budget.withdraw(now);
        if !granted {
            self.counts.budget_exhausted.fetch_add(1, Relaxed);
            Decision::note(self.origin, "not_hedged", || "its budget of hedges is used up".into());
        }
        granted
    }
}

/// State that is lent to a layer and its services, and lent again when the last of them is gone: see [`Shelf`]. There is
/// never more of one name and one configuration than was alive at the same time.
///
/// A call can outlive its service. It goes on as before; where its state was lent again meanwhile, what it measures and
/// what it withdraws is the successor's, which has the same name and the same configuration.
#[derive(Debug)]
pub(crate) struct Loan(&'static Inner);

static RETURNED: Shelf<Inner> = Shelf::new();

impl Loan {
    pub(crate) fn of(origin: Origin, settings: Settings, budget: Budget) -> Self {
        match RETURNED.take(|inner| inner.origin == origin && inner.settings == settings) {
            Some(inner) => {
                inner.renew(budget);
                Self(inner)
            }
            None => Self(Box::leak(Box::new(Inner::new(origin, settings, budget)))),
        }
    }

    pub(crate) const fn inner(&self) -> &'static Inner {
        self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        RETURNED.give_back(self.0);
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::ptr;

    use super::*;

    fn loan(name: &str, attempts: u32) -> Loan {
        let settings = Settings { attempts, delay: HedgeDelay::default() };
        Loan::of(Origin::new("hedge", name), settings, Budget::default())
    }

    #[test]
    fn state_is_lent_again_as_good_as_new() {
        let first = loan("lent", 2);
        let place = first.inner();
        let now = Instant::now();
        (0..1000).for_each(|_| place.estimator.record(Duration::from_secs(3), now));
        place.estimator.at_once();
        place.counts.hedges.fetch_add(1, Relaxed);
        assert!(place.estimator.quantile().is_some());
        let alive = loan("lent", 2);
        assert!(!ptr::eq(alive.inner(), place));
        drop(first);

        assert!(!ptr::eq(loan("lent", 3).inner(), place), "of another configuration");
        let second = loan("lent", 2);
        assert!(ptr::eq(second.inner(), place));
        assert_eq!((place.estimator.quantile(), place.estimator.calls()), (None, 0));
        assert_eq!(place.estimator.median(), Duration::ZERO);
        assert_eq!(place.counts.hedges.load(Relaxed), 0);
    }

    #[test]
    fn many_in_a_row_take_the_place_of_one() {
        let place = loan("in a row", 2).inner();
        assert!((0..1000).all(|_| ptr::eq(loan("in a row", 2).inner(), place)));
    }
}
