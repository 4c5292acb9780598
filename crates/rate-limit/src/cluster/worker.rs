//! The one task that speaks with the store.

mod away;

use std::{
    mem,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    clock,
    cluster::{
        Grant, Store, WhenAway,
        agenda::Agenda,
        desk::{Desk, Slow, Verdicts, Waiter},
        dice::Dice,
        lease::{Answer, Want},
        purse::NEVER,
        round_trip::round_trip,
        shared::{Shared, nanos},
        wait::{Paid, Verdict},
    },
};

/// So many asks at most go in one round trip.
const BATCH: usize = 1_024;
/// From the first failure to the next attempt.
const FIRST_PAUSE: u64 = 50_000_000;

/// Works until the last handle is gone.
pub(crate) async fn work<St: Store>(shared: Arc<Shared>, store: Arc<St>, number: u64) {
    let _leave = Leave { shared: Arc::clone(&shared), number };
    // What a predecessor had in mind died with it.
    shared.ring_all();
    let dice = Dice(shared.node ^ number.rotate_left(32));
    let agenda = Agenda::new(number);
    let mut worker = Worker { shared, store, number, agenda, dice, pause: FIRST_PAUSE, said_goodbye: false };
    while worker.turn().await {}
}

struct Leave {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.shared.queue.leave(self.number);
    }
}

struct Worker<St> {
    shared: Arc<Shared>,
    store: Arc<St>,
    number: u64,
    agenda: Agenda,
    dice: Dice,
    pause: u64,
    said_goodbye: bool,
}

/// What to ask for a desk.
struct Errand {
    desk: Arc<Desk>,
    kind: Kind,
    returned: u32,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Want(Want),
    /// These units were admitted while the store was away.
    Charge(u32),
    Look,
}

impl<St: Store> Worker<St> {
    /// Looks around once. Says whether to go on.
    async fn turn(&mut self) -> bool {
        if !self.shared.beat(self.number) {
            return false;
        }
        let now = clock::now();
        let mut due = self.shared.take_due();
        due.extend(self.agenda.take_due(now));
        if self.shared.is_away() {
            return self.turn_away(due, now).await;
        }
        let is_closing = self.shared.callers.is_closing();
        if is_closing {
            due.extend(self.shared.keys.all());
            due.push(Arc::clone(&self.shared.desk));
        }
        let mut out = Verdicts::new();
        let mut errands: Vec<_> =
            due.into_iter().filter_map(|desk| self.prepare(desk, is_closing, now, &mut out)).collect();
        send(out);
        if is_closing && errands.is_empty() && !mem::replace(&mut self.said_goodbye, true) {
            // The others need not wait until this node is forgotten.
            let desk = Arc::clone(&self.shared.desk);
            errands.extend(self.shared.is_known().then_some(Errand { desk, kind: Kind::Look, returned: 0 }));
        }
        if errands.is_empty() {
            if is_closing && self.shared.callers.waiting() == 0 && self.shared.queue.resign(self.number) {
                return false;
            }
            self.rest(now).await;
            return true;
        }
        while !errands.is_empty() {
            let rest = errands.split_off(errands.len().min(BATCH));
            if let Err(errands) = self.go(errands).await {
                self.fail(errands.into_iter().chain(rest));
                break;
            }
            errands = rest;
        }
        true
    }

    /// What to ask for a desk, if anything.
    fn prepare(&mut self, desk: Arc<Desk>, is_closing: bool, now: u64, out: &mut Verdicts) -> Option<Errand> {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let mut slow = desk.slow();
        if slow.asked_by == Some(self.number) {
            return None;
        }
        shared.counts.from_leases.fetch_add(slow.count(&desk, plan, now), Relaxed);
        if now >= slow.lease.until || is_closing {
            slow.give_back_all(&desk, plan);
        }
        if !slow.waiting.is_empty() && desk.purse.lying() > 0 {
            let units = slow.empty(&desk);
            let rest = slow.serve(units, |units| self.pay(&desk, units, now), out);
            let until = slow.lease.until;
            slow.put(&desk, rest, until);
        }
        let waiting = slow.queue(&desk, now);
        let kind = if let Some(charge) = self.kind_of_charge(&mut slow, now) {
            charge
        } else if is_closing && waiting.total == 0 {
            Kind::Look
        } else {
            let (cap, left) = (plan.cap(shared.crowd(now)), desk.purse.left(now));
            slow.lease.want(plan, cap, left, waiting, now).map_or(Kind::Look, Kind::Want)
        };
        let returned = slow.take_returned(plan, shared.returns_since.load(Relaxed), now);
        if matches!(kind, Kind::Look) && returned == 0 {
            if !is_closing && self.schedule(&desk, &mut slow, now) {
                drop(slow);
                self.forget(desk, now);
            }
            return None;
        }
        if matches!(kind, Kind::Want(_)) {
            slow.waiting.iter_mut().for_each(|waiter| waiter.asked = true);
        }
        slow.asked_by = Some(self.number);
        drop(slow);
        Some(Errand { desk, kind, returned })
    }

    fn kind_of_charge(&self, slow: &mut Slow, now: u64) -> Option<Kind> {
        let untold = slow.share.as_ref()?.untold(now);
        (untold > 0).then_some(Kind::Charge(untold))
    }

    /// Asks the store. Where it is away, the errands come back.
    async fn go(&mut self, errands: Vec<Errand>) -> Result<(), Vec<Errand>> {
        let (shared, asked_at) = (Arc::clone(&self.shared), clock::now());
        let mut asks: Vec<_> = errands
            .iter()
            .map(|errand| {
                let (least, most) = match errand.kind {
                    Kind::Want(want) => (want.least, want.most),
                    Kind::Charge(units) => (1, units),
                    Kind::Look => (0, 0),
                };
                shared.ask(&errand.desk, least, most, errand.returned)
            })
            .collect();
        // Of itself it tells with the limiter's own subject, where a store that counts nodes by subjects finds all of them.
        let own = errands.iter().position(|errand| errand.desk.subject.key().is_none());
        let node = shared.present(asked_at, own.is_some());
        let told_with = own.unwrap_or(asks.len());
        if node.is_some() {
            if own.is_none() {
                asks.push(shared.ask(&shared.desk, 0, 0, 0));
            }
            asks[told_with].node = node;
        }
        shared.counts.asks.fetch_add(asks.len() as u64, Relaxed);
        shared.counts.round_trips.fetch_add(1, Relaxed);
        let answers = round_trip(&*self.store, asks, shared.timeout).await;
        if !shared.beat(self.number) {
            // Whoever came instead has asked for itself.
            return Ok(());
        }
        let answers = match answers {
            Ok(answers) => answers,
            Err(failure) => {
                self.go_away(&failure);
                return Err(errands);
            }
        };
        self.come_back(asked_at);
        if let (Some(_), Some(Ok(grant))) = (node, answers.get(told_with)) {
            shared.roll(|roll| roll.told(grant.nodes, asked_at, &shared.plan));
        }
        let mut failed = Vec::new();
        for (errand, answer) in errands.into_iter().zip(answers) {
            match answer {
                Ok(grant) => self.settle(errand, grant, asked_at),
                Err(failure) => {
                    let (name, error) = (shared.origin.name(), failure.to_string());
                    tracing::debug!(name, error, "the store of a rate limit failed for one of several asks");
                    failed.push(errand);
                }
            }
        }
        self.fail(failed.into_iter());
        Ok(())
    }

    /// Hands out what the store gave.
    fn settle(&mut self, errand: Errand, grant: Grant, asked_at: u64) {
        let Errand { desk, kind, .. } = errand;
        let (shared, now) = (Arc::clone(&self.shared), clock::now());
        let (plan, nodes) = (&shared.plan, shared.nodes());
        let mut out = Verdicts::new();
        let mut slow = desk.slow();
        slow.asked_by = None;
        match kind {
            Kind::Look => {}
            Kind::Charge(units) => {
                if let Some(share) = &mut slow.share {
                    share.told(units, now);
                }
            }
            Kind::Want(want) => {
                if shared.when_away == WhenAway::LocalShare && desk.is_known && grant.units > 0 {
                    slow.share(&shared.limits, nodes).charge(grant.units, nodes, now);
                }
                shared.counts.from_leases.fetch_add(slow.count(&desk, plan, now), Relaxed);
                if now >= slow.lease.until {
                    slow.give_back_all(&desk, plan);
                }
                let retry_after = grant.retry_after.map(nanos);
                let answer = Answer { asked_at, want, units: grant.units, retry_after, now };
                let spread = if nodes > 1 { self.dice.throw() } else { 0.0 };
                let shut = slow.lease.answered(plan, answer, spread);
                match shut {
                    Some(until) => desk.purse.shut(want.least, until),
                    None => desk.purse.open(),
                }
                let mut rest = grant.units;
                if !slow.waiting.is_empty() {
                    rest += slow.empty(&desk);
                    rest = slow.serve(rest, |units| self.pay(&desk, units, asked_at), &mut out);
                    // Where some were served, the others ask for what there is behind them.
                    if grant.units == 0 {
                        let after = shut.map(|until| until.saturating_sub(now)).or(retry_after);
                        let whom = |waiter: &Waiter| waiter.asked && waiter.units >= want.least;
                        slow.dismiss(whom, || Verdict::Refused(after), &mut out);
                    }
                }
                let until = slow.lease.until;
                if plan.leases && desk.is_known && now < until {
                    slow.put(&desk, rest, until);
                } else {
                    slow.give_back(rest, asked_at);
                }
            }
        }
        let is_forgotten = self.schedule(&desk, &mut slow, now);
        // Nobody else keeps it until then.
        let is_last = !desk.is_known && slow.returned > 0;
        drop(slow);
        send(out);
        if is_last {
            shared.ring(&desk);
        }
        if is_forgotten {
            self.forget(desk, now);
        }
    }

    /// The store does not decide on these: the policy does, for all who wait.
    fn fail(&mut self, errands: impl Iterator<Item = Errand>) {
        let (shared, now) = (Arc::clone(&self.shared), clock::now());
        let mut out = Verdicts::new();
        for Errand { desk, .. } in errands {
            let mut slow = desk.slow();
            slow.asked_by = None;
            // What was to be given back is gone: it may have been given back.
            slow.dismiss(|_| true, || Verdict::Away, &mut out);
            // Where the store is away, all are looked at when it is back.
            if !shared.is_away() {
                slow.lease.put_off(now + FIRST_PAUSE);
                if self.schedule(&desk, &mut slow, now) {
                    drop(slow);
                    self.forget(desk, now);
                }
            }
        }
        send(out);
    }

    /// Decides when to look at a desk again; says whether it can be forgotten.
    #[must_use]
    fn schedule(&mut self, desk: &Arc<Desk>, slow: &mut Slow, now: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let cap = plan.cap(shared.crowd(now));
        let low = slow.lease.low(plan, cap);
        desk.purse.set_low(low.map_or(NEVER, u64::from));
        let is_keys = desk.is_known && desk.subject.key().is_some();
        let at = if !slow.waiting.is_empty() || slow.returned > 0 {
            Some(now)
        } else {
            slow.lease.next_look(plan, cap, desk.purse.lying(), now)
        };
        let is_forgotten = at.is_none()
            && is_keys
            && slow.share.as_ref().is_none_or(|share| share.is_idle(now))
            && desk.purse.refusal(u32::MAX, now).is_none();
        // A key is looked at until it is forgotten.
        let at = at.or_else(|| (is_keys && !is_forgotten).then_some(now + plan.presence()));
        if let Some(at) = at {
            self.agenda.note(desk, slow, at);
        }
        is_forgotten
    }

    /// Forgets a key; where somebody has its desk in hand yet, later.
    fn forget(&mut self, desk: Arc<Desk>, now: u64) {
        if let Some(desk) = self.shared.keys.forget(desk) {
            let mut slow = desk.slow();
            self.agenda.note(&desk, &mut slow, now + self.shared.plan.presence());
        }
    }

    /// Until somebody rings, or something is due.
    async fn rest(&mut self, now: u64) {
        let shared = Arc::clone(&self.shared);
        let next = if !shared.is_away() {
            self.agenda.next()
        } else {
            shared.is_wanted.load(Relaxed).then(|| shared.probe_at.load(Relaxed))
        };
        match next {
            None => shared.bell.notified().await,
            Some(at) => {
                // It is over by time or by the bell; both mean the same.
                let _ = timeout(Duration::from_nanos(at.saturating_sub(now)), shared.bell.notified()).await;
            }
        }
    }

    fn pay(&self, desk: &Arc<Desk>, units: u32, granted: u64) -> Paid {
        Paid { shared: Arc::clone(&self.shared), desk: Arc::clone(desk), units, granted }
    }
}

fn send(out: Verdicts) {
    for (waiter, verdict) in out {
        // Of one who has left, the units go back when they are dropped here.
        drop(waiter.send(verdict));
    }
}
