use std::task::Waker;

use tokio::time::Instant;

/// The callers of a batcher: those who wait in line, those whose requests are in a batch, and those whose results lie here.
///
/// A seat is its caller's until he leaves or has taken what lies there. All takes the same time however many there are.
/// Nothing that came from a user is cloned or dropped in here: what is to be dropped is returned.
#[derive(Debug)]
pub(crate) struct Seats<I, O> {
    seats: Vec<Seat<I, O>>,
    vacant: u32,
    first: u32,
    last: u32,
    waiting: usize,
    /// Wide enough for as many of the heaviest as there are seats.
    weight: u128,
    bounded: usize,
}

#[derive(Debug)]
struct Seat<I, O> {
    held: Held<I, O>,
    waker: Option<Waker>,
    ticket: Ticket,
    before: u32,
    /// The next one in line, or the next vacant seat.
    behind: u32,
}

#[derive(Debug)]
enum Held<I, O> {
    Vacant,
    Waiting(I),
    /// In that batch.
    Taken(u32),
    /// In a batch, and its caller has gone.
    Left,
    Settled(O),
}

/// What is known of a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) weight: u64,
    pub(crate) deadline: Option<Instant>,
    /// When it has lingered enough; `None` where nobody lingers.
    pub(crate) due: Option<Instant>,
}

/// What a caller who leaves leaves behind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left<I, O> {
    /// Not sent.
    Request(I),
    /// In that batch.
    Taken(u32),
    Result(O),
}

/// What became of a result that was laid on a seat.
#[derive(Debug)]
pub(crate) enum Laid<O> {
    /// Its caller is to be woken.
    For(Option<Waker>),
    /// Nobody wants it.
    ForNobody(O),
}

const NONE: u32 = u32::MAX;

impl<I, O> Default for Seats<I, O> {
    fn default() -> Self {
        Self { seats: Vec::new(), vacant: NONE, first: NONE, last: NONE, waiting: 0, weight: 0, bounded: 0 }
    }
}

impl<I, O> Seats<I, O> {
    /// How many wait.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// What weighs what waits, together.
    pub(crate) const fn weight(&self) -> u128 {
        self.weight
    }

    /// Whether any that waits has a deadline.
    pub(crate) const fn are_bounded(&self) -> bool {
        self.bounded > 0
    }

    /// The ticket of the one whose turn it is.
    pub(crate) fn front(&self) -> Option<&Ticket> {
        self.seats.get(self.first as usize).map(|seat| &seat.ticket)
    }

    /// The earliest time at which one of those in line has lingered enough. Looks at all of them.
    pub(crate) fn earliest_due(&self) -> Option<Instant> {
        let mut earliest = None;
        let mut at = self.first;
        while let Some(seat) = self.seats.get(at as usize) {
            earliest = earliest.into_iter().chain(seat.ticket.due).min();
            at = seat.behind;
        }
        earliest
    }

    /// Joins the line.
    pub(crate) fn join(&mut self, item: I, ticket: Ticket, waker: Waker) -> u32 {
        let seat =
            Seat { held: Held::Waiting(item), waker: Some(waker), ticket, before: self.last, behind: NONE };
        let key = self.vacant;
        let key = if let Some(vacant) = self.seats.get_mut(key as usize) {
            self.vacant = vacant.behind;
            *vacant = seat;
            key
        } else {
            self.seats.push(seat);
            (self.seats.len() - 1) as u32
        };
        match self.seats.get_mut(self.last as usize) {
            Some(last) => last.behind = key,
            None => self.first = key,
        }
        self.last = key;
        self.waiting += 1;
        self.weight += u128::from(ticket.weight);
        self.bounded += usize::from(ticket.deadline.is_some());
        key
    }

    /// Takes the first in line into that batch.
    pub(crate) fn take(&mut self, batch: u32) -> Option<(u32, I, Ticket)> {
        let key = self.first;
        self.seats.get(key as usize)?;
        self.unlink(key);
        let seat = &mut self.seats[key as usize];
        match std::mem::replace(&mut seat.held, Held::Taken(batch)) {
            Held::Waiting(item) => Some((key, item, seat.ticket)),
            _ => unreachable!("who is in line waits"),
        }
    }

    /// Whether the caller of a seat is still there.
    pub(crate) fn is_wanted(&self, key: u32) -> bool {
        !matches!(self.seats[key as usize].held, Held::Left)
    }

    /// Lays a result on a seat that was taken.
    pub(crate) fn lay(&mut self, key: u32, result: O) -> Laid<O> {
        let seat = &mut self.seats[key as usize];
        match seat.held {
            Held::Taken(_) => {
                seat.held = Held::Settled(result);
                Laid::For(seat.waker.take())
            }
            Held::Left => {
                self.vacate(key);
                Laid::ForNobody(result)
            }
            _ => unreachable!("a seat is settled once"),
        }
    }

    /// What lies there; the seat is vacant then. Else this waker is woken when something does, instead of the one that is
    /// returned.
    pub(crate) fn look(&mut self, key: u32, waker: &Waker) -> (Option<O>, Option<Waker>) {
        let seat = &mut self.seats[key as usize];
        if let Held::Settled(_) = seat.held {
            return match self.vacate(key) {
                Held::Settled(result) => (Some(result), None),
                _ => unreachable!("it was settled"),
            };
        }
        if seat.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return (None, None);
        }
        (None, seat.waker.replace(waker.clone()))
    }

    /// The caller goes away.
    pub(crate) fn leave(&mut self, key: u32) -> (Left<I, O>, Option<Waker>) {
        let seat = &mut self.seats[key as usize];
        let waker = seat.waker.take();
        if let Held::Taken(batch) = seat.held {
            seat.held = Held::Left;
            return (Left::Taken(batch), waker);
        }
        if let Held::Waiting(_) = seat.held {
            self.unlink(key);
        }
        let left = match self.vacate(key) {
            Held::Waiting(item) => Left::Request(item),
            Held::Settled(result) => Left::Result(result),
            Held::Vacant | Held::Taken(_) | Held::Left => unreachable!("who leaves has a seat"),
        };
        (left, waker)
    }

    fn unlink(&mut self, key: u32) {
        let Seat { before, behind, ticket, .. } = self.seats[key as usize];
        match self.seats.get_mut(before as usize) {
            Some(seat) => seat.behind = behind,
            None => self.first = behind,
        }
        match self.seats.get_mut(behind as usize) {
            Some(seat) => seat.before = before,
            None => self.last = before,
        }
        self.waiting -= 1;
        self.bounded -= usize::from(ticket.deadline.is_some());
        self.weight -= u128::from(ticket.weight);
    }

    fn vacate(&mut self, key: u32) -> Held<I, O> {
        let seat = &mut self.seats[key as usize];
        seat.behind = self.vacant;
        self.vacant = key;
        std::mem::replace(&mut seat.held, Held::Vacant)
    }

    /// How many seats there are room for, vacant ones included.
    #[cfg(test)]
    pub(crate) const fn room(&self) -> usize {
        self.seats.len()
    }
}
