use std::{
    fmt::{self, Display},
    marker::PhantomData,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress_cache::{Entry, Invalidations, Store, Stored, Want};
use buttress_core::{BoxError, Origin};
use fred::interfaces::{EventInterface, TrackingInterface};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    Redis, RedisConfig,
    cache::{
        StoreError,
        ask::ARRANGED,
        keeper,
        keys::{Keys, LONGEST},
        lease::{AbortOnDrop, LONGEST as LONGEST_LEASE, Lease},
        link::Link,
        request::Runner,
        stats::{Knobs, StoreWatch, count},
    },
};

/// For how long a server is waited for at the start.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a cache's values in Redis, for several processes, and their memories coherent: see the crate's documentation.
///
/// Its tasks and its connection end when it is dropped: with its cache, where it was given to one. It is one cache's: a second
/// one that is built on it, by way of an `Arc` for example, panics.
pub struct RedisStore<K, V> {
    pub(super) link: Arc<Link<K>>,
    pub(super) runner: Runner,
    pub(super) handle: Handle,
    /// For how long it is waited until Redis tells a new connection.
    pub(super) arranged: Duration,
    origin: Origin,
    pub(super) version: u8,
    pub(super) lease: Duration,
    pub(super) limit: usize,
    tasks: Mutex<Vec<AbortOnDrop>>,
    values: PhantomData<fn() -> V>,
}

impl<K, V> RedisStore<K, V> {
    /// A store by a client of its own, of one connection, which reconnects within half a second, whatever the configuration
    /// says of both. It waits for the server for a second at most, or for the command timeout where that is longer,
    /// and goes on without: it keeps trying, and [`StoreWatch::is_connected`] tells.
    ///
    /// `name` is what all its keys in Redis begin with: whoever uses another type of keys or values needs another name.
    ///
    /// # Errors
    /// [`Cluster`](StoreError::Cluster) for the URL of a cluster; else as [`Redis::connect`] of a
    /// [lazy](RedisConfig::lazy) configuration.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(config: RedisConfig, name: &str) -> Result<Self, StoreError> {
        if config.is_clustered() {
            return Err(StoreError::Cluster);
        }
        let (first, cap) = (Duration::from_millis(50), Duration::from_millis(500));
        let mut config = config.with_reconnect(first, cap).with_pool_size(1).lazy();
        // A write of one's own is told by four.
        config.max_notifications = 2_048;
        let (patience, arranged) =
            (config.command_timeout.max(PATIENCE), config.command_timeout.min(ARRANGED));
        let origin = Origin::new("redis-cache", name);
        let redis = Redis::connect(config).await?;
        let client = redis.driver().clients()[0].clone();
        let mut made = client.reconnect_rx();
        let link = Arc::new(Link::new(client));
        if link.connection() == 0 {
            // It goes on in the background.
            let _ = timeout(patience, made.recv()).await;
        }
        Ok(Self {
            link,
            runner: Runner { redis, keys: Arc::new(Keys::new(name)) },
            handle: Handle::current(),
            arranged,
            origin,
            version: 0,
            lease: Duration::from_secs(5),
            limit: 1 << 20,
            tasks: Mutex::default(),
            values: PhantomData,
        })
    }

    /// The version of the values' type. What was stored with another one is a miss, and loaded anew: raise it when old values
    /// cannot be read any more, or mean something else. 0 by default.
    #[must_use]
    pub fn with_version(mut self, version: u8) -> Self {
        self.version = version;
        self
    }

    /// For how long a process that died keeps the others from loading what it was about to load. Those that live renew their
    /// leases, for a minute at most. 5 s by default; from 100 ms to a minute.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.clamp(Duration::from_millis(100), LONGEST_LEASE);
        self
    }

    /// The largest value that is stored, in bytes of its MessagePack. Larger ones are kept in memory only, and larger ones
    /// that are found are a miss. 1 MiB by default.
    #[must_use]
    pub fn with_max_value(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// The client that it uses, to be closed at the end, when the store itself is its cache's.
    #[must_use]
    pub fn client(&self) -> Redis {
        self.runner.redis.clone()
    }

    /// A handle to the figures, for when the store itself is its cache's.
    #[must_use]
    pub fn watch(&self) -> StoreWatch {
        StoreWatch {
            origin: self.origin,
            knobs: Knobs { version: self.version, lease: self.lease, limit: self.limit },
            counters: self.link.counters.clone(),
        }
    }
}

impl<K, V> Store<K, V> for RedisStore<K, V>
where
    K: Clone + Display + FromStr + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    type Lease = Lease;

    async fn enter(&self, key: &K, want: Want) -> Result<Entry<V, Lease>, BoxError> {
        match self.ask(key, want).await {
            Ok(entry) => {
                self.link.succeeded();
                Ok(entry)
            }
            Err(error) => {
                self.link.failed();
                Err(error.into())
            }
        }
    }

    async fn fill(&self, lease: Lease, key: &K, stored: &Stored<V>) -> Result<(), BoxError> {
        let filled = match lease.held {
            Some(held) => self.run_fill(held, key, stored).await,
            None => Ok(false),
        };
        match filled {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(_) => self.link.failed(),
        }
        // Redis does not tell of it.
        self.link.forget(key);
        filled.map(|_stored| ()).map_err(Into::into)
    }

    async fn put(&self, key: &K, stored: &Stored<V>) -> Result<(), BoxError> {
        if self.runner.keys.of(key).is_none() {
            // That says nothing of the store, and nobody would tell of such a key.
            count(&self.link.counters.unstorable);
            self.link.forget(key);
            return Err(StoreError::TooLong.into());
        }
        let told = self.link.telling();
        let put = self.run_put(key, stored).await;
        if put.is_err() || told.is_none() || self.link.telling() != told {
            // This process has it all the same, and Redis does not tell of it.
            self.link.failed();
        }
        Ok(put?)
    }

    async fn remove(&self, key: &K) -> Result<(), BoxError> {
        let Some(named) = self.runner.keys.of(key) else { return Ok(()) };
        let lock = named.lock.clone().into();
        let removed = self.write_entry("remove", key, named, &[], vec![lock]).await;
        if removed.is_err() {
            self.link.failed();
        }
        removed.map(|_answer| ()).map_err(Into::into)
    }

    async fn remove_tag(&self, tag: &str) -> Result<(), BoxError> {
        if tag.len() > LONGEST {
            return Err(StoreError::TooLong.into());
        }
        let keys = &self.runner.keys;
        let args = vec![tag.into(), keys.tag_prefix.clone().into(), keys.list.clone().into()];
        let forgotten = tag.to_owned();
        let forget = move |link: &Link<K>| link.forget_tag(&forgotten);
        self.carry_out("remove_tag", vec![keys.era.clone()], args, forget).await?;
        // It is on the list of what this process is to learn, too.
        self.link.moved.notify_one();
        Ok(())
    }

    async fn clear(&self) -> Result<(), BoxError> {
        let keys = &self.runner.keys;
        let args = vec![keys.list.clone().into()];
        let answer = self.carry_out("clear", vec![keys.era.clone()], args, Link::forget_all).await?;
        self.link.began(answer.era);
        Ok(())
    }

    fn attach(&self, invalidations: Invalidations<K>) {
        let mut kept = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(kept.is_empty(), "a `RedisStore` is one cache's: another one needs its own");
        self.link.attach(invalidations);
        let told = self.link.client.invalidation_rx();
        let hears = keeper::hear(self.link.clone(), self.runner.clone(), told);
        let keeps = keeper::keep(self.link.clone(), self.runner.clone());
        let tasks = [self.handle.spawn(hears), self.handle.spawn(keeps)];
        *kept = tasks.map(|task| AbortOnDrop(task.abort_handle())).into();
    }
}

impl<K, V> fmt::Debug for RedisStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("redis", &self.runner.redis)
            .field("name", &self.origin.name())
            .field("version", &self.version)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
