use std::{
    fmt,
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use buttress_core::{Reason, Rejectable};
use buttress_redis::{Redis, cache::RedisStore};
use buttress_telemetry::Registry;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{
    admission::Gate,
    error::{Error, StartError},
};
use crate::{
    Config,
    config::{self, Wrong},
};

/// Values under names, for some time: in this process's memory, and in Redis too where it is shared. Clones are the same.
///
/// A value is anything that serde can write as JSON. Whatever is found and cannot be read as the type that is asked for counts as
/// not there.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    values: buttress_cache::Cache<String, Kept>,
    /// In milliseconds.
    ttl: AtomicU64,
    /// Where it is shared.
    store: Option<Redis>,
    gate: Gate,
}

/// What its figures are called.
const NAME: &str = "cache";

impl Cache {
    pub(super) async fn connect(
        config: &Config,
        cache: &config::Cache,
        registry: &Registry,
        gate: &Gate,
    ) -> Result<Self, StartError> {
        let builder = buttress_cache::Cache::builder(NAME)
            .ttl(cache.ttl)
            .expiry(|_, kept: &Kept| Some(Duration::from_millis(kept.ttl)))
            .max_weight(cache.max_bytes)
            .weigher(|key: &String, kept: &Kept| (key.len() + kept.json.len()) as u64 + OVERHEAD)
            .stale_while_revalidate(cache.stale_while_revalidate)
            .stale_if_error(cache.stale_if_error);
        let mut connection = None;
        let values = match config.redis.as_ref().filter(|_| cache.shared) {
            Some(redis) => {
                let client = redis.client().map_err(|wrong: Wrong| StartError::wrong("redis", &wrong))?;
                let client = client.with_name("cache store");
                let store = RedisStore::connect(client, &format!("{}:cache", config.name)).await;
                let store = store.map_err(|error| StartError::part("cache", error))?;
                registry.register(&store.watch())?;
                connection = Some(store.client());
                builder.store(store).build()
            }
            None => builder.build(),
        };
        registry.register(&values)?;
        let ttl = AtomicU64::new(millis(cache.ttl));
        let cache = Self(Arc::new(Inner { values, ttl, store: connection, gate: gate.clone() }));
        // What another process wrote last is known from the first look on. A value that is set before it would be forgotten.
        let _ = cache.get::<()>("").await;
        Ok(cache)
    }

    /// The value of that name, if there is a fresh one. Where the cache is shared, a load on its way is waited for.
    ///
    /// # Errors
    /// [`Error::Rejected`] while the system shuts down, or past the caller's [`Deadline`](buttress_core::Deadline). That Redis
    /// is away is none: then only this process's memory is asked.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let _inside = self.0.gate.enter()?;
        let name = name.to_owned();
        if let Some(kept) = self.0.values.get(&name) {
            return Ok(kept.read());
        }
        if self.0.store.is_none() {
            return Ok(None);
        }
        // The store alone is asked: given up where a load would begin, which is then that of the next in line, and no failure.
        let is_missing = AtomicBool::new(false);
        let nothing = || {
            is_missing.store(true, Relaxed);
            pending::<Result<Kept, Error>>()
        };
        let mut look = pin!(self.0.values.get_or_load(name.clone(), nothing));
        let found = poll_fn(|cx| match look.as_mut().poll(cx) {
            Poll::Pending if is_missing.load(Relaxed) => Poll::Ready(None),
            found => found.map(Some),
        });
        match found.await {
            // What is past its time may be served while it is loaded anew, and here nothing is loaded.
            Some(Ok(_)) => Ok(self.0.values.get(&name).and_then(|kept| kept.read())),
            Some(Err(error))
                if error.rejected().is_some_and(|why| why.reason() == Reason::DeadlineExceeded) =>
            {
                Err(error)
            }
            // There is none, or another's load has failed.
            None | Some(Err(_)) => Ok(None),
        }
    }

    /// Keeps a value under that name, for the configured time.
    ///
    /// # Errors
    /// [`Error::Unfit`] where JSON has no form for it; [`Error::Cache`] where Redis did not take it (this process has it in
    /// any case); [`Error::Rejected`] while the system shuts down.
    pub async fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.set_for(name, value, self.ttl()).await
    }

    /// The same for so long. Zero keeps nothing.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_for<T: Serialize + ?Sized>(
        &self,
        name: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<(), Error> {
        let _inside = self.0.gate.enter()?;
        let kept = Kept::of(value, ttl).map_err(Error::Unfit)?;
        self.0.values.insert(name.to_owned(), kept).await.map_err(Error::Cache)
    }

    /// The value of that name. Where there is none, `load` brings it, for all who ask for it meanwhile.
    ///
    /// # Errors
    /// What `load` fails with. For a caller who waited for another's load a rejection: what that one ended with, or
    /// [`LoadFailed`](Reason::LoadFailed).
    ///
    /// # Cancellation
    /// Dropped while it loads, the next caller in line begins with a `load` of its own.
    ///
    /// # Panics
    /// What `load` panics with; then, too, the next caller in line begins.
    pub async fn get_or_load<T, E, F>(&self, name: &str, load: F) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: Rejectable,
        F: AsyncFnOnce() -> Result<T, E>,
    {
        let _inside = self.0.gate.enter()?;
        let ttl = self.ttl();
        // Whoever loads has the value itself, and need not read it.
        let (mut own, mut load) = (None, Some(load));
        let (loaded, unused) = (&mut own, &mut load);
        let loading = move || {
            let load = unused.take().expect("a load is called once");
            async move {
                let value = load().await?;
                // What JSON has no form for is given to whoever loaded it, and kept for nobody.
                let kept = Kept::of(&value, ttl).unwrap_or_default();
                *loaded = Some(value);
                Ok::<_, E>(kept)
            }
        };
        let name = name.to_owned();
        let found = self.0.values.get_or_load(name.clone(), loading).await;
        if let Some(value) = own {
            return Ok(value);
        }
        match (found?.read(), load) {
            (Some(value), _) => Ok(value),
            // It was of another type, or of none.
            (None, Some(load)) => {
                let value = load().await?;
                if let Ok(kept) = Kept::of(&value, ttl) {
                    // Where the store fails this process has it, and the store's figures tell.
                    let _ = self.0.values.insert(name, kept).await;
                }
                Ok(value)
            }
            // The load failed, and the old value in its place is of another type.
            (None, None) => Err(self.0.gate.refusal(Reason::LoadFailed).after_sending().into()),
        }
    }

    /// Forgets the value of that name, in all processes that share the cache.
    ///
    /// # Errors
    /// [`Error::Cache`] where Redis could not be told: other processes may have the old value until its time ends.
    /// [`Error::Rejected`] while the system shuts down.
    pub async fn invalidate(&self, name: &str) -> Result<(), Error> {
        let _inside = self.0.gate.enter()?;
        self.0.values.invalidate(&name.to_owned()).await.map_err(Error::Cache)
    }

    /// Says goodbye to the store.
    pub(super) async fn close(&self) {
        if let Some(store) = &self.0.store {
            store.close().await;
        }
    }

    fn ttl(&self) -> Duration {
        Duration::from_millis(self.0.ttl.load(Relaxed))
    }

    /// Values are kept for so long from here on.
    pub(super) fn set_ttl(&self, ttl: Duration) {
        self.0.ttl.store(millis(ttl), Relaxed);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("is_shared", &self.0.store.is_some()).finish_non_exhaustive()
    }
}

/// What an entry takes beside its key and its value, about.
const OVERHEAD: u64 = 128;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A value as JSON, and for how many milliseconds it is fresh.
#[derive(Clone)]
struct Kept {
    json: Arc<str>,
    ttl: u64,
}

impl Kept {
    fn of<T: Serialize + ?Sized>(value: &T, ttl: Duration) -> Result<Self, serde_json::Error> {
        Ok(Self { json: serde_json::to_string(value)?.into(), ttl: millis(ttl) })
    }

    fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.json).ok()
    }
}

impl Default for Kept {
    /// Nothing, for no time.
    fn default() -> Self {
        Self { json: Arc::from(""), ttl: 0 }
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.json, self.ttl).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (json, ttl): (String, u64) = Deserialize::deserialize(deserializer)?;
        Ok(Self { json: json.into(), ttl })
    }
}
