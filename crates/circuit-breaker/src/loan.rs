use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use buttress_core::Origin;
use tokio::time::Instant;

use crate::{config::Settings, handle::Inner, shared::Shared};

/// A breaker that is lent to its handles, and lent again when the last of them is gone.
///
/// The future of every call holds its breaker. A reference count for that would be two writes to memory for each call,
/// on a line that all threads share: more than all the rest of it. So breakers are never freed, and a future holds a
/// plain reference. They are used again instead: there are never more of one name and one configuration than were alive
/// at the same time. A call that outlives all handles does no harm, since its verdict is of an older epoch by then.
#[derive(Debug)]
pub(crate) struct Loan(&'static Inner);

static RETURNED: Mutex<Vec<&'static Inner>> = Mutex::new(Vec::new());

impl Loan {
    pub(crate) fn of(origin: Origin, settings: Settings) -> Self {
        let now = Instant::now();
        // One that was made later (the clock of a test may stand before another's) would see time stand still.
        let fits = |inner: &&'static Inner| {
            inner.origin == origin && inner.shared.settings == settings && inner.shared.nanos(now) > 0
        };
        let mut returned = RETURNED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = returned.iter().position(fits) {
            return Self(returned.swap_remove(at));
        }
        Self(Box::leak(Box::new(Inner { origin, shared: Shared::new(settings, cells(), now) })))
    }

    #[inline]
    pub(crate) const fn inner(&self) -> &'static Inner {
        self.0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.shared.with(Instant::now(), |machine| machine.renew());
        RETURNED.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

/// One cell for each processor: more threads share them.
fn cells() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(64)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::ptr;

    use buttress_core::Outcome;

    use crate::{Breaker, CircuitBreakerLayer, State, Trip};

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
    fn many_in_a_row_take_the_place_of_one() {
        let place = breaker("in a row").inner();
        assert!((0..1000).all(|_| ptr::eq(breaker("in a row").inner(), place)));
    }
}
