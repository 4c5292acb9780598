//! How calls that ended are gathered and counted: by whoever has the turn, for all.

use tokio::time::Instant;

use super::{FREE, MARKED, Shared, TAKEN};
use crate::{
    breaker::Machine,
    cell::Gathered,
    published::{Published, epoch_of, unpack},
    state::{Changes, Ticket, Transition, Verdict},
    sync::{AcqRel, Acquire, Relaxed, Release},
    window::Tally,
};

/// What became of a call that was put into its cell.
enum Gather {
    Done,
    /// It has to be settled.
    Due,
    /// There was no room.
    Full,
}

impl Shared {
    /// Takes the verdict on an admitted call, on the cell of this thread. `now` is read for windows of time and where
    /// something changes.
    pub(crate) fn settle(
        &self,
        cell: usize,
        ticket: Ticket,
        verdict: Verdict,
        now: impl Fn() -> Instant,
    ) -> Changes {
        if ticket.probe.is_some() {
            return self.settle_probe(ticket, verdict, now());
        }
        let (failed, slow) = match verdict {
            Verdict::Good { slow } => (false, slow && self.knobs.0.times_calls()),
            Verdict::Bad { slow } => (true, slow && self.knobs.0.times_calls()),
            Verdict::None => return Changes::new(),
        };
        if !failed && !slow && self.is_quiet_for(ticket, cell) {
            return Changes::new();
        }
        let epoch = ticket.epoch.get();
        if epoch_of(self.word.0.load(Acquire)) != epoch {
            return Changes::new();
        }
        let bucket = if self.knobs.0.has_buckets() { self.bucket(now()) } else { 0 };
        let one = Gathered::one(epoch, bucket, failed, slow);
        let before = Gathered::unpack(self.cell(cell).load(Relaxed));
        let mut changes = Changes::new();
        if before.is_before(&one) {
            self.take_turn(&now, &mut changes);
        }
        loop {
            match self.gather(cell, epoch, &one) {
                Gather::Done => return changes,
                Gather::Due => {
                    self.take_turn(now, &mut changes);
                    return changes;
                }
                // The one who has the turn has been held up for long. Nothing gets lost, so this one waits for the lock.
                Gather::Full => {
                    let mut machine = self.lock();
                    changes.extend(self.empty_cells(&mut machine, &now));
                    self.publish(&machine);
                }
            }
        }
    }

    /// At most as many as there are probes come here, and none may get lost: they take the lock.
    fn settle_probe(&self, ticket: Ticket, verdict: Verdict, now: Instant) -> Changes {
        let mut machine = self.lock();
        self.tell_what_was_asked(&mut machine);
        if let (Some(one), true, true) =
            (verdict.tally(), ticket.epoch == machine.epoch(), self.knobs.0.has_buckets())
        {
            machine.add_to_bucket(self.bucket(now), one);
        }
        let transition = machine.judge(ticket, verdict, now);
        self.publish(&machine);
        Changes::from_iter(transition)
    }

    /// Adds to the cell.
    fn gather(&self, cell: usize, epoch: u64, one: &Gathered) -> Gather {
        let cell = self.cell(cell);
        let mut word = cell.load(Relaxed);
        loop {
            let before = Gathered::unpack(word);
            let sum = if word == 0 || !before.is_of(epoch) {
                // What is left of an older epoch means nothing; nor does this call, if the epoch is over by now.
                if epoch_of(self.word.0.load(Acquire)) != epoch {
                    return Gather::Done;
                }
                *one
            } else if before.is_full() {
                return Gather::Full;
            } else {
                before.plus(one)
            };
            match cell.compare_exchange_weak(word, sum.pack(), Release, Relaxed) {
                Ok(_) if one.bad().calls > 0 || sum.clean().calls >= self.knobs.0.room() => {
                    return Gather::Due;
                }
                Ok(_) => return Gather::Done,
                Err(now) => word = now,
            }
        }
    }

    /// Settles, or leaves it to the one who is at it.
    #[cold]
    fn take_turn(&self, now: impl Fn() -> Instant, changes: &mut Changes) {
        // From now on successes are gathered, whoever has the turn and however long that takes.
        let word = self.word.0.load(Relaxed);
        if unpack(word) == Published::Quiet {
            let counting = word | Published::Counting as u64;
            let _or_it_changed = self.word.0.compare_exchange(word, counting, AcqRel, Relaxed);
        }
        // A swap, also by those who leave: the release in it is what shows their cell to the one at it.
        if self.turn.swap(MARKED, AcqRel) != FREE {
            return;
        }
        loop {
            self.turn.swap(TAKEN, AcqRel);
            let mut machine = self.lock();
            changes.extend(self.empty_cells(&mut machine, &now));
            self.publish(&machine);
            drop(machine);
            if self.turn.compare_exchange(TAKEN, FREE, AcqRel, Acquire).is_ok() {
                return;
            }
        }
    }

    /// Counts what was gathered.
    pub(super) fn empty_cells(&self, machine: &mut Machine, now: impl Fn() -> Instant) -> Option<Transition> {
        let epoch = machine.epoch().get();
        let current = self.knobs.0.has_buckets().then(|| self.bucket(now()));
        let mut ended = Tally::default();
        for cell in &self.cells {
            // Looking first spares the lines of threads that did nothing.
            if cell.0.load(Acquire) == 0 {
                continue;
            }
            let gathered = Gathered::unpack(cell.0.swap(0, AcqRel));
            if gathered.is_of(epoch) {
                let mut tally = gathered.clean();
                tally.add(gathered.bad());
                if let Some(current) = current {
                    machine.add_to_bucket(gathered.bucket_until(current), tally);
                }
                ended.add(tally);
            }
        }
        // After the cells: whoever asked for something did so before he put his call there.
        self.tell_what_was_asked(machine);
        if ended.calls > 0 { machine.count(ended, now) } else { None }
    }
}
