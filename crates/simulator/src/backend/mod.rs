mod figures;
mod schedule;
mod server;
mod service;

use std::{fmt, ops::RangeBounds, sync::Arc, time::Duration};

use self::schedule::Schedule;
pub use self::service::{Answer, Answering, BackendService};
pub(crate) use self::{
    figures::Figures,
    schedule::Span,
    server::{Around, Server},
};
use crate::Durations;

/// A model of a server: workers that serve one call each at a time, and a queue before them, first come, first served.
///
/// [`World::backend`](crate::World::backend) makes a `Service` of it.
///
/// ```
/// use std::time::Duration;
/// use buttress_simulator::{Backend, Durations, WhenCallerLeaves};
///
/// const MS: Duration = Duration::from_millis(1);
/// let orders = Backend::workers(16)
///     .name("orders")
///     .service_time(Durations::lognormal(20 * MS, 200 * MS))
///     .queue(1000)
///     // Each hundred that wait cost a tenth more work: memory, lock contention, connections.
///     .slowdown(|load| 1.0 + load.queued as f64 / 1000.0)
///     .when_caller_leaves(WhenCallerLeaves::SkipQueued)
///     .failing(0.01, ..)
///     .slow(3.0, 30_000 * MS..40_000 * MS);
/// # let _ = orders;
/// ```
#[derive(Clone)]
pub struct Backend {
    name: String,
    workers: usize,
    queue: usize,
    service_time: Durations,
    slowdown: Option<Arc<Slowdown>>,
    when_caller_leaves: WhenCallerLeaves,
    failing: Schedule<f64>,
    slow: Schedule<f64>,
    refusing: Schedule<()>,
    hanging: Schedule<()>,
}

type Slowdown = dyn Fn(Load) -> f64 + Send + Sync;

/// What a backend has to do at the moment when a worker begins to serve a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// How many workers there are.
    pub workers: usize,
    /// How many of them serve a call, the one that begins included.
    pub busy: usize,
    /// How many calls wait.
    pub queued: usize,
}

/// What a backend does with a call whose caller does not wait any longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenCallerLeaves {
    /// It serves the call as any other, for nobody. So do most servers: they do not look whether anybody still
    /// listens.
    #[default]
    WorkOn,
    /// The call keeps its place in the queue; when its turn comes it is thrown away. One that is being served goes on.
    SkipQueued,
    /// The call leaves the queue, or its worker, at once.
    Stop,
}

impl Backend {
    /// A backend with that many workers, an exponential service time with a mean of 10 ms, and a queue without a limit.
    ///
    /// # Panics
    /// Where there are none.
    #[must_use]
    pub fn workers(workers: usize) -> Self {
        assert!(workers > 0, "a backend without workers serves nobody");
        Self {
            name: "backend".to_owned(),
            workers,
            queue: usize::MAX,
            service_time: Durations::exponential(Duration::from_millis(10)),
            slowdown: None,
            when_caller_leaves: WhenCallerLeaves::default(),
            failing: Schedule::default(),
            slow: Schedule::default(),
            refusing: Schedule::default(),
            hanging: Schedule::default(),
        }
    }

    /// What reports call it. Default: `backend`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How long a worker takes for a call, when nothing slows it down. Exact to the nanosecond: unlike tokio's timers it
    /// is not rounded.
    #[must_use]
    pub fn service_time(mut self, durations: Durations) -> Self {
        self.service_time = durations;
        self
    }

    /// How many calls may wait for a worker. One more is refused at once, with
    /// [`QueueFull`](crate::BackendError::QueueFull). Default: any number.
    #[must_use]
    pub fn queue(mut self, at_most: usize) -> Self {
        self.queue = at_most;
        self
    }

    /// The capacity curve: how many times as long a call takes under a load. It is asked when a worker begins with a
    /// call. What is negative or no number counts as zero. Default: no load slows anything down.
    ///
    /// Some that are met: `1.0 + queued / 1000.0` (what waits costs memory and locks); the universal scalability law,
    /// `1.0 + a * (n - 1.0) + b * n * (n - 1.0)` for `n` busy workers.
    #[must_use]
    pub fn slowdown(mut self, factor: impl Fn(Load) -> f64 + Send + Sync + 'static) -> Self {
        self.slowdown = Some(Arc::new(factor));
        self
    }

    /// What becomes of a call whose caller leaves. Default: the backend works on.
    #[must_use]
    pub fn when_caller_leaves(mut self, what: WhenCallerLeaves) -> Self {
        self.when_caller_leaves = what;
        self
    }

    /// For that time, this share of what begins to be served fails after it was served, by chance. Of several shares at
    /// one time, the largest counts.
    ///
    /// # Panics
    /// Where the share is not within 0 and 1.
    #[must_use]
    pub fn failing(mut self, share: f64, when: impl RangeBounds<Duration>) -> Self {
        assert!((0.0..=1.0).contains(&share), "a share of {share}");
        self.failing.add(Span::of(&when), share);
        self
    }

    /// For that time, whatever begins to be served takes so many times as long. Of several factors at one time, the
    /// largest counts.
    ///
    /// # Panics
    /// Where the factor is negative or no number.
    #[must_use]
    pub fn slow(mut self, factor: f64, when: impl RangeBounds<Duration>) -> Self {
        assert!(factor >= 0.0, "a factor of {factor}");
        self.slow.add(Span::of(&when), factor);
        self
    }

    /// For that time the process is not there: it takes down all that it was doing, and refuses calls at once. What
    /// callers get is [`Refused`](crate::BackendError::Refused).
    #[must_use]
    pub fn refusing(mut self, when: impl RangeBounds<Duration>) -> Self {
        self.refusing.add(Span::of(&when), ());
        self
    }

    /// For that time the network swallows everything: calls that come, and answers that are ready. Nobody ever hears of
    /// them again.
    #[must_use]
    pub fn hanging(mut self, when: impl RangeBounds<Duration>) -> Self {
        self.hanging.add(Span::of(&when), ());
        self
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .field("queue", &self.queue)
            .field("service_time", &self.service_time)
            .field("when_caller_leaves", &self.when_caller_leaves)
            .field("failing", &self.failing)
            .field("slow", &self.slow)
            .field("refusing", &self.refusing)
            .field("hanging", &self.hanging)
            .finish_non_exhaustive()
    }
}
