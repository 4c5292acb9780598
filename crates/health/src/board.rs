//! What is known of all parts. No clock and no I/O: whoever writes on it brings the time.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{
    Cause, Change, Event, PartReport, Report, State, Status,
    history::Recent,
    knobs::Knobs,
    machine::{Machine, Standing, Verdict},
    probe::Kind,
    report::Summary,
    rules::Rules,
};

/// What about a part never changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed {
    pub(crate) name: &'static str,
    pub(crate) critical: bool,
    pub(crate) liveness: bool,
    pub(crate) kind: Kind,
    pub(crate) is_probed: bool,
    pub(crate) knobs: Knobs,
    pub(crate) rules: Rules,
}

#[derive(Debug)]
pub(crate) struct Board {
    parts: Vec<Row>,
    pub(crate) maintenance: Option<Cause>,
    pub(crate) dead: Option<Cause>,
    pub(crate) shutting_down: bool,
    /// The loops have ended: nothing is overdue any more, and what signals say of things that are being closed is no news.
    pub(crate) stopped: bool,
    started: bool,
    ready: bool,
    live: bool,
    recent: Recent,
    changes: u64,
}

#[derive(Debug)]
struct Row {
    fixed: Fixed,
    machine: Machine,
    /// By the last good result.
    degraded: Option<Cause>,
    /// By the last bad one.
    down: Option<Cause>,
    passive: Status,
    overdue: bool,
    probed: Option<(SystemTime, Duration)>,
    state: State,
    since: SystemTime,
    was_up: bool,
    recent: Recent,
}

impl Board {
    pub(crate) fn new(parts: impl Iterator<Item = Fixed>, now: Instant, at: SystemTime) -> Self {
        let parts = parts.map(|fixed| Row::new(fixed, now, at)).collect();
        Self {
            parts,
            maintenance: None,
            dead: None,
            shutting_down: false,
            stopped: false,
            started: false,
            ready: false,
            live: true,
            recent: Recent::default(),
            changes: 0,
        }
    }

    pub(crate) fn due(&self, part: usize) -> Option<Instant> {
        let row = &self.parts[part];
        row.machine.due().filter(|_| row.fixed.is_probed)
    }

    pub(crate) fn begin(&mut self, part: usize, now: Instant, chance: f64) {
        self.parts[part].machine.begin(now, chance);
    }

    pub(crate) fn end(&mut self, part: usize, status: Status, took: Duration, at: SystemTime) {
        let row = &mut self.parts[part];
        row.probed = Some((at, took));
        row.overdue = false;
        let verdict = match status {
            Status::Well => {
                row.degraded = None;
                Verdict::Good
            }
            Status::Degraded(cause) => {
                row.degraded = Some(cause);
                Verdict::Good
            }
            Status::Down(cause) => {
                row.down = Some(cause);
                Verdict::Bad
            }
        };
        row.machine.end(verdict);
    }

    /// A call ended: badly, for a cause, or well.
    pub(crate) fn signal(&mut self, part: usize, failed: Option<Cause>) {
        if self.stopped {
            return;
        }
        let row = &mut self.parts[part];
        let verdict = if failed.is_some() { Verdict::Bad } else { Verdict::Good };
        row.down = failed.or(row.down.take());
        if row.machine.count(verdict) && verdict == Verdict::Good {
            row.degraded = None;
        }
    }

    /// Tells whether it says something else than before.
    pub(crate) fn passive(&mut self, part: usize, says: Status) -> bool {
        if self.stopped {
            return false;
        }
        let row = &mut self.parts[part];
        let differs = row.passive != says;
        row.passive = says;
        differs
    }

    /// Looks at the clock for parts that nobody hears of. Tells whether there is news.
    pub(crate) fn look_for_overdue(&mut self, now: Instant) -> bool {
        let mut news = false;
        for row in &mut self.parts {
            let overdue = row.fixed.is_probed && !self.stopped && row.machine.is_overdue(now);
            news |= overdue != row.overdue;
            row.overdue = overdue;
        }
        news
    }

    /// The standing of its results, and whether any speaks against it.
    pub(crate) fn standing(&self, part: usize) -> (Standing, bool) {
        let machine = &self.parts[part].machine;
        (machine.standing(), machine.against() > 0)
    }

    /// Draws the conclusions. The changes are in their order.
    pub(crate) fn settle(&mut self, at: SystemTime) -> (Report, Vec<Change>) {
        let mut events = Vec::new();
        let mut reports = Vec::with_capacity(self.parts.len());
        for row in &mut self.parts {
            let (state, cause) = row.conclude();
            if state != row.state {
                let event = Event::Part { name: row.fixed.name, from: row.state, to: state };
                self.changes += 1;
                let change = Change { number: self.changes, at, event, cause: cause.clone() };
                row.recent.push(change.clone());
                events.push(change);
                (row.state, row.since) = (state, at);
                row.was_up |= state.works();
            }
            reports.push(row.report(cause));
        }
        let critical = || self.parts.iter().filter(|row| row.fixed.critical);
        let started = self.started || critical().all(|row| row.was_up);
        let live = self.dead.is_none()
            && !self.parts.iter().any(|row| row.fixed.liveness && row.state == State::Down);
        let ready = started
            && live
            && !self.shutting_down
            && self.maintenance.is_none()
            && critical().all(|row| row.state.works());
        let summary = Summary {
            live,
            started,
            ready,
            shutting_down: self.shutting_down,
            maintenance: self.maintenance.clone(),
            dead: self.dead.clone(),
            parts: reports,
        };
        let mut whole = |changed: bool, event, cause: &dyn Fn() -> Option<Cause>| {
            if changed {
                self.changes += 1;
                let change = Change { number: self.changes, at, event, cause: cause() };
                self.recent.push(change.clone());
                events.push(change);
            }
        };
        whole(live != self.live, Event::Live(live), &|| summary.why_not_live());
        whole(started != self.started, Event::Started, &|| None);
        whole(ready != self.ready, Event::Ready(ready), &|| summary.why_not_ready());
        (self.live, self.started, self.ready) = (live, started, ready);
        (Report::new(summary), events)
    }

    pub(crate) fn history(&self) -> Vec<Change> {
        let recent = self.parts.iter().map(|row| &row.recent).chain([&self.recent]);
        let mut changes: Vec<_> = recent.flat_map(Recent::iter).cloned().collect();
        changes.sort_unstable_by_key(|change| change.number);
        changes
    }
}

impl Row {
    fn new(fixed: Fixed, now: Instant, at: SystemTime) -> Self {
        let mut machine = Machine::new(fixed.rules, now);
        if !fixed.is_probed {
            // It is what its passive signal says, from the beginning.
            machine.count(Verdict::Good);
        }
        Self {
            fixed,
            machine,
            degraded: None,
            down: None,
            passive: Status::Well,
            overdue: false,
            probed: None,
            state: State::Unknown,
            since: at,
            was_up: false,
            recent: Recent::default(),
        }
    }

    fn conclude(&self) -> (State, Option<Cause>) {
        let active = match self.machine.standing() {
            Standing::Unknown => (State::Unknown, None),
            Standing::Up if self.degraded.is_some() => (State::Degraded, self.degraded.clone()),
            Standing::Up => (State::Up, None),
            Standing::Down => (State::Down, self.down.clone()),
        };
        match &self.passive {
            Status::Down(cause) => (State::Down, Some(cause.clone())),
            _ if self.overdue => (
                State::Down,
                Some(Cause::new("its probe is overdue: it blocks its thread, or the runtime starves")),
            ),
            Status::Degraded(cause) if active.0 == State::Up => (State::Degraded, Some(cause.clone())),
            _ => active,
        }
    }

    fn report(&self, cause: Option<Cause>) -> PartReport {
        let Fixed { name, critical, liveness, kind, .. } = self.fixed;
        let (state, since, probed) = (self.state, self.since, self.probed);
        PartReport { name, critical, liveness, state, cause, since, probed, component_type: kind.as_str() }
    }
}
