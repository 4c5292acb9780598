use std::{task::Waker, time::Duration};

use buttress_core::Reason;
use tokio::time::Instant;

use crate::{
    rules::Limits,
    seats::{Left, Seats, Ticket},
};

/// The decisions of a batcher: who goes alone, who waits, who is refused, when a batch goes, and who is in it.
///
/// ```text
///            first request            ready, lingered       call ended
///   (none) ---------------> gathering ---------------> in flight ----------> gathering, or (none):
///                               |                                            if nothing waits, or another gathers
///                               | nothing waits any more
///                               v
///                             (none)
/// ```
///
/// There are at most `in_flight` workers, and one of them gathers at most.
#[derive(Debug)]
pub(crate) struct Gather<I, O> {
    limits: Limits,
    pub(crate) seats: Seats<I, O>,
    workers: Vec<Worker>,
    gatherer: Option<u32>,
    /// Whether a lone caller makes his call by himself.
    alone: bool,
    /// How many took part in the last batch.
    last: usize,
    closed: bool,
    /// When what waits has lingered enough; `None` where nobody lingers.
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Worker {
    exists: bool,
    /// How many callers of his batch are still there.
    callers: usize,
    waker: Option<Waker>,
}

/// What becomes of a request that comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<I> {
    /// Its caller makes the call by himself.
    Alone(I),
    Wait {
        key: u32,
        /// Begin this worker.
        begin: Option<u32>,
        /// The one who gathers need not linger any more.
        hurry: bool,
    },
    Refused(I, Reason),
}

/// When the next batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing waits.
    Never,
    Now,
    At(Instant),
}

/// Who has been taken into a batch.
#[derive(Debug, Default)]
pub(crate) struct Taken<I> {
    pub(crate) keys: Vec<u32>,
    pub(crate) requests: Vec<I>,
    /// Those whose deadline has passed.
    pub(crate) late: Vec<(u32, I)>,
    /// The latest deadline; `None` too where there is one without.
    pub(crate) deadline: Option<Instant>,
    endless: bool,
}

/// An `Instant` overflows behind a time that is too far to be named.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);

impl<I, O> Gather<I, O> {
    pub(crate) fn new(limits: Limits) -> Self {
        let seats = Seats::default();
        Self {
            limits,
            seats,
            workers: Vec::new(),
            gatherer: None,
            alone: false,
            last: 0,
            closed: false,
            due: None,
        }
    }

    /// A request comes. The clock is read only where requests linger.
    pub(crate) fn enter(
        &mut self,
        request: I,
        weight: u64,
        deadline: Option<Instant>,
        now: impl FnOnce() -> Instant,
        waker: &Waker,
    ) -> Entry<I> {
        if self.closed {
            return Entry::Refused(request, Reason::Closed);
        }
        if self.is_idle() && self.last <= 1 && self.limits.linger.is_zero() {
            self.alone = true;
            return Entry::Alone(request);
        }
        if self.seats.waiting() >= self.limits.waiting {
            return Entry::Refused(request, Reason::Overloaded);
        }
        let due = (!self.limits.linger.is_zero()).then(|| {
            let (now, linger) = (now(), self.limits.linger);
            let patient = deadline
                .is_none_or(|deadline| deadline.saturating_duration_since(now) > linger.saturating_mul(2));
            if patient { now + linger.min(LONGEST) } else { now }
        });
        if self.seats.waiting() == 0 {
            // What it was for has gone.
            self.due = None;
        }
        let ticket = Ticket { weight, deadline, due };
        let was_full = self.is_full();
        let key = self.seats.join(request, ticket, waker.clone());
        let earlier = due.is_some() && self.due.is_none_or(|known| due < Some(known));
        if earlier {
            self.due = due;
        }
        let hurry = due.is_some() && self.gatherer.is_some() && (earlier || !was_full && self.is_full());
        Entry::Wait { key, begin: self.begin(), hurry }
    }

    /// Nothing waits, and nothing is in flight.
    const fn is_idle(&self) -> bool {
        !self.alone && self.is_drained()
    }

    const fn is_drained(&self) -> bool {
        self.seats.waiting() == 0 && self.workers.is_empty()
    }

    /// Whether it was closed and nothing is left to do.
    pub(crate) const fn is_over(&self) -> bool {
        self.closed && self.is_idle()
    }

    pub(crate) const fn close(&mut self) {
        self.closed = true;
    }

    /// The lone caller has his answer, or went away.
    pub(crate) const fn alone_ended(&mut self) {
        self.alone = false;
    }

    fn is_full(&self) -> bool {
        self.seats.waiting() >= self.limits.size || self.seats.weight() >= u128::from(self.limits.weight)
    }

    /// The number of a worker that is to begin, because something waits and nobody gathers.
    pub(crate) fn begin(&mut self) -> Option<u32> {
        if self.gatherer.is_some() || self.seats.waiting() == 0 {
            return None;
        }
        let vacant = self.workers.iter().position(|worker| !worker.exists);
        let number = match vacant {
            Some(number) => number,
            None if self.workers.len() < self.limits.in_flight => {
                self.workers.push(Worker::default());
                self.workers.len() - 1
            }
            None => return None,
        };
        self.workers[number].exists = true;
        self.gatherer = Some(number as u32);
        self.gatherer
    }

    /// A worker's batch has ended. Whether he goes on, to gather: else he has ended, too.
    pub(crate) fn goes_on(&mut self, number: u32) -> bool {
        let worker = &mut self.workers[number as usize];
        worker.callers = 0;
        if self.gatherer.is_none() {
            // Also where nothing waits: those who are woken now are about to come again.
            self.gatherer = Some(number);
            return true;
        }
        self.end(number);
        false
    }

    /// A worker ends.
    pub(crate) fn end(&mut self, number: u32) {
        if self.gatherer == Some(number) {
            self.gatherer = None;
        }
        self.workers[number as usize] = Worker::default();
        while self.workers.pop_if(|worker| !worker.exists).is_some() {}
    }

    /// A worker is gone before he could end. Where he was the last, what waits is returned: nobody else would take it.
    pub(crate) fn lost(&mut self, number: u32) -> Vec<(u32, I)> {
        self.end(number);
        if !self.workers.is_empty() {
            return Vec::new();
        }
        std::iter::from_fn(|| self.seats.take(number)).map(|(key, request, _)| (key, request)).collect()
    }

    /// When the next batch goes, as far as it depends on what waits.
    pub(crate) fn due(&self) -> Due {
        match self.due {
            _ if self.seats.waiting() == 0 => Due::Never,
            Some(at) if !self.closed && !self.is_full() => Due::At(at),
            _ => Due::Now,
        }
    }

    /// Wakes this when there is something new for a worker: for one who gathers, that nothing waits any more or that he need
    /// not linger; for one whose batch is in flight, that all its callers have gone.
    pub(crate) fn listen(&mut self, number: u32, waker: &Waker) {
        match &mut self.workers[number as usize].waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(crate) fn gatherers_waker(&mut self) -> Option<Waker> {
        let number = self.gatherer?;
        self.workers[number as usize].waker.take()
    }

    /// Whether nobody waits for a worker's batch any more.
    pub(crate) fn is_abandoned(&self, number: u32) -> bool {
        self.workers[number as usize].callers == 0
    }

    /// Takes into the batch of the one who gathers, or has gathered, what there is room for. The clock is read only where
    /// something that waits has a deadline.
    pub(crate) fn take(
        &mut self,
        number: u32,
        (mut size, mut weight): (usize, u64),
        now: impl FnOnce() -> Instant,
        taken: &mut Taken<I>,
    ) {
        let now = self.seats.are_bounded().then(now);
        let begun = taken.keys.len();
        taken.reserve(size.min(self.seats.waiting()));
        while size > 0
            && let Some(front) = self.seats.front()
            && (front.weight <= weight || taken.keys.is_empty())
        {
            let Some((key, request, ticket)) = self.seats.take(number) else { break };
            if ticket.deadline.is_some_and(|deadline| now.is_some_and(|now| deadline <= now)) {
                taken.late.push((key, request));
                continue;
            }
            size -= 1;
            weight = weight.saturating_sub(ticket.weight);
            taken.keys.push(key);
            taken.requests.push(request);
            taken.bound(ticket.deadline);
        }
        if self.gatherer == Some(number) {
            self.gatherer = None;
        }
        self.due = if self.limits.linger.is_zero() { None } else { self.seats.earliest_due() };
        self.last = taken.keys.len();
        self.workers[number as usize].callers += taken.keys.len() - begun;
    }

    /// A caller goes away. Besides what he leaves, who is to be woken: the worker for whom it makes a difference.
    pub(crate) fn leave(&mut self, key: u32) -> (Left<I, O>, Option<Waker>, Option<Waker>) {
        let (left, mine) = self.seats.leave(key);
        let wake = match left {
            Left::Request(_) if self.seats.waiting() == 0 => self.gatherers_waker(),
            Left::Taken(number) => {
                let worker = &mut self.workers[number as usize];
                worker.callers = worker.callers.saturating_sub(1);
                if worker.callers == 0 { worker.waker.take() } else { None }
            }
            _ => None,
        };
        (left, mine, wake)
    }

    /// A caller has his result.
    pub(crate) fn settled(&mut self, number: u32) {
        let worker = &mut self.workers[number as usize];
        worker.callers = worker.callers.saturating_sub(1);
    }
}

impl<I> Taken<I> {
    pub(crate) const fn new() -> Self {
        Self { keys: Vec::new(), requests: Vec::new(), late: Vec::new(), deadline: None, endless: false }
    }

    fn reserve(&mut self, more: usize) {
        self.keys.reserve(more);
        self.requests.reserve(more);
    }

    fn bound(&mut self, deadline: Option<Instant>) {
        self.endless |= deadline.is_none();
        self.deadline = if self.endless { None } else { self.deadline.max(deadline) };
    }
}

#[cfg(test)]
mod tests;
