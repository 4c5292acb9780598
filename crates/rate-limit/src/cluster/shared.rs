mod step;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    sync::{
        Arc, Once,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use buttress_core::{Origin, Rejected};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    Limit, clock,
    cluster::{
        Ask, Node, Subject, WhenAway,
        callers::Callers,
        desk::Desk,
        keys::Keys,
        lease::{Crowd, Plan},
        queue::Queue,
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
    pub(crate) callers: Callers,
    /// While the store is away: when it is asked again. Else zero.
    pub(crate) probe_at: AtomicU64,
    /// Somebody was decided without the store since it was last asked.
    pub(crate) is_wanted: AtomicBool,
    /// What was granted before is not given back: the store was away since, and may have forgotten it.
    pub(crate) returns_since: AtomicU64,
    /// When the worker last looked around.
    beat: AtomicU64,
    pub(crate) bell: Notify,
    /// Desks to be looked at, and the worker that does it.
    pub(crate) queue: Queue<Arc<Desk>>,
    roll: Mutex<Roll>,
    pub(crate) counts: Counts,
    spawn: Spawn,
    warned: Once,
}

/// Starts a worker of that number.
pub(crate) type Spawn = Box<dyn Fn(Arc<Shared>, u64) + Send + Sync>;

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
    /// Longer ones mean the same, and their ends could not be told.
    const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 86_400);
    /// A probe that is so late does not come any more.
    const LATE: u64 = 500_000_000;

    pub(crate) fn new(settings: Settings, stripes: usize, spawn: Spawn) -> Self {
        let Settings { origin, limits, leases, when_away, timeout, capacity, node } = settings;
        let name: Arc<str> = origin.name().into();
        // The first reading may calibrate a counter: no call should wait for that.
        let _ = clock::now();
        Self {
            origin,
            plan: Plan::new(&limits, leases),
            limits: limits.into(),
            when_away,
            timeout: timeout.min(Self::LONGEST_TIMEOUT),
            node: node.unwrap_or_else(|| RandomState::new().hash_one(origin.name())),
            desk: Arc::new(Desk::new(Subject::of(Arc::clone(&name)), stripes, true)),
            keys: Keys::new(capacity),
            crowded_out: Desk::new(Subject::of(Arc::clone(&name)), 1, true),
            name,
            callers: Callers::new(),
            probe_at: AtomicU64::new(0),
            is_wanted: AtomicBool::new(false),
            returns_since: AtomicU64::new(0),
            beat: AtomicU64::new(0),
            bell: Notify::new(),
            queue: Queue::new(),
            roll: Mutex::default(),
            counts: Counts::default(),
            spawn,
            warned: Once::new(),
        }
    }

    /// The key's desk; one for this call alone where there is no room.
    pub(crate) fn desk_of(&self, key: &[u8]) -> Arc<Desk> {
        let subject = |key| Subject::of_key(Arc::clone(&self.name), key);
        self.keys
            .desk(key, |key| Desk::new(subject(key), 1, true))
            .unwrap_or_else(|| Arc::new(Desk::new(subject(key.into()), 1, false)))
    }

    pub(crate) fn is_away(&self) -> bool {
        self.probe_at.load(Relaxed) != 0
    }

    /// Has a desk looked at. Outside of a runtime that may come to pass only when somebody calls inside of one.
    pub(crate) fn ring(self: &Arc<Self>, desk: &Arc<Desk>) {
        if !desk.slow().ring() {
            return;
        }
        let is_there = self.queue.push(Arc::clone(desk));
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
        let due = self.queue.take();
        due.iter().for_each(|desk| desk.slow().is_rung = false);
        due
    }

    /// Starts a worker unless there is one.
    ///
    /// # Panics
    /// If it has to, outside of a tokio runtime.
    pub(crate) fn start(self: &Arc<Self>) {
        if let Some(number) = self.queue.hire(|| drop(Handle::current())) {
            (self.spawn)(Arc::clone(self), number);
        }
    }

    /// Whether that worker is the one; if so, it is alive.
    pub(crate) fn beat(&self, worker: u64) -> bool {
        let is_mine = self.queue.is_worker(worker);
        if is_mine {
            self.beat.store(clock::now(), SeqCst);
        }
        is_mine
    }

    /// Starts another worker if the one that is there has not looked around since then: the runtime that it runs on is not
    /// driven any more.
    pub(crate) fn replace_if_stuck(self: &Arc<Self>, since: u64) {
        if self.beat.load(SeqCst) < since && Handle::try_current().is_ok() {
            self.queue.dismiss();
            self.start();
        }
    }

    pub(crate) fn close(&self) {
        self.callers.close();
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

    /// Whom to tell the store of, if it is time; for no longer, where this one goes. Where the limiter's own subject is
    /// asked for anyway, telling costs nothing.
    pub(crate) fn present(&self, now: u64, is_free: bool) -> Option<Node> {
        let is_closing = self.callers.is_closing();
        let lease = if is_closing { 0 } else { self.plan.presence() };
        let node = Node { id: self.node, lease: Duration::from_nanos(lease) };
        (is_closing || lock(&self.roll).is_due(&self.plan, now, is_free)).then_some(node)
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
