use buttress_core::{Origin, Shelf};
use tokio::time::Instant;

use crate::{inner::Inner, settings::Settings, shared::Shared};

/// A breaker that is lent to its handles, and lent again when the last of them is gone: see [`Shelf`]. There are never more
/// of one name than were alive at the same time. A call that outlives all handles does no harm, since its verdict is of an
/// older epoch by then.
#[derive(Debug)]
pub(crate) struct Loan {
    inner: &'static Inner,
    /// For whoever keeps many: whether it was used since he last looked.
    #[cfg(feature = "keyed")]
    pub(crate) used: std::sync::atomic::AtomicBool,
}

static RETURNED: Shelf<Inner> = Shelf::new();

impl Loan {
    pub(crate) fn of(origin: Origin, settings: Settings, cells: usize, key: Option<String>) -> Self {
        let now = Instant::now();
        // One that was made later (the clock of a test may stand before another's) would see time stand still.
        let fits = |inner: &Inner| {
            inner.origin == origin && inner.shared.cells() == cells && inner.shared.is_older_than(now)
        };
        let inner = RETURNED
            .take(fits)
            .unwrap_or_else(|| Box::leak(Box::new(Inner::new(origin, Shared::new(settings, cells, now)))));
        inner.lend(settings, key, now);
        Self {
            inner,
            #[cfg(feature = "keyed")]
            used: true.into(),
        }
    }

    #[inline]
    pub(crate) const fn inner(&self) -> &'static Inner {
        self.inner
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.inner.give_back(Instant::now());
        RETURNED.give_back(self.inner);
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::ptr;

    use buttress_core::Outcome;

    use tokio::time::Instant;

    use crate::{Breaker, CircuitBreakerLayer, State, Trip, state::Hold};

    fn breaker(name: &str) -> Breaker {
        CircuitBreakerLayer::builder(name).trip(Trip::consecutive(1).unwrap()).build().breaker()
    }

    #[test]
    fn a_breaker_is_lent_again_as_good_as_new() {
        let first = breaker("lent");
        let place = first.inner();
        let straggler = first.acquire().unwrap();
        first.acquire().unwrap().finish(Outcome::Failure);
        let alive = breaker("lent");
        assert!(!ptr::eq(alive.inner(), place));
        drop(first);

        let second = breaker("lent");
        assert!(ptr::eq(second.inner(), place));
        assert_eq!((second.state(), second.snapshot().opened), (State::Closed, 0));
        straggler.finish(Outcome::Failure);
        assert_eq!(second.state(), State::Closed, "a call of the one before");
        assert!(!ptr::eq(breaker("another").inner(), place));
    }

    #[test]
    fn what_is_still_to_be_told_of_the_one_before_is_told_to_nobody() {
        let first = breaker("told late");
        let inner = first.inner();
        first.force_open();
        first.reset();
        let (late, _) = inner.shared.with(Instant::now(), |machine| machine.hold(Hold::Open));
        drop(first);
        let second = breaker("told late");
        assert!(ptr::eq(second.inner(), inner));
        let mut changes = second.subscribe();
        inner.tell_all(&vec![late]);
        assert!(!changes.has_changed().unwrap());
        second.force_closed();
        let change = *changes.borrow_and_update();
        assert_eq!((change.number, change.to), (1, State::ForcedClosed));
    }

    #[test]
    fn of_two_that_are_told_at_the_same_time_the_later_one_stays() {
        let breaker = breaker("order");
        let changes = breaker.subscribe();
        let [first, second] = [Hold::Open, Hold::Closed]
            .map(|hold| breaker.inner().shared.with(Instant::now(), |machine| machine.hold(hold)).0);
        breaker.inner().tell_all(&vec![second]);
        breaker.inner().tell_all(&vec![first]);
        assert_eq!((changes.borrow().number, changes.borrow().to), (2, State::ForcedClosed));
    }

    #[test]
    fn what_a_candidate_counted_is_not_lent_along() {
        let breaker = || {
            let candidate = Trip::consecutive(1).unwrap();
            CircuitBreakerLayer::builder("lent with a shadow").shadow(candidate).build().breaker()
        };
        let first = breaker();
        let place = first.inner();
        first.acquire().unwrap().finish(Outcome::Failure);
        assert_eq!(first.snapshot().shadow.unwrap().opened, 1);
        drop(first);
        let second = breaker();
        assert!(ptr::eq(second.inner(), place));
        assert_eq!(second.snapshot().shadow.unwrap().opened, 0);
    }

    #[test]
    fn many_in_a_row_take_the_place_of_one() {
        let place = breaker("in a row").inner();
        assert!((0..1000).all(|_| ptr::eq(breaker("in a row").inner(), place)));
    }
}
