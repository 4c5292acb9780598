use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use buttress_cache::Invalidations;
use fred::{
    clients::Client,
    interfaces::{ClientLike, EventInterface},
    types::config::Server,
};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::TryRecvError},
    },
    time::{Instant, timeout},
};

use crate::cache::{
    StoreError,
    answer::Era,
    eras::{Eras, Heard},
    stats::{Counters, count},
    telling::Telling,
    waiters::Waiters,
};

/// For how long a cache leaves a store alone that failed. What it loads meanwhile is not known to Redis.
const REST: Duration = Duration::from_secs(1);

/// What is known of the connection, and who is to hear what it tells.
///
/// Connections are counted. A value is handed out only by a connection of which is known, before it is asked and after, that
/// Redis tells it of what others write ([`telling`](Self::telling)). When it does, all memory of before is forgotten.
pub(super) struct Link<K> {
    pub(super) client: Client,
    made: Mutex<Made>,
    telling: Telling,
    eras: Eras,
    /// Rung when the era has moved on.
    pub(super) moved: Notify,
    failed: Mutex<Option<Instant>>,
    pub(super) waiters: Arc<Waiters>,
    heard: Mutex<Option<Invalidations<K>>>,
    pub(super) counters: Arc<Counters>,
}

struct Made {
    events: broadcast::Receiver<Server>,
    count: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K> Link<K> {
    pub(super) fn new(client: Client) -> Self {
        let events = client.reconnect_rx();
        let count = u64::from(client.is_connected());
        let counters = Arc::new(Counters::new(client.clone()));
        Self {
            client,
            made: Mutex::new(Made { events, count }),
            telling: Telling::default(),
            eras: Eras::default(),
            moved: Notify::new(),
            failed: Mutex::default(),
            waiters: Arc::default(),
            heard: Mutex::default(),
            counters,
        }
    }

    pub(super) fn attach(&self, invalidations: Invalidations<K>) {
        *lock(&self.heard) = Some(invalidations);
    }

    /// The number of the connection. The driver tells of a new one before anything is answered on it.
    pub(super) fn connection(&self) -> u64 {
        let mut made = lock(&self.made);
        loop {
            match made.events.try_recv() {
                Ok(_) => made.count += 1,
                Err(TryRecvError::Lagged(missed)) => made.count += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if made.count == 0 && self.client.is_connected() {
            // It was made before anybody listened.
            made.count = 1;
        }
        made.count
    }

    /// Whether there is a connection, though none may tell yet.
    pub(super) fn is_up(&self) -> bool {
        let connection = self.connection();
        connection > 0 && (self.client.is_connected() || !self.telling.is_lost(connection))
    }

    /// The connection, if Redis tells it of what others write.
    pub(super) fn telling(&self) -> Option<u64> {
        let connection = self.connection();
        self.telling.is(connection).then_some(connection)
    }

    /// The same. While that is being arranged, waits for it.
    pub(super) async fn wait_until_telling(&self, limit: Duration) -> Result<u64, StoreError> {
        if let Some(connection) = self.telling() {
            return Ok(connection);
        }
        if self.is_up() {
            // Whether in time or not is asked below.
            let _ = timeout(limit, self.telling.wait(|| self.connection())).await;
        }
        self.telling().ok_or(StoreError::Untold)
    }

    /// From now on Redis tells that connection.
    pub(super) fn tells(&self, connection: u64) {
        self.telling.begins(connection, || lock(&self.failed).is_none(), || self.forget_all());
    }

    /// Whoever waits asks again, and finds out.
    pub(super) fn is_lost(&self) {
        self.telling.ends(self.connection());
        self.waiters.wake_all();
    }

    /// Of an answer, which may be older than others that were heard of: where a later era has begun than was known, whatever is
    /// in memory may be wrong.
    pub(super) fn note(&self, era: Era) {
        match self.eras.note(era) {
            Heard::Nothing => {}
            Heard::Forget => self.forget_all(),
            Heard::Ask => self.moved.notify_one(),
        }
    }

    pub(super) fn era(&self) -> Option<Era> {
        self.eras.known()
    }

    /// What was invalidated since the era that was known when that was asked: these tags, or nobody knows.
    pub(super) fn catch_up(&self, asked: Option<Era>, era: Era, tags: Option<&[String]>) {
        if !self.eras.catch_up(asked, era) {
            self.moved.notify_one();
            return;
        }
        match tags {
            Some(tags) => tags.iter().for_each(|tag| self.forget_tag(tag)),
            None if asked.is_some() => self.forget_all(),
            None => {}
        }
    }

    /// This process has itself begun that era, and forgotten everything.
    pub(super) fn began(&self, era: Era) {
        self.eras.began(era);
    }

    pub(super) fn forget(&self, key: &K) {
        self.tell(|heard| heard.key(key));
    }

    pub(super) fn forget_tag(&self, tag: &str) {
        self.tell(|heard| heard.tag(tag));
    }

    pub(super) fn forget_all(&self) {
        count(&self.counters.flushes);
        self.tell(Invalidations::all);
    }

    fn tell(&self, tell: impl FnOnce(&Invalidations<K>)) {
        let Some(heard) = lock(&self.heard).clone() else { return };
        // The user's functions are called, and it may be that a future is dropped, or a panic on its way already.
        if catch_unwind(AssertUnwindSafe(|| tell(&heard))).is_err() {
            count(&self.counters.flushes);
            let _ = catch_unwind(AssertUnwindSafe(|| heard.all()));
        }
    }

    /// The store failed: the cache loads without it for a while.
    pub(super) fn failed(&self) {
        *lock(&self.failed) = Some(Instant::now());
    }

    /// It did not. What the cache loaded without it is forgotten, since Redis does not tell of it.
    pub(super) fn succeeded(&self) {
        self.succeeded_after(REST);
    }

    /// The same, where it was not the cache that asked: it may leave the store alone for a little longer.
    pub(super) fn succeeded_late(&self) {
        self.succeeded_after(REST + REST / 4);
    }

    fn succeeded_after(&self, rest: Duration) {
        let mut failed = lock(&self.failed);
        if failed.is_some_and(|at| at.elapsed() >= rest) {
            *failed = None;
            drop(failed);
            self.forget_all();
        }
    }
}
