use std::{
    collections::BTreeMap,
    task::{Poll, Waker},
    time::Duration,
};

use fastrand::Rng;

use super::{Answer, Backend, Figures, Load, WhenCallerLeaves};
use crate::{
    BackendError, What,
    agenda::{Action, Agenda, Key},
    nanos::Nanos,
    recorder::Recorder,
    slab::Slab,
};

type Outcome = Result<Answer, BackendError>;

/// The machine of a backend. It takes the time, puts what it will do into the agenda, and tells the recorder.
#[derive(Debug)]
pub(crate) struct Server {
    spec: Backend,
    number: usize,
    rng: Rng,
    busy: usize,
    /// By the number of the attempt, so that the first is the first that came, and any can leave.
    queue: BTreeMap<u64, usize>,
    jobs: Slab<Job>,
    figures: Figures,
}

#[derive(Debug)]
struct Job {
    attempt: u64,
    arrived: Nanos,
    stage: Stage,
    waker: Option<Waker>,
    caller_waits: bool,
}

#[derive(Debug)]
enum Stage {
    Queued,
    Serving {
        since: Nanos,
        end: Key,
        fails: bool,
    },
    /// Swallowed: only its caller still knows of it.
    Lost,
    Done(Outcome),
}

/// What a server speaks to while it changes.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: Nanos,
    pub(crate) agenda: &'a mut Agenda,
    pub(crate) recorder: &'a mut Recorder,
}

impl Server {
    pub(crate) fn new(spec: Backend, number: usize, rng: Rng, now: Nanos, agenda: &mut Agenda) -> Self {
        for at in spec.refusing.beginnings().filter(|&at| at > now) {
            agenda.push(at, Action::RefuseAll { backend: number });
        }
        let figures = Figures { until: now, ..Figures::default() };
        Self { spec, number, rng, busy: 0, queue: BTreeMap::new(), jobs: Slab::default(), figures }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn workers(&self) -> usize {
        self.spec.workers
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.busy + self.queue.len()
    }

    /// The figures until now.
    pub(crate) fn figures(&mut self, now: Nanos) -> &mut Figures {
        self.figures.pass(now, self.busy, self.queue.len());
        &mut self.figures
    }

    /// A call comes. What is not refused at once gets a number, by which it is asked for.
    pub(crate) fn offer(&mut self, around: &mut Around<'_>) -> Result<usize, BackendError> {
        let now = around.now;
        self.figures(now);
        let attempt = self.figures.attempts;
        self.figures.attempts += 1;
        around.recorder.attempt(now);
        around.recorder.event(now, What::Arrived { backend: self.number, attempt });

        let has_worker = self.busy < self.spec.workers;
        let refusal = if self.spec.refusing.holds(now) {
            Some(BackendError::Refused)
        } else if !has_worker && self.queue.len() >= self.spec.queue && !self.spec.hanging.holds(now) {
            Some(BackendError::QueueFull)
        } else {
            None
        };
        if let Some(error) = refusal {
            self.figures.refused += 1;
            around.recorder.event(now, What::Refused { backend: self.number, attempt });
            return Err(error);
        }

        let job = Job { attempt, arrived: now, stage: Stage::Queued, waker: None, caller_waits: true };
        let slot = self.jobs.insert(job);
        if self.spec.hanging.holds(now) {
            self.job(slot).stage = Stage::Lost;
        } else if has_worker {
            self.start(slot, around);
        } else {
            self.queue.insert(attempt, slot);
        }
        self.figures.peak(self.busy, self.queue.len());
        Ok(slot)
    }

    /// The outcome, once; or it will be told to the waker.
    pub(crate) fn ask(&mut self, slot: usize, waker: &Waker) -> Poll<Outcome> {
        let job = self.job(slot);
        if let Stage::Done(outcome) = job.stage {
            self.jobs.remove(slot);
            return Poll::Ready(outcome);
        }
        match &mut job.waker {
            Some(present) => present.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// The caller of a call that he has not had the outcome of does not wait any longer.
    pub(crate) fn leave(&mut self, slot: usize, around: &mut Around<'_>) {
        self.figures(around.now);
        let stops = self.spec.when_caller_leaves == WhenCallerLeaves::Stop;
        let backend = self.number;
        let job = self.job(slot);
        job.caller_waits = false;
        job.waker = None;
        let attempt = job.attempt;
        match job.stage {
            Stage::Queued if stops => {
                self.queue.remove(&attempt);
                self.depart(slot, around.now);
            }
            Stage::Serving { end, .. } if stops => {
                around.agenda.cancel(end);
                self.depart(slot, around.now);
                self.busy -= 1;
                self.start_next(around);
            }
            Stage::Queued | Stage::Serving { .. } => {}
            Stage::Lost => {
                self.jobs.remove(slot);
            }
            // The answer was ready in this very instant, and counts as given.
            Stage::Done(_) => {
                self.jobs.remove(slot);
                return;
            }
        }
        self.figures.left += 1;
        around.recorder.event(around.now, What::Left { backend, attempt });
    }

    /// A worker has served a call.
    pub(crate) fn serve(&mut self, slot: usize, around: &mut Around<'_>, wakers: &mut Vec<Waker>) {
        let now = around.now;
        self.figures(now);
        let swallowed = self.spec.hanging.holds(now);
        let backend = self.number;
        let job = self.job(slot);
        let Stage::Serving { since, fails, .. } = job.stage else {
            unreachable!("a call that nobody serves")
        };
        let (attempt, wasted) = (job.attempt, !job.caller_waits);
        let answer = Answer::new(attempt, since - job.arrived, now - since);
        let outcome = if fails { Err(BackendError::Failed) } else { Ok(answer) };
        self.figures.served += 1;
        self.figures.failed += u64::from(fails);
        self.figures.wasted += u64::from(wasted);
        if wasted {
            around.recorder.wasted(now);
        }
        around.recorder.event(now, What::Served { backend, attempt, wasted });
        self.end(slot, if swallowed { Stage::Lost } else { Stage::Done(outcome) }, now, wakers);
        self.busy -= 1;
        self.start_next(around);
    }

    /// An outage begins.
    pub(crate) fn refuse_all(&mut self, around: &mut Around<'_>, wakers: &mut Vec<Waker>) {
        let now = around.now;
        self.figures(now);
        for slot in self.jobs.occupied().collect::<Vec<_>>() {
            let backend = self.number;
            let job = self.job(slot);
            match job.stage {
                Stage::Done(_) => continue,
                Stage::Serving { end, .. } => around.agenda.cancel(end),
                Stage::Queued | Stage::Lost => {}
            }
            let attempt = job.attempt;
            self.figures.refused += 1;
            around.recorder.event(now, What::Refused { backend, attempt });
            self.end(slot, Stage::Done(Err(BackendError::Refused)), now, wakers);
        }
        self.busy = 0;
        self.queue.clear();
    }

    fn job(&mut self, slot: usize) -> &mut Job {
        self.jobs.get_mut(slot).expect("a call's number is its own until it ends")
    }

    /// The call has left the backend; its caller, if he is there, will ask for the outcome.
    fn end(&mut self, slot: usize, stage: Stage, now: Nanos, wakers: &mut Vec<Waker>) {
        let job = self.job(slot);
        let (arrived, was_inside) = (job.arrived, !matches!(job.stage, Stage::Lost));
        if matches!(stage, Stage::Done(_)) {
            wakers.extend(job.waker.take());
        }
        job.stage = stage;
        if !job.caller_waits {
            self.jobs.remove(slot);
        }
        if was_inside {
            self.count_departure(arrived, now);
        }
    }

    /// The call has left the backend, and nobody will ask.
    fn depart(&mut self, slot: usize, now: Nanos) {
        if let Some(job) = self.jobs.remove(slot) {
            self.count_departure(job.arrived, now);
        }
    }

    fn count_departure(&mut self, arrived: Nanos, now: Nanos) {
        self.figures.departed += 1;
        self.figures.stayed += u128::from(now - arrived);
    }

    fn start_next(&mut self, around: &mut Around<'_>) {
        let skips = self.spec.when_caller_leaves == WhenCallerLeaves::SkipQueued;
        while let Some((_, slot)) = self.queue.pop_first() {
            if skips && !self.job(slot).caller_waits {
                self.depart(slot, around.now);
            } else {
                return self.start(slot, around);
            }
        }
    }

    fn start(&mut self, slot: usize, around: &mut Around<'_>) {
        let now = around.now;
        self.busy += 1;
        let load = Load { workers: self.spec.workers, busy: self.busy, queued: self.queue.len() };
        let factor = self.spec.slow.at(now).fold(None, |largest: Option<f64>, factor| {
            Some(largest.map_or(factor, |largest| largest.max(factor)))
        });
        let factor =
            factor.unwrap_or(1.0) * self.spec.slowdown.as_ref().map_or(1.0, |slowdown| slowdown(load));
        let drawn = self.spec.service_time.draw(&mut self.rng);
        // A cast of floats saturates, and takes what is no number for zero.
        let takes = if factor == 1.0 { drawn } else { (drawn as f64 * factor) as Nanos };
        let share = self.spec.failing.at(now).fold(0.0, f64::max);
        let fails = share > 0.0 && self.rng.f64() < share;

        let end = now.saturating_add(takes);
        let end = around.agenda.push(end, Action::Serve { backend: self.number, job: slot });
        let backend = self.number;
        let job = self.job(slot);
        let (attempt, arrived) = (job.attempt, job.arrived);
        job.stage = Stage::Serving { since: now, end, fails };
        self.figures.started += 1;
        self.figures.waited += u128::from(now - arrived);
        around.recorder.event(now, What::Started { backend, attempt });
    }
}

impl Answer {
    fn new(number: u64, queued: Nanos, served: Nanos) -> Self {
        Self { number, queued: Duration::from_nanos(queued), served: Duration::from_nanos(served) }
    }
}
