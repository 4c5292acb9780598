use std::{collections::VecDeque, task::Waker};

use super::{Source, Whose, restrictions::Restrictions};

/// Tokio's timers are late by so much at most, where their thread is not too busy.
const LATE: u64 = 10_000_000;
/// So many that have gone are not worth a search for them.
const FEW: usize = 16;

/// Where calls wait that take from the same limits.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// In the order in which they came. Who has gone leaves his entry for a while.
    pub(super) queue: VecDeque<Waiter>,
    /// Those that have their units and were not told yet, in the same order.
    granted: VecDeque<Granted>,
    /// Units of all that ever came, and of those that stand no more at the front.
    came: u64,
    passed: u64,
    /// Those that have gone and still have an entry, and their units.
    gone: usize,
    gone_units: u64,
    next: u64,
    pub(super) restrictions: Restrictions,
}

#[derive(Debug)]
pub(super) struct Waiter {
    id: u64,
    units: u32,
    has_gone: bool,
    /// What had come with it: the units before it, and its own, are what is from `passed` up to here.
    mark: u64,
    /// When it will look again by itself.
    pub(super) rings: u64,
    pub(super) waker: Option<Waker>,
    /// Since it looked, the limits have become others: it may be in time no more.
    pub(super) by_other_limits: bool,
}

#[derive(Debug)]
struct Granted {
    id: u64,
    /// When its units were taken; none where they can never be there any more.
    taken: Option<u64>,
}

impl Place {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.granted.is_empty() && self.restrictions.is_empty()
    }

    /// The units of all who wait.
    pub(super) const fn waiting(&self) -> u64 {
        self.came - self.passed - self.gone_units
    }

    /// How long until so many units are let through one after the other.
    pub(super) fn wait(&self, source: &impl Source, whose: Whose, units: u64, now: u64) -> u64 {
        // What a restriction holds back takes its turn after it.
        let held = self.restrictions.holding(units, now);
        held.map(|(until, rest)| (until - now).saturating_add(source.wait(whose, rest, until)))
            .fold(source.wait(whose, units, now), u64::max)
    }

    /// The number of one more who waits, and rings then.
    pub(super) fn push(&mut self, units: u32, rings: u64) -> u64 {
        self.came += u64::from(units);
        let id = self.next;
        self.next += 1;
        let mark = self.came;
        let waiter = Waiter { id, units, has_gone: false, mark, rings, waker: None, by_other_limits: false };
        self.queue.push_back(waiter);
        id
    }

    /// When the units of one who was let through were taken, who is told by that; or none for one whose units can never be
    /// there any more.
    pub(super) fn collect(&mut self, id: u64) -> Option<Option<u64>> {
        let at = self.granted.binary_search_by_key(&id, |granted| granted.id).ok()?;
        self.granted.remove(at).map(|granted| granted.taken)
    }

    /// One who waits, with the units before it and its own; they may be fewer, by those that have gone.
    pub(super) fn waiter(&mut self, id: u64) -> Option<(u64, &mut Waiter)> {
        let at = self.queue.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        let waiter = &mut self.queue[at];
        Some((waiter.mark - self.passed, waiter))
    }

    /// One who waits goes. His waker is to be dropped outside of the lock, for it may own anything.
    pub(super) fn go(&mut self, id: u64) -> Option<Waker> {
        let (_, waiter) = self.waiter(id)?;
        waiter.has_gone = true;
        let (units, waker) = (waiter.units, waiter.waker.take());
        self.gone += 1;
        self.gone_units += u64::from(units);
        if self.gone > FEW && self.gone > self.queue.len() / 2 {
            self.forget_gone();
        }
        waker
    }

    /// Takes the entries of those out that have gone.
    pub(super) fn forget_gone(&mut self) {
        if self.gone > 0 {
            self.queue.retain(|waiter| !waiter.has_gone);
            let mut mark = self.passed;
            for waiter in &mut self.queue {
                mark += u64::from(waiter.units);
                waiter.mark = mark;
            }
            (self.came, self.gone, self.gone_units) = (mark, 0, 0);
        }
    }

    /// Grants units to those at the front, as far as they are there; and makes the one who is first then look again in
    /// time.
    pub(super) fn advance(&mut self, source: &impl Source, whose: Whose, now: u64, wake: &mut Vec<Waker>) {
        self.restrictions.forget(now);
        while let Some(first) = self.queue.front() {
            let Waiter { id, units, has_gone, mark, rings, .. } = *first;
            if has_gone {
                self.gone -= 1;
                self.gone_units -= u64::from(units);
            } else {
                // What a timer was late is made up, and no more: who was held back for long makes no burst.
                let since = rings.clamp(now.saturating_sub(LATE), now);
                if self.restrictions.hold(units.into(), now).is_some() {
                    break;
                }
                let taken = match source.take(whose, units, since, now) {
                    Ok(()) => Some(now),
                    // The limits became smaller than what it waits for. It must not stand before the others for ever.
                    Err(None) => None,
                    Err(Some(_)) => break,
                };
                if taken.is_some() {
                    self.restrictions.spend(units);
                }
                self.granted.push_back(Granted { id, taken });
            }
            self.passed = mark;
            wake.extend(self.queue.pop_front().and_then(|first| first.waker));
        }
        if let Some(units) = self.queue.front().map(|first| first.units) {
            // It counted on those before it to stay.
            let turn = now.saturating_add(self.wait(source, whose, units.into(), now));
            if let Some(first) = self.queue.front_mut().filter(|first| turn < first.rings) {
                first.rings = turn;
                wake.extend(first.waker.take());
            }
        }
    }
}
