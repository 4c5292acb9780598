use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_core::thread_number;
use tokio::sync::oneshot;

use crate::{
    Limit,
    cluster::{
        lease::{Lease, Plan, Waiting},
        local_share::LocalShare,
        purse::{Local, Purse},
        store::Subject,
        wait::{Paid, Verdict},
    },
    sync::{Mutex, MutexGuard, lock},
};

/// Where units of one subject are had: its purse, and those who wait for more.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) purse: Purse,
    /// Units that were refused here without asking, by threads: the last line is shared by those who have none.
    refused: Box<[Line]>,
    pub(crate) subject: Subject,
    /// Whether others find it. One for a single call has no lease, and no memory of what it had.
    pub(crate) is_known: bool,
    slow: Mutex<Slow>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// What only those touch who do not decide at once. No user code runs under its lock.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    pub(crate) waiting: VecDeque<Waiter>,
    pub(crate) lease: Lease,
    /// To be given back with the next ask.
    pub(crate) returned: u32,
    /// When the oldest of them were granted, at the earliest.
    granted: u64,
    /// What the greatest call needs that did not wait and found nothing at hand, and since when there is one.
    wished: u32,
    wished_at: u64,
    /// It is on the list of those to be looked at.
    pub(crate) is_rung: bool,
    /// The worker that has asked for it, by its number, and whose answer is not there.
    pub(crate) asked_by: Option<u64>,
    /// When it will be looked at, after the number of the worker that will.
    pub(crate) look_at: Option<(u64, u64)>,
    /// What lay in the purse when it was last counted.
    had: u32,
    /// Units refused, when it was last counted.
    refused: u64,
    /// Units that waiters were given or refused since.
    settled: u64,
    pub(crate) share: Option<LocalShare>,
}

/// A caller that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) units: u32,
    /// It was there when the store was asked.
    pub(crate) asked: bool,
    pub(crate) verdict: oneshot::Sender<Verdict>,
}

/// Verdicts to be sent when no lock is held: they wake tasks, which is user code.
pub(crate) type Verdicts = Vec<(oneshot::Sender<Verdict>, Verdict)>;

impl Desk {
    pub(crate) fn new(subject: Subject, stripes: usize, is_known: bool) -> Self {
        let refused = (0..stripes.max(1)).map(|_| Line::default()).collect();
        Self { purse: Purse::new(), refused, subject, is_known, slow: Mutex::default() }
    }

    /// Decides where that can be done without asking: one clock reading, one compare-and-exchange.
    #[inline(always)]
    pub(crate) fn decide(&self, units: u32, now: u64) -> Local {
        let local = self.purse.decide(units, now);
        if let Local::Refused(_) = local {
            self.count_refused(units.into());
        }
        local
    }

    pub(crate) fn count_refused(&self, units: u64) {
        let (thread, last) = (thread_number(), self.refused.len() - 1);
        let count = &self.refused[thread.min(last)].0;
        if thread < last {
            // Nobody else writes to it.
            count.store(count.load(Relaxed) + units, Relaxed);
        } else {
            count.fetch_add(units, Relaxed);
        }
    }

    pub(crate) fn slow(&self) -> MutexGuard<'_, Slow> {
        lock(&self.slow)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.iter().map(|line| line.0.load(Relaxed)).sum()
    }

    /// Nobody waits, nothing is at hand, nothing is on its way: it can be forgotten.
    pub(crate) fn is_quiet(&self) -> bool {
        let slow = self.slow();
        slow.waiting.is_empty()
            && slow.returned == 0
            && slow.asked_by.is_none()
            && !slow.is_rung
            && self.purse.lying() == 0
    }
}

impl Slow {
    /// Tells the lease what callers wanted since it was last told; says how many units were taken from the purse.
    pub(crate) fn count(&mut self, desk: &Desk, plan: &Plan, now: u64) -> u64 {
        let (lying, refused) = (desk.purse.lying(), desk.refused());
        let taken = u64::from(self.had.saturating_sub(lying));
        self.lease.count(taken + (refused - self.refused) + self.settled, plan, now);
        (self.had, self.refused, self.settled) = (lying, refused, 0);
        taken
    }

    /// Units taken from the purse since it was last counted.
    pub(crate) fn uncounted(&self, desk: &Desk) -> u64 {
        self.had.saturating_sub(desk.purse.lying()).into()
    }

    /// Takes all units out of the purse; they have to be counted before.
    pub(crate) fn empty(&mut self, desk: &Desk) -> u32 {
        let units = desk.purse.empty();
        // What was taken since: `had` says how many are to be counted.
        self.had -= units.min(self.had);
        units
    }

    /// Whether somebody has to put the desk into the queue, which is then rung for.
    pub(crate) fn ring(&mut self) -> bool {
        !mem::replace(&mut self.is_rung, true)
    }

    /// Has units given back that were granted then or later.
    pub(crate) fn give_back(&mut self, units: u32, granted: u64) {
        if units > 0 {
            self.granted = if self.returned == 0 { granted } else { granted.min(self.granted) };
            self.returned = self.returned.saturating_add(units);
        }
    }

    /// Has all units given back that are at hand; they have to be counted before.
    pub(crate) fn give_back_all(&mut self, desk: &Desk, plan: &Plan) {
        let units = self.empty(desk);
        self.give_back(units, self.lease.until.saturating_sub(plan.life));
    }

    /// What can be given back, of grants since that time at the earliest. What may have ceased to count at the store is
    /// dropped: it would free units that others have used since.
    pub(crate) fn take_returned(&mut self, plan: &Plan, since: u64, now: u64) -> u32 {
        let units = mem::take(&mut self.returned);
        let counts = self.granted >= since && now.saturating_sub(self.granted) < plan.returnable;
        if counts { units } else { 0 }
    }

    /// Somebody who does not wait would have taken so many. Says since when there is somebody.
    pub(crate) fn wish(&mut self, units: u32, now: u64) -> u64 {
        if self.wished == 0 {
            self.wished_at = now;
        }
        self.wished = self.wished.max(units);
        self.wished_at
    }

    pub(crate) fn put(&mut self, desk: &Desk, units: u32, until: u64) {
        if units > 0 {
            desk.purse.put(units, until);
            self.had += units;
        }
    }

    /// Gives the units to those who wait, first come, first served, and says what is left.
    pub(crate) fn serve(&mut self, mut units: u32, pay: impl Fn(u32) -> Paid, out: &mut Verdicts) -> u32 {
        while let Some(first) = self.waiting.front() {
            let is_gone = first.verdict.is_closed();
            if !is_gone && first.units > units {
                break;
            }
            let Some(waiter) = self.waiting.pop_front() else { break };
            if !is_gone {
                units -= waiter.units;
                self.settled += u64::from(waiter.units);
                out.push((waiter.verdict, Verdict::Admitted(pay(waiter.units))));
            }
        }
        units
    }

    /// Answers all who wait and of whom that is so.
    pub(crate) fn dismiss(
        &mut self,
        whom: impl Fn(&Waiter) -> bool,
        verdict: impl Fn() -> Verdict,
        out: &mut Verdicts,
    ) {
        for _ in 0..self.waiting.len() {
            let Some(waiter) = self.waiting.pop_front() else { break };
            if whom(&waiter) {
                self.settled += u64::from(waiter.units);
                out.push((waiter.verdict, verdict()));
            } else {
                self.waiting.push_back(waiter);
            }
        }
    }

    /// Those who wait and have not gone away, and what was wished for behind them, if it is neither at hand nor refused.
    pub(crate) fn queue(&mut self, desk: &Desk, now: u64) -> Waiting {
        self.waiting.retain(|waiter| !waiter.verdict.is_closed());
        let wished = mem::take(&mut self.wished);
        let is_open = wished > desk.purse.left(now) && desk.purse.refusal(wished, now).is_none();
        let wished = if is_open { wished } else { 0 };
        let waiting: u64 = self.waiting.iter().map(|waiter| u64::from(waiter.units)).sum();
        Waiting {
            first: self.waiting.front().map_or(wished, |waiter| waiter.units),
            total: waiting + u64::from(wished),
        }
    }

    pub(crate) fn share(&mut self, limits: &Arc<[Limit]>, nodes: u32) -> &mut LocalShare {
        self.share.get_or_insert_with(|| LocalShare::new(Arc::clone(limits), nodes))
    }
}
