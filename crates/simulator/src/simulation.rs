use std::{
    borrow::Cow,
    error::Error,
    fmt,
    panic::resume_unwind,
    sync::{Arc, PoisonError},
    thread,
    time::Duration,
};

use buttress_core::BoxError;
use tokio::runtime;
use tower_service::Service;

use crate::{
    Call, Callers, Event, Report, Stalled, World,
    call::{Kind, kind_of},
    driver::{self, Driver, End, Hook},
    nanos::from_duration,
    recorder::{OnEvent, Recorder},
    seed::{self, Stream},
    state::{Shared, State},
};

/// A stack under load, in virtual time. See the [crate's documentation](crate).
#[derive(Clone)]
pub struct Simulation {
    duration: Duration,
    interval: Duration,
    seed: u64,
    callers: Vec<Callers>,
    kind: Kind,
    on_event: Option<OnEvent>,
}

impl Simulation {
    /// A simulation of that length, without callers. Calls that have begun when it is over are awaited.
    ///
    /// Its seed is what the environment variable `BUTTRESS_SIMULATION_SEED` says, or 0.
    ///
    /// # Panics
    /// Where the length is zero, or the variable is no number.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        assert!(!duration.is_zero(), "a simulation takes some time");
        Self {
            duration,
            interval: Duration::from_secs(1),
            seed: seed::from_environment().unwrap_or(0),
            callers: Vec::new(),
            kind: Arc::new(kind_of),
            on_event: None,
        }
    }

    /// The seed, whatever the environment says.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Callers, beside those that it has.
    #[must_use]
    pub fn callers(mut self, callers: Callers) -> Self {
        self.callers.push(callers);
        self
    }

    /// How long a [`Sample`](crate::Sample) is: the resolution of the report, and a line of its chart. Default: 1 s.
    ///
    /// # Panics
    /// Where it is zero.
    #[must_use]
    pub fn sampling(mut self, interval: Duration) -> Self {
        assert!(!interval.is_zero(), "samples take some time");
        self.interval = interval;
        self
    }

    /// What kind of failure an error is, for the report. Default: the reason of a
    /// [`Rejected`](buttress_core::Rejected) or the word of a [`BackendError`](crate::BackendError) in its chain of
    /// sources, else what it displays. The first 32 kinds are told apart.
    #[must_use]
    pub fn kinds(
        mut self,
        kind: impl Fn(&(dyn Error + 'static)) -> Cow<'static, str> + Send + Sync + 'static,
    ) -> Self {
        self.kind = Arc::new(kind);
        self
    }

    /// Tells each event to the function, to see what a seed does in every detail. It must not touch the
    /// [`World`] or a backend.
    #[must_use]
    pub fn on_event(mut self, tell: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(tell));
        self
    }

    /// Builds a stack and lets the callers call it. Each call goes to a clone of the stack, as axum and others do it:
    /// what is to be shared must be shared by clones.
    ///
    /// It runs on a thread of its own, with a tokio runtime of its own whose clock is virtual: in any test, also in one
    /// that is a tokio test, and with the thread's `fastrand` generator seeded. The stack is built inside of that runtime.
    /// Only what waits for tokio's timers or for a backend of the [`World`] makes sense inside: no sockets, no blocking
    /// tasks.
    ///
    /// # Errors
    /// [`Stalled`] where calls are in flight that nothing will ever end, or that go round without letting time pass.
    ///
    /// # Panics
    /// With the stack's own panic.
    pub fn run<S, F>(&self, build: F) -> Result<Report, Stalled>
    where
        F: FnOnce(&World) -> S + Send,
        S: Service<Call> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Into<BoxError> + Send,
        S::Future: Send,
    {
        let replay = seed::replay_hint(self.seed);
        let mut builder = thread::Builder::new();
        // So that panics are told as the test's.
        if let Some(name) = thread::current().name() {
            builder = builder.name(name.to_owned());
        }
        let joined = thread::scope(|scope| {
            let run = || self.run_here(build, replay);
            builder.spawn_scoped(scope, run).expect("the system gives a thread").join()
        });
        joined.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn run_here<S, F>(&self, build: F, replay: String) -> Result<Report, Stalled>
    where
        F: FnOnce(&World) -> S,
        S: Service<Call> + Clone + Send + 'static,
        S::Response: Send,
        S::Error: Into<BoxError> + Send,
        S::Future: Send,
    {
        let hook = Hook::default();
        let parking = hook.clone();
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || parking.run())
            .build()
            .expect("a runtime without I/O needs nothing of the system");
        let seed_layers = || fastrand::seed(Stream::Layers.seed(self.seed));
        seed_layers();
        runtime.block_on(async {
            let recorder = Recorder::new(self.duration, self.interval, self.on_event.clone());
            let (duration, interval) = (from_duration(self.duration), from_duration(self.interval));
            let state = State::new(self.seed, duration, interval, &self.callers, recorder);
            let shared = Arc::new(Shared::new(state));
            let stack = build(&World { shared: Arc::clone(&shared) });
            shared.with(State::begin);
            // Anew, so that how often layers took a chance when they were made does not matter: what they keep for the life of
            // the process they make once only.
            seed_layers();
            let mut driver = Driver::new(Arc::clone(&shared), stack, Arc::clone(&self.kind));
            hook.fill(move || driver.step());
            let end = driver::end(&shared).await;
            hook.empty();
            self.conclude(&end, &shared, replay)
        })
    }

    fn conclude(&self, end: &End, shared: &Shared, replay: String) -> Result<Report, Stalled> {
        let gauges = shared.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = gauges.iter().map(|(name, _)| name.clone()).collect();
        shared.with(|state| match end {
            End::Complete => Ok(Report::new(self.seed, self.duration, self.interval, replay, gauges, state)),
            End::Panicked => resume_unwind(state.panic.take().expect("what ended the run")),
            End::Spinning | End::StandingStill => Err(Stalled {
                at: if matches!(end, End::Spinning) { state.now() } else { state.progress() },
                calls: state.calls.len(),
                spinning: matches!(end, End::Spinning),
                replay,
            }),
        })
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("duration", &self.duration)
            .field("interval", &self.interval)
            .field("seed", &self.seed)
            .field("callers", &self.callers)
            .finish_non_exhaustive()
    }
}
