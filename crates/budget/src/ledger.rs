//! What a budget has counted: calls and extra calls of the last slots of time, without a lock.
//!
//! A call adds to a counter on a cache line of its thread's own, its *stripe*. Every so many calls the thread reads the
//! clock and *folds* them into a ring with a place for each slot of time. A stripe has a *mark*, which says how many of
//! its calls are folded, and the slot in which the last fold happened. Calls that are not folded were made in that slot
//! or later, so counting them as made in it takes them for too old and never for too new.
//!
//! How many calls a stripe gathers depends on how long that took: at most 64, but few where they trickle.
//!
//! Whoever wants an extra call sums up what the ring and the stripes hold. The sum misses calls that are being folded at
//! that moment, and never counts one twice, because the ring is read before the stripes and folding moves the mark
//! before it adds to the ring. So the sum may be too low, never too high.
//!
//! An extra call is first entered into a ring of its own, then the ring is summed up, and it is taken out again if that
//! was one too many. Of those that are entered at the same time the last one sees all others, so there are never too many;
//! near the limit, all may see each other and withdraw although there was room for one.

#[cfg(all(test, buttress_loom))]
mod models;

use std::array;

use crate::sync::{AcqRel, Acquire, AtomicU64, Padded, Relaxed, SeqCst, fence};

/// The window has so many slots.
pub(crate) const SLOTS: u64 = if cfg!(buttress_loom) { 2 } else { 20 };
/// The window and the slot that is leaving it; and one more for threads whose readings of the clock differ.
const PLACES: usize = SLOTS as usize + 2;
/// A stripe gathers at most two to this power.
const MOST_DOUBLINGS: u64 = if cfg!(buttress_loom) { 1 } else { 6 };
/// So many calls of each stripe may be missed.
#[cfg(all(test, not(buttress_loom)))]
pub(crate) const MOST: u64 = 1 << MOST_DOUBLINGS;

#[derive(Debug)]
pub(crate) struct Ledger {
    stripes: Box<[Padded<Stripe>]>,
    calls: Padded<Ring>,
    extra: Padded<Ring>,
}

#[derive(Debug)]
struct Stripe {
    /// All calls ever made.
    made: AtomicU64,
    /// A [`Mark`].
    mark: AtomicU64,
}

impl Ledger {
    /// A ledger that begins in slot 0. `stripes` is a power of two.
    pub(crate) fn new(stripes: usize) -> Self {
        let stripe = |_| Padded(Stripe { made: AtomicU64::new(0), mark: AtomicU64::new(0) });
        Self {
            stripes: (0..stripes).map(stripe).collect(),
            calls: Padded(Ring::new()),
            extra: Padded(Ring::new()),
        }
    }

    /// Counts one call by that thread. Asks for the slot only once in a while.
    #[inline]
    pub(crate) fn deposit(&self, thread: usize, slot: impl FnOnce() -> u64) {
        let stripe = &self.stripes[thread & (self.stripes.len() - 1)].0;
        let made = stripe.made.fetch_add(1, Relaxed) + 1;
        let mark = Mark::unpack(stripe.mark.load(Relaxed));
        if mark.calls_until(made) >= mark.gathers() {
            self.fold_up_to(stripe, made, slot);
        }
    }

    #[cold]
    fn fold_up_to(&self, stripe: &Stripe, made: u64, slot: impl FnOnce() -> u64) {
        // Its own call is made now: it stays in the stripe, under the slot that is just read. Those that others have
        // added may have been made before the clock was read.
        self.fold(stripe, slot(), |now_made| if now_made == made { made - 1 } else { now_made });
    }

    /// All calls ever counted.
    pub(crate) fn made(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0.made.load(Relaxed)).sum()
    }

    /// Enters one extra call, if with it there are not more in the window than allowed after that many calls in the window.
    pub(crate) fn withdraw(&self, slot: u64, allowed: impl FnOnce(u64) -> u64) -> bool {
        let allowed = allowed(self.calls(slot));
        // Reading only: refusals are many when a backend is down.
        if self.extra(slot) >= allowed || self.extra.0.add(slot, 1).is_err() {
            return false;
        }
        // Two that enter at once into different slots must not both miss the other one.
        fence(SeqCst);
        let fits = self.extra(slot) <= allowed;
        if !fits {
            self.extra.0.take_back(slot);
        }
        fits
    }

    /// The extra calls of the window. The slot that is leaving it counts whole: never too few.
    pub(crate) fn extra(&self, slot: u64) -> u64 {
        self.extra.0.sum(slot.saturating_sub(SLOTS), u64::MAX)
    }

    /// The calls of the window. The slot that is leaving it does not count: never too many.
    pub(crate) fn calls(&self, slot: u64) -> u64 {
        let first = (slot + 1).saturating_sub(SLOTS);
        for stripe in &self.stripes {
            if Mark::unpack(stripe.0.mark.load(Relaxed)).slot < slot {
                self.fold(&stripe.0, slot, |made| made);
            }
        }
        let folded = self.calls.0.sum(first, slot);
        let gathered = self.stripes.iter().map(|stripe| {
            let mark = Mark::unpack(stripe.0.mark.load(Acquire));
            if mark.slot < first { 0 } else { mark.calls_until(stripe.0.made.load(Relaxed)) }
        });
        folded + gathered.sum::<u64>()
    }

    /// Moves the calls of a stripe into the ring, up to the number that `up_to` makes of how many are made by now. Those
    /// after it were made in `slot` or later.
    fn fold(&self, stripe: &Stripe, slot: u64, up_to: impl FnOnce(u64) -> u64) {
        // The mark first: a thread that is held up here then finds it moved, however far, and leaves it. The other way
        // round, the mark could have moved on so far that the number seems to lie ahead of it.
        let word = stripe.mark.load(Acquire);
        let made = up_to(stripe.made.load(Relaxed));
        let mark = Mark::unpack(word);
        // Whoever was faster has folded, and what it left was made after its reading of the clock.
        if mark.is_beyond(made) {
            return;
        }
        let next = mark.moved(slot, made).pack();
        if stripe.mark.compare_exchange(word, next, AcqRel, Relaxed).is_ok() {
            // Of a slot that has left the ring, or more than can be counted: too few, as allowed.
            let _ = self.calls.0.add(mark.slot, mark.calls_until(made));
        }
    }
}

/// How far a stripe is folded, in one word: 36 bits of slot, 3 of doublings, the lower 25 of the number of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    slot: u64,
    doublings: u64,
    made: u64,
}

const SLOT_BITS: u32 = 36;
const MADE_BITS: u32 = 25;
/// The last slot that can be named: after 108 years, with the shortest window.
pub(crate) const LAST_SLOT: u64 = mask(SLOT_BITS);

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl Mark {
    const fn gathers(self) -> u64 {
        1 << self.doublings
    }

    /// How many calls were made after the mark, when `made` had been.
    const fn calls_until(self, made: u64) -> u64 {
        if self.is_beyond(made) { 0 } else { made.wrapping_sub(self.made) & mask(MADE_BITS) }
    }

    /// Whether `made` is so old that the mark was moved beyond it meanwhile.
    const fn is_beyond(self, made: u64) -> bool {
        made.wrapping_sub(self.made) >> (MADE_BITS - 1) & 1 == 1
    }

    const fn moved(self, slot: u64, made: u64) -> Self {
        let doublings = match slot.saturating_sub(self.slot) {
            0 if self.calls_until(made) + 1 >= self.gathers() && self.doublings < MOST_DOUBLINGS => {
                self.doublings + 1
            }
            0 | 1 => self.doublings,
            // They trickle: look at the clock more often, so that none is taken for much older than it is.
            _ => 0,
        };
        // A clock that was read earlier does not turn the mark back.
        Self {
            slot: if slot > self.slot { slot } else { self.slot },
            doublings,
            made: made & mask(MADE_BITS),
        }
    }

    const fn pack(self) -> u64 {
        (self.slot << 3 | self.doublings) << MADE_BITS | self.made
    }

    const fn unpack(word: u64) -> Self {
        Self { slot: word >> (MADE_BITS + 3), doublings: word >> MADE_BITS & 7, made: word & mask(MADE_BITS) }
    }
}

/// A number for each of the last slots. Each place says which slot's it holds: 36 bits of slot, 28 of number.
#[derive(Debug)]
struct Ring([AtomicU64; PLACES]);

const COUNT_BITS: u32 = 64 - SLOT_BITS;

/// The place is a newer slot's, or its number is at its end.
#[derive(Debug)]
struct NoRoom;

impl Ring {
    fn new() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }

    fn place(&self, slot: u64) -> &AtomicU64 {
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of places")]
        let index = (slot % PLACES as u64) as usize;
        &self.0[index]
    }

    fn add(&self, slot: u64, number: u64) -> Result<(), NoRoom> {
        let place = self.place(slot);
        let mut word = place.load(Relaxed);
        loop {
            let held = word >> COUNT_BITS;
            let counted = if held == slot { word & mask(COUNT_BITS) } else { 0 };
            if held > slot || counted + number > mask(COUNT_BITS) {
                return Err(NoRoom);
            }
            let next = slot << COUNT_BITS | (counted + number);
            match place.compare_exchange(word, next, AcqRel, Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer) => word = newer,
            }
        }
    }

    /// Takes one out again, unless its slot has left the ring.
    fn take_back(&self, slot: u64) {
        let place = self.place(slot);
        let mut word = place.load(Relaxed);
        while word >> COUNT_BITS == slot {
            match place.compare_exchange(word, word - 1, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    fn sum(&self, first: u64, last: u64) -> u64 {
        let held = self.0.iter().map(|place| place.load(Acquire));
        held.filter(|word| (first..=last).contains(&(word >> COUNT_BITS)))
            .map(|word| word & mask(COUNT_BITS))
            .sum()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mark_is_kept_in_a_word(word: u64) {
            prop_assert_eq!(Mark::unpack(word).pack(), word);
        }

        #[test]
        fn a_mark_counts_across_the_end_of_its_bits(made in 0..u64::MAX / 2, calls in 0..1_u64 << 24) {
            let mark = Mark { slot: 0, doublings: 0, made: made & mask(MADE_BITS) };
            prop_assert_eq!(mark.calls_until(made + calls), calls);
            prop_assert_eq!(mark.calls_until(made.saturating_sub(1)), 0);
        }
    }

    #[test]
    fn a_stripe_gathers_more_where_calls_are_many_and_less_where_they_trickle() {
        let ledger = Ledger::new(1);
        let gathers = || Mark::unpack(ledger.stripes[0].0.mark.load(Relaxed)).gathers();
        for _ in 0..1000 {
            ledger.deposit(0, || 0);
        }
        assert_eq!(gathers(), MOST);
        for slot in 0..1000 {
            ledger.deposit(0, || slot);
        }
        assert_eq!(gathers(), 1);
        assert_eq!(ledger.calls(999), SLOTS);
        assert_eq!(ledger.made(), 2000);
    }

    /// So long that the number of the calls, as far as a mark keeps it, wraps.
    #[test]
    fn a_thread_that_is_held_up_while_it_folds_counts_nothing_twice() {
        let ledger = Ledger::new(1);
        let stripe = &ledger.stripes[0].0;
        ledger.deposit(0, || 1);
        for calls in [1_u64 << (MADE_BITS - 1), 1 << MADE_BITS] {
            ledger.fold(stripe, 1, |made| {
                (0..calls + 2 * MOST).for_each(|_| ledger.deposit(0, || 1));
                made
            });
            assert_eq!(ledger.calls(1), ledger.made());
        }
    }

    #[test]
    fn a_place_keeps_the_newest_slot() {
        let ring = Ring::new();
        let later = 3 + PLACES as u64;
        ring.add(3, 5).unwrap();
        ring.add(later, 1).unwrap();
        assert!(ring.add(3, 1).is_err());
        ring.take_back(3);
        assert_eq!(ring.sum(0, u64::MAX), 1);
        ring.take_back(later);
        assert_eq!(ring.sum(0, u64::MAX), 0);
    }

    #[test]
    fn a_full_place_takes_no_more() {
        let ring = Ring::new();
        ring.add(1, mask(COUNT_BITS)).unwrap();
        assert!(ring.add(1, 1).is_err());
        assert_eq!(ring.sum(1, 1), mask(COUNT_BITS));
    }
}
