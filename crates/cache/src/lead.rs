use std::{fmt, hash::Hash, sync::Arc};

use crate::{
    Leader,
    flight::Post,
    inner::{Brought, Inner},
};

/// The duty to bring the value of a key into a cache. Dropped before that, it is the first follower's.
///
/// A [`Leader`] that holds the cache, which has the flights: each count of references is a line of memory that the calls of all
/// threads write.
pub(crate) struct Lead<K: Hash + Eq, V> {
    cache: Arc<Inner<K, V>>,
    /// None: nobody waits for what he loads, or he has brought it.
    post: Option<Post>,
}

impl<K: Hash + Eq, V> Lead<K, V> {
    pub(crate) const fn new(cache: Arc<Inner<K, V>>, post: Option<Post>) -> Self {
        Self { cache, post }
    }

    /// Of one who has waited.
    pub(crate) fn after(cache: Arc<Inner<K, V>>, leader: Leader<K, Brought<V>>) -> Self {
        let post = leader.into_post();
        Self { cache, post }
    }

    #[inline]
    pub(crate) fn cache(&self) -> &Arc<Inner<K, V>> {
        &self.cache
    }

    pub(crate) fn keep(&self, keep: impl FnOnce(&Inner<K, V>)) {
        if let Some(post) = self.post {
            self.cache.flights.keep(post, || keep(&self.cache));
        }
    }

    /// Ends it: see [`Leader::land_with`].
    pub(crate) fn land(&mut self, brought: Brought<V>, keep: impl FnOnce(&Inner<K, V>)) {
        if let Some(post) = self.post.take() {
            self.cache.flights.land(post, brought, || keep(&self.cache));
        }
    }

    pub(crate) fn hand_over(&mut self) {
        if let Some(post) = self.post.take() {
            self.cache.flights.hand_over(post);
        }
    }
}

impl<K: Hash + Eq, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl<K: Hash + Eq, V> fmt::Debug for Lead<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").finish_non_exhaustive()
    }
}
