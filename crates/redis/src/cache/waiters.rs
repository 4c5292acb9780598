use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::sync::{Mutex, MutexGuard, Notify, PoisonError};

/// Who waits for the end of another process's load, by the key of its lock. As many as wait are remembered.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<Bytes, Vec<Arc<Notify>>>>);

impl Waiters {
    /// Who is woken from now on, be it before he waits.
    pub(super) fn register(&self, lock: &Bytes) -> Waiter<'_> {
        let bell = Arc::new(Notify::new());
        self.lock().entry(lock.clone()).or_default().push(bell.clone());
        Waiter { waiters: self, lock: lock.clone(), bell }
    }

    pub(super) fn wake(&self, lock: &[u8]) {
        self.lock().get(lock).into_iter().flatten().for_each(|bell| bell.notify_one());
    }

    pub(super) fn wake_all(&self) {
        self.lock().values().flatten().for_each(|bell| bell.notify_one());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Vec<Arc<Notify>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    lock: Bytes,
    bell: Arc<Notify>,
}

impl Waiter<'_> {
    pub(super) async fn woken(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some(bells) = waiting.get_mut(&self.lock) {
            bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if bells.is_empty() {
                waiting.remove(&self.lock);
            }
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_of_a_lock_are_woken_also_before_they_wait_and_nobody_is_left() {
        let waiters = Waiters::default();
        let [lock, other] = ["a", "b"].map(Bytes::from_static_str);
        let (one, two, third) = (waiters.register(&lock), waiters.register(&lock), waiters.register(&other));
        waiters.wake(b"a");
        waiters.wake(b"unknown");
        one.woken().await;
        two.woken().await;
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, third.woken()).await.is_err());
        drop(one);
        assert_eq!(waiters.len(), 2);
        waiters.wake_all();
        third.woken().await;
        drop((two, third));
        assert!(waiters.lock().is_empty());
    }

    trait FromStaticStr {
        fn from_static_str(text: &'static str) -> Self;
    }

    impl FromStaticStr for Bytes {
        fn from_static_str(text: &'static str) -> Self {
            Self::from_static(text.as_bytes())
        }
    }
}
