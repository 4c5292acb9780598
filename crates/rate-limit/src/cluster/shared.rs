use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use buttress_core::{Origin, Reason, Rejected};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    Limit, clock,
    cluster::{
        Ask, Node, Subject, WhenAway,
        desk::Desk,
        keys::Keys,
        lease::{Crowd, Plan},
        purse::Local,
        roll::Roll,
        wait::Wait,
    },
    sync::{Mutex, lock},
};

/// What the handles of one limiter and the task that speaks with its store share.
pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) name: Arc<str>,
    pub(crate) limits: Arc<[Limit]>,
    pub(crate) plan: Plan,
    pub(crate) when_away: WhenAway,
    pub(crate) timeout: Duration,
    pub(crate) node: u64,
    /// Of the limiter itself.
    pub(crate) desk: Arc<Desk>,
    pub(crate) keys: Keys,
    /// While the store is away all keys that there is no room for share this one's part.
    crowded_out: Desk,
    /// How many callers wait.
    pub(crate) waiting: AtomicUsize,
    /// While the store is away: when it is asked again. Else zero.
    pub(crate) probe_at: AtomicU64,
    /// Somebody was decided without the store since it was last asked.
    pub(crate) is_wanted: AtomicBool,
    pub(crate) is_closing: AtomicBool,
    /// When the worker last looked around.
    beat: AtomicU64,
    pub(crate) bell: Notify,
    queue: Mutex<Queue>,
    roll: Mutex<Roll>,
    pub(crate) counts: Counts,
    spawn: Spawn,
}

/// Starts a worker of that number.
pub(crate) type Spawn = Box<dyn Fn(Arc<Shared>, u64) + Send + Sync>;

#[derive(Debug, Default)]
struct Queue {
    /// Desks to be looked at.
    due: Vec<Arc<Desk>>,
    /// The number of the worker that is there.
    worker: Option<u64>,
    workers: u64,
}

/// What only grows.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) asks: AtomicU64,
    pub(crate) round_trips: AtomicU64,
    pub(crate) absences: AtomicU64,
    /// Units that callers took from leases, as far as they have been counted.
    pub(crate) from_leases: AtomicU64,
    pub(crate) alone: AtomicU64,
}

/// What becomes of a call.
#[derive(Debug)]
pub(crate) enum Step {
    Admitted,
    Refused(Rejected),
    Wait(Pin<Box<Wait>>),
}

/// What a limiter is made of.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) origin: Origin,
    pub(crate) limits: Vec<Limit>,
    pub(crate) leases: bool,
    pub(crate) when_away: WhenAway,
    pub(crate) timeout: Duration,
    pub(crate) capacity: usize,
    /// A random one where there is none.
    pub(crate) node: Option<u64>,
}

impl Shared {
    /// So many callers wait at most.
    pub(crate) const MOST_WAITING: usize = 65_536;
    /// A probe that is so late does not come any more.
    const LATE: u64 = 500_000_000;

    pub(crate) fn new(settings: Settings, stripes: usize, spawn: Spawn) -> Self {
        let Settings { origin, limits, leases, when_away, timeout, capacity, node } = settings;
        let name: Arc<str> = origin.name().into();
        Self {
            origin,
            plan: Plan::new(&limits, leases),
            limits: limits.into(),
            when_away,
            timeout,
            node: node.unwrap_or_else(|| RandomState::new().hash_one(origin.name())),
            desk: Arc::new(Desk::new(Subject::of(Arc::clone(&name)), stripes, true)),
            keys: Keys::new(capacity),
            crowded_out: Desk::new(Subject::of(Arc::clone(&name)), 1, true),
            name,
            waiting: AtomicUsize::new(0),
            probe_at: AtomicU64::new(0),
            is_wanted: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            beat: AtomicU64::new(0),
            bell: Notify::new(),
            queue: Mutex::default(),
            roll: Mutex::default(),
            counts: Counts::default(),
            spawn,
        }
    }

    /// The key's desk; one for this call alone where there is no room.
    pub(crate) fn desk_of(&self, key: &[u8]) -> Arc<Desk> {
        let subject = |key| Subject::of_key(Arc::clone(&self.name), key);
        self.keys
            .desk(key, |key| Desk::new(subject(key), 1, true))
            .unwrap_or_else(|| Arc::new(Desk::new(subject(key.into()), 1, false)))
    }

    /// What follows from what the desk said.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where the caller has to wait.
    #[inline(always)]
    pub(crate) fn step(self: &Arc<Self>, desk: &Arc<Desk>, units: u32, local: Local, now: u64) -> Step {
        if local == Local::Admitted { Step::Admitted } else { self.other_step(desk, units, local, now) }
    }

    #[inline(never)]
    fn other_step(self: &Arc<Self>, desk: &Arc<Desk>, units: u32, local: Local, now: u64) -> Step {
        match local {
            Local::Admitted => return Step::Admitted,
            Local::AdmittedAndLow => {
                self.ring(desk);
                return Step::Admitted;
            }
            Local::Refused(wait) => return Step::Refused(self.refuse(Some(wait))),
            Local::Unknown => {}
        }
        if units == 0 {
            return Step::Admitted;
        }
        if units > self.plan.most_at_once {
            return Step::Refused(self.refuse(None));
        }
        let probe_at = self.probe_at.load(Relaxed);
        if probe_at != 0 {
            self.want_it_back(probe_at, now);
            return match self.decide_alone(desk, units) {
                Ok(()) => Step::Admitted,
                Err(rejected) => Step::Refused(rejected),
            };
        }
        match Wait::begin(self, desk, units) {
            Ok(wait) => Step::Wait(wait),
            Err(rejected) => Step::Refused(rejected),
        }
    }

    /// The rate limit is reached, for so many nanoseconds.
    pub(crate) fn refuse(&self, after: Option<u64>) -> Rejected {
        let rejected = self.origin.reject(Reason::RateLimited);
        match after {
            Some(after) => rejected.with_retry_after(Duration::from_nanos(after)),
            None => rejected,
        }
    }

    /// Decides by policy, without the store.
    pub(crate) fn decide_alone(&self, desk: &Desk, units: u32) -> Result<(), Rejected> {
        self.counts.alone.fetch_add(1, Relaxed);
        let now = clock::now();
        match self.when_away {
            WhenAway::FailOpen => Ok(()),
            WhenAway::FailClosed => {
                let after = match self.probe_at.load(Relaxed).saturating_sub(now) {
                    0 => self.timeout,
                    wait => Duration::from_nanos(wait),
                };
                Err(self.origin.reject(Reason::Overloaded).with_retry_after(after))
            }
            WhenAway::LocalShare => {
                let nodes = self.nodes();
                let desk = if desk.is_known { desk } else { &self.crowded_out };
                let mut slow = desk.slow();
                let taken = slow.share(&self.limits, nodes).take(units, nodes, now);
                drop(slow);
                taken.map_err(|wait| self.refuse(wait))
            }
        }
    }

    pub(crate) fn is_away(&self) -> bool {
        self.probe_at.load(Relaxed) != 0
    }

    /// Somebody had to be decided without the store.
    fn want_it_back(self: &Arc<Self>, probe_at: u64, now: u64) {
        if now > probe_at + Self::LATE + nanos(self.timeout) {
            self.replace_if_stuck(probe_at);
        }
        if !self.is_wanted.load(Relaxed) {
            self.is_wanted.store(true, Relaxed);
            self.bell.notify_one();
        }
    }

    /// Has a desk looked at. Outside of a runtime that may come to pass only when somebody calls inside of one.
    pub(crate) fn ring(self: &Arc<Self>, desk: &Arc<Desk>) {
        if mem::replace(&mut desk.slow().is_rung, true) {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.due.push(Arc::clone(desk));
        let is_there = queue.worker.is_some();
        drop(queue);
        self.bell.notify_one();
        if !is_there && Handle::try_current().is_ok() {
            self.start();
        }
    }

    /// Has all desks looked at.
    pub(crate) fn ring_all(self: &Arc<Self>) {
        self.keys.all().iter().chain([&self.desk]).for_each(|desk| self.ring(desk));
    }

    /// What is to be looked at.
    pub(crate) fn take_due(&self) -> Vec<Arc<Desk>> {
        let due = mem::take(&mut lock(&self.queue).due);
        due.iter().for_each(|desk| desk.slow().is_rung = false);
        due
    }

    pub(crate) fn has_due(&self) -> bool {
        !lock(&self.queue).due.is_empty()
    }

    /// Starts a worker unless there is one.
    ///
    /// # Panics
    /// If it has to, outside of a tokio runtime.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut queue = lock(&self.queue);
        if queue.worker.is_some() {
            return;
        }
        queue.workers += 1;
        let number = queue.workers;
        drop(Handle::current());
        queue.worker = Some(number);
        drop(queue);
        (self.spawn)(Arc::clone(self), number);
    }

    /// Whether that worker is the one; if so, it is alive.
    pub(crate) fn beat(&self, worker: u64) -> bool {
        let is_mine = lock(&self.queue).worker == Some(worker);
        if is_mine {
            self.beat.store(clock::now(), SeqCst);
        }
        is_mine
    }

    /// That worker is no more.
    pub(crate) fn leave(&self, worker: u64) {
        let mut queue = lock(&self.queue);
        if queue.worker == Some(worker) {
            queue.worker = None;
        }
    }

    /// Starts another worker if the one that is there has not looked around since then: the runtime that it runs on is not
    /// driven any more.
    pub(crate) fn replace_if_stuck(self: &Arc<Self>, since: u64) {
        if self.beat.load(SeqCst) < since && Handle::try_current().is_ok() {
            lock(&self.queue).worker = None;
            self.start();
        }
    }

    pub(crate) fn close(&self) {
        self.is_closing.store(true, SeqCst);
        self.bell.notify_one();
    }

    pub(crate) fn nodes(&self) -> u32 {
        lock(&self.roll).nodes()
    }

    pub(crate) fn crowd(&self, now: u64) -> Crowd {
        lock(&self.roll).crowd(&self.plan, now)
    }

    /// Whether the store counts this node.
    pub(crate) fn is_known(&self) -> bool {
        self.crowd(clock::now()) != Crowd::Unknown
    }

    pub(crate) fn roll<R>(&self, with: impl FnOnce(&mut Roll) -> R) -> R {
        with(&mut lock(&self.roll))
    }

    /// Whom to tell the store of, if it is time; for no longer, where this one goes.
    pub(crate) fn present(&self, now: u64) -> Option<Node> {
        let is_closing = self.is_closing.load(SeqCst);
        let lease = if is_closing { 0 } else { self.plan.presence() };
        let node = Node { id: self.node, lease: Duration::from_nanos(lease) };
        (is_closing || lock(&self.roll).is_due(&self.plan, now)).then_some(node)
    }

    pub(crate) fn ask(&self, desk: &Desk, least: u32, most: u32, returned: u32) -> Ask {
        let (subject, limits) = (desk.subject.clone(), Arc::clone(&self.limits));
        Ask { subject, limits, least, most, returned, node: None }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("origin", &self.origin).finish_non_exhaustive()
    }
}
