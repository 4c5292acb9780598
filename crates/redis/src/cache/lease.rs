use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::cache::{request::Runner, waiters::Waiters};

/// A lease that is still held after so long is not renewed any more: whoever hangs does not keep the others from loading.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The right to load a key, among all processes: see [`Store`](buttress_cache::Store). It is renewed while it lives, for a
/// minute at most, and released when it is dropped.
pub struct Lease {
    /// Nothing for a lease that allows to load, but not to store.
    pub(super) held: Option<Held>,
}

pub(super) struct Held {
    pub(super) claim: Claim,
    /// What is invalidated after this number is not stored.
    pub(super) since: u64,
    _renewal: AbortOnDrop,
}

impl Lease {
    pub(super) const fn without_storing() -> Self {
        Self { held: None }
    }

    pub(super) fn new(claim: Claim, since: u64, lease: Duration) -> Self {
        let (runner, lock, token) = (claim.runner.clone(), claim.lock.clone(), claim.token);
        let renewal = claim.handle.spawn(async move {
            let end = Instant::now() + LONGEST;
            while Instant::now() < end {
                sleep(lease / 3).await;
                let args = vec![token_text(token).into(), millis(lease).into()];
                // After an error there is time for two more.
                if runner.run("renew", &[&lock], args).await.is_ok_and(|answer| answer.code == 0) {
                    return;
                }
            }
        });
        Self { held: Some(Held { claim, since, _renewal: AbortOnDrop(renewal.abort_handle()) }) }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn token_text(token: u64) -> String {
    format!("{token:016x}")
}

/// A lock that may be ours. Dropped, it is given back, if it is.
pub(super) struct Claim {
    runner: Runner,
    handle: Handle,
    /// Sooner than Redis tells.
    waiters: Arc<Waiters>,
    pub(super) lock: Bytes,
    pub(super) token: u64,
    is_open: bool,
}

impl Claim {
    /// To be made before the lock is asked for: the answer may be lost.
    pub(super) fn new(runner: &Runner, handle: &Handle, waiters: &Arc<Waiters>, lock: &Bytes) -> Self {
        let (runner, handle, waiters) = (runner.clone(), handle.clone(), waiters.clone());
        Self { runner, handle, waiters, lock: lock.clone(), token: fastrand::u64(..), is_open: true }
    }

    /// It is known that the lock is not ours.
    pub(super) fn close(mut self) {
        self.is_open = false;
    }

    /// The lock was ours, and was given back.
    pub(super) fn given_back(self) {
        self.waiters.wake(&self.lock);
        self.close();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let (runner, waiters) = (self.runner.clone(), self.waiters.clone());
        let (lock, token) = (self.lock.clone(), token_text(self.token));
        self.handle.spawn(async move {
            // Where the runtime has ended, or Redis is away, the lock ends by itself.
            let _ = runner.run("release", &[&lock], vec![token.into()]).await;
            waiters.wake(&lock);
        });
    }
}

pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
