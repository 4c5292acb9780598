use buttress_core::{Origin, Shelf};

use crate::{config::Settings, limiter::Inner};

/// A bulkhead that is lent to its handles, and lent again when the last of them is gone and all its permits are home: see
/// [`Shelf`]. There are never more of one name and one configuration than were alive, or had calls in flight, at the same
/// time.
#[derive(Debug)]
pub(crate) struct Loan(&'static Inner);

static RETURNED: Shelf<Inner> = Shelf::new();

impl Loan {
    pub(crate) fn of(origin: Origin, settings: Settings) -> Self {
        match RETURNED.take(|inner| inner.fits(origin, &settings)) {
            Some(inner) => {
                inner.renew();
                Self(inner)
            }
            None => Self(Box::leak(Box::new(Inner::new(origin, settings)))),
        }
    }

    #[inline]
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
    use std::{ptr, time::Duration};

    use buttress_core::Outcome;
    use tokio::time::advance;

    use crate::{
        Adaptive, BulkheadLayer, Criticality, Limit, Limiter, Queue,
        ticket::{Door, Ticket},
    };

    fn limiter(name: &str) -> Limiter {
        BulkheadLayer::new(name, Limit::fixed(2).unwrap()).limiter()
    }

    #[test]
    fn it_is_lent_again_when_all_permits_are_home() {
        let first = limiter("lent");
        let place = first.inner();
        let held = first.try_acquire().unwrap();
        first.set_limit(7).unwrap();
        drop(first);
        let second = limiter("lent");
        assert!(!ptr::eq(second.inner(), place), "a permit is out");
        drop(held);
        let third = limiter("lent");
        assert!(ptr::eq(third.inner(), place));
        assert_eq!((third.limit(), third.snapshot().in_flight), (2, 0), "as good as new");
        assert!(!ptr::eq(limiter("another").inner(), place));
    }

    /// One who has been shed and does not know it yet.
    #[tokio::test(start_paused = true)]
    async fn it_is_not_lent_while_somebody_has_a_place_in_its_queue() {
        let queue = Queue::try_new(1, Duration::from_secs(1)).unwrap();
        let limiter =
            || BulkheadLayer::builder("queued", Limit::fixed(1).unwrap()).queue(queue).build().limiter();
        let first = limiter();
        let place = first.inner();
        let held = first.try_acquire().unwrap();
        let draw = |level| match Ticket::draw(place, || level, queue) {
            Door::Wait(ticket) => ticket,
            door => unreachable!("it is full: {door:?}"),
        };
        let shed = draw(Criticality::Sheddable);
        drop(draw(Criticality::Critical));
        drop((held, first));
        assert!(!ptr::eq(limiter().inner(), place));
        drop(shed);
        let again = [limiter(), limiter()];
        assert!(again.iter().any(|again| ptr::eq(again.inner(), place)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_adaptive_one_has_seen_is_forgotten() {
        let limiter = || BulkheadLayer::new("afresh", Limit::adaptive(Adaptive::aimd())).limiter();
        let fail = |limiter: &Limiter, calls| {
            (0..calls).for_each(|_| limiter.try_acquire().unwrap().finish(Outcome::Failure));
        };
        let first = limiter();
        let place = first.inner();
        fail(&first, 9);
        drop(first);
        let second = limiter();
        assert!(ptr::eq(second.inner(), place));
        advance(Duration::from_secs(1)).await;
        fail(&second, 9);
        assert_eq!(second.limit(), 20, "nine calls say little");
        fail(&second, 1);
        assert_eq!(second.limit(), 18);
    }

    #[test]
    fn many_in_a_row_take_the_place_of_one() {
        let place = limiter("in a row").inner();
        assert!((0..1000).all(|_| ptr::eq(limiter("in a row").inner(), place)));
    }
}
