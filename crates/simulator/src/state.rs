use std::{
    any::Any,
    borrow::Cow,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::Instant;

use crate::{
    Backend, BackendFigures, Call, Callers,
    agenda::{Action, Agenda, Key},
    arrivals::Stream,
    backend::{Around, Server},
    callers::Source,
    driver::End,
    nanos::{Nanos, from_duration},
    recorder::Recorder,
    seed::Stream as Chance,
    slab::Slab,
};

/// How often tasks may be polled while no time passes, for each call in flight and in all, before that is taken for an
/// endless loop.
const MOST_POLLS: u64 = 100;
const MOST_POLLS_IN_ALL: u64 = 100_000;

type Gauge = Box<dyn FnMut() -> f64 + Send>;

/// What the driver, the tasks of the calls and the backends share. They all run on one thread, so the locks are never
/// waited for.
pub(crate) struct Shared {
    /// Outside of the state, since gauges are the user's code.
    pub(crate) gauges: Mutex<Vec<(String, Gauge)>>,
    state: Mutex<State>,
    start: Instant,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self { gauges: Mutex::default(), state: Mutex::new(state), start: Instant::now() }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        state.now = self.now();
        change(&mut state)
    }

    /// A panic of the user's code under the lock is on its way to the user already.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Nanos {
        from_duration(Instant::now() - self.start)
    }

    pub(crate) fn instant(&self, at: Nanos) -> Instant {
        self.start + Duration::from_nanos(at)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) agenda: Agenda,
    pub(crate) recorder: Recorder,
    pub(crate) servers: Vec<Server>,
    pub(crate) calls: Slab<Ongoing>,
    pub(crate) panic: Option<Box<dyn Any + Send>>,
    /// How the run ended, until it is asked for, and who asks.
    end: Option<End>,
    waiter: Option<Waker>,
    /// When a call began or ended for the last time.
    pub(crate) progress: Nanos,
    pub(crate) duration: Nanos,
    /// Whether the last sample has been taken.
    is_sampled: bool,
    populations: Vec<Population>,
    interval: Nanos,
    seed: u64,
    now: Nanos,
    next_call: u64,
    /// How often tasks were polled at the instant that is named.
    polls: u64,
    polled: Nanos,
}

#[derive(Debug)]
struct Population {
    spec: Callers,
    arrivals: Option<Stream>,
    rng: Rng,
}

/// A call that has not ended.
#[derive(Debug)]
pub(crate) struct Ongoing {
    call: u64,
    population: usize,
    offered: Nanos,
    attempt: u32,
    waker: Option<Waker>,
    /// What the task waits for beside the stack has come: the end of patience, or of the pause before the next try.
    due: bool,
    alarm: Option<Key>,
}

/// What the driver has to do with no lock held.
#[derive(Debug)]
pub(crate) enum Task {
    Launch { slot: usize, call: Call },
    Sample { number: usize },
}

/// How a try ended.
pub(crate) enum Ended {
    Answered,
    Failed(Cow<'static, str>),
}

impl State {
    pub(crate) fn new(
        seed: u64,
        duration: Nanos,
        interval: Nanos,
        callers: &[Callers],
        recorder: Recorder,
    ) -> Self {
        let populations = callers.iter().enumerate().map(|(population, spec)| Population {
            spec: spec.clone(),
            arrivals: match &spec.source {
                Source::Open(arrivals) => Some(arrivals.stream(seed, population)),
                Source::Closed { .. } => None,
            },
            rng: Chance::Thinking { population }.rng(seed),
        });
        Self {
            agenda: Agenda::default(),
            recorder,
            servers: Vec::new(),
            calls: Slab::default(),
            panic: None,
            end: None,
            waiter: None,
            progress: 0,
            duration,
            is_sampled: false,
            populations: populations.collect(),
            interval,
            seed,
            now: 0,
            next_call: 0,
            polls: 0,
            polled: 0,
        }
    }

    pub(crate) fn add_backend(&mut self, spec: Backend) -> usize {
        let number = self.servers.len();
        let rng = Chance::Backend { number }.rng(self.seed);
        self.servers.push(Server::new(spec, number, rng, self.now, &mut self.agenda));
        number
    }

    pub(crate) fn backend(&mut self, number: usize) -> (&mut Server, Around<'_>) {
        let around = Around { now: self.now, agenda: &mut self.agenda, recorder: &mut self.recorder };
        (&mut self.servers[number], around)
    }

    pub(crate) fn begin(&mut self) {
        self.agenda.push(self.interval.min(self.duration), Action::Sample);
        for population in 0..self.populations.len() {
            match self.populations[population].spec.source {
                Source::Open(_) => self.expect_arrival(population),
                Source::Closed { callers, .. } => (0..callers).for_each(|_| self.think(population)),
            }
        }
    }

    /// At the end, when nothing is recorded any more.
    pub(crate) fn take_recorder(&mut self) -> Recorder {
        std::mem::replace(&mut self.recorder, Recorder::silent())
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    pub(crate) fn progress(&self) -> Duration {
        Duration::from_nanos(self.progress)
    }

    pub(crate) fn backend_figures(&mut self) -> Vec<BackendFigures> {
        self.servers.iter_mut().map(|server| BackendFigures::of(server, self.now)).collect()
    }

    fn expect_arrival(&mut self, population: usize) {
        let stream = self.populations[population].arrivals.as_mut();
        if let Some(at) = stream.and_then(Stream::next).filter(|&at| at < self.duration) {
            self.agenda.push(at, Action::Arrive { population });
        }
    }

    fn think(&mut self, population: usize) {
        let Population { spec, rng, .. } = &mut self.populations[population];
        if let Source::Closed { think, .. } = &spec.source {
            let at = self.now.saturating_add(think.draw(rng));
            if at < self.duration {
                self.agenda.push(at, Action::CallAgain { population });
            }
        }
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    pub(crate) fn panicked(&mut self, panic: Box<dyn Any + Send>) {
        self.panic.get_or_insert(panic);
        self.end(End::Panicked);
    }

    pub(crate) fn stand_still(&mut self) {
        self.end(End::StandingStill);
    }

    pub(crate) fn is_spinning(&self) -> bool {
        matches!(self.end, Some(End::Spinning))
    }

    /// Whether the run has ended, by itself or otherwise.
    pub(crate) fn settle(&mut self) -> bool {
        if self.is_sampled && self.calls.len() == 0 {
            self.end(End::Complete);
        }
        self.end.is_some()
    }

    pub(crate) fn await_end(&mut self, waker: &Waker) -> Poll<End> {
        match self.end.take() {
            Some(end) => Poll::Ready(end),
            None => {
                self.waiter = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    /// Does what is due. The wakers are to be woken with the state unlocked.
    pub(crate) fn act(&mut self, action: Action, wakers: &mut Vec<Waker>) -> Option<Task> {
        // A backend and callers that take no time could act for ever in one instant.
        self.count_poll();
        match action {
            Action::Arrive { population } => {
                self.expect_arrival(population);
                return Some(self.launch(population));
            }
            Action::CallAgain { population } => return Some(self.launch(population)),
            Action::LosePatience { slot } | Action::TryAgain { slot } => {
                let ongoing = self.calls.get_mut(slot).expect("the alarm of a call that ends is cancelled");
                ongoing.alarm = None;
                ongoing.due = true;
                wakers.extend(ongoing.waker.take());
            }
            Action::Serve { backend, job } => {
                let (server, mut around) = self.backend(backend);
                server.serve(job, &mut around, wakers);
            }
            Action::RefuseAll { backend } => {
                let (server, mut around) = self.backend(backend);
                server.refuse_all(&mut around, wakers);
            }
            Action::Sample => {
                let number = ((self.now - 1) / self.interval) as usize;
                self.sample(number);
                self.is_sampled = self.now >= self.duration;
                if !self.is_sampled {
                    self.agenda.push((self.now + self.interval).min(self.duration), Action::Sample);
                }
                return Some(Task::Sample { number });
            }
        }
        None
    }

    fn sample(&mut self, number: usize) {
        let sample = &mut self.recorder.samples[number];
        for server in &mut self.servers {
            let (queued, in_flight) = (server.queued(), server.in_flight());
            let figures = server.figures(self.now);
            sample.queue += std::mem::replace(&mut figures.recent_queue, queued);
            sample.in_flight += std::mem::replace(&mut figures.recent_in_flight, in_flight);
        }
    }

    fn launch(&mut self, population: usize) -> Task {
        let call = Call { number: self.next_call, population, attempt: 0 };
        self.next_call += 1;
        self.progress = self.now;
        let slot = self.calls.insert(Ongoing {
            call: call.number,
            population,
            offered: self.now,
            attempt: 0,
            waker: None,
            due: false,
            alarm: None,
        });
        self.begin_try(slot);
        Task::Launch { slot, call }
    }

    pub(crate) fn tries(&self, population: usize) -> u32 {
        self.populations[population].spec.tries
    }

    pub(crate) fn begin_try(&mut self, slot: usize) {
        let ongoing = self.calls.get_mut(slot).expect("a task tries its own call");
        ongoing.due = false;
        let patience = from_duration(self.populations[ongoing.population].spec.patience);
        ongoing.alarm = (patience < Nanos::MAX - self.now)
            .then(|| self.agenda.push(self.now + patience, Action::LosePatience { slot }));
        self.recorder.called(self.now, ongoing.call, ongoing.attempt);
    }

    /// Whether what a task waits for beside the stack is due. Otherwise its waker will be woken then.
    pub(crate) fn wait(&mut self, slot: usize, waker: &Waker) -> Poll<()> {
        self.count_poll();
        let ongoing = self.calls.get_mut(slot).expect("a task waits for its own call");
        if ongoing.due {
            return Poll::Ready(());
        }
        match &mut ongoing.waker {
            Some(present) => present.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Poll::Pending
    }

    fn count_poll(&mut self) {
        if self.polled != self.now {
            (self.polled, self.polls) = (self.now, 0);
        }
        self.polls += 1;
        if self.polls > MOST_POLLS_IN_ALL + MOST_POLLS * self.calls.len() as u64 {
            self.end(End::Spinning);
        }
    }

    /// A try has ended. Whether the caller will try again; then he is due after his pause.
    pub(crate) fn end_try(&mut self, slot: usize, ended: &Ended) -> bool {
        let now = self.now;
        let ongoing = self.calls.get_mut(slot).expect("a task ends its own call");
        if let Some(alarm) = ongoing.alarm.take() {
            self.agenda.cancel(alarm);
        }
        let Population { spec, rng, .. } = &mut self.populations[ongoing.population];
        match ended {
            Ended::Answered => self.recorder.answered(now, ongoing.call, ongoing.offered),
            Ended::Failed(kind) => {
                self.recorder.failed(now, ongoing.call, kind);
                ongoing.attempt += 1;
                if ongoing.attempt < spec.tries {
                    ongoing.due = false;
                    ongoing.waker = None;
                    let at = now.saturating_add(spec.pause.draw(rng));
                    ongoing.alarm = Some(self.agenda.push(at, Action::TryAgain { slot }));
                    return true;
                }
            }
        }
        let population = ongoing.population;
        self.calls.remove(slot);
        self.progress = now;
        self.think(population);
        false
    }
}
