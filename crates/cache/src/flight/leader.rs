use std::{fmt, hash::Hash, mem, sync::Arc, task::Waker};

use super::Flights;
use crate::sync::lock;

/// Where a flight is: in which shard, and its number there. Whoever has it brings the value, or hands over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Post {
    pub(super) shard: usize,
    pub(super) id: u64,
}

impl<K, T> Flights<K, T> {
    fn is_detached(&self, post: Post) -> bool {
        let shard = lock(&self.shards[post.shard]);
        shard.index(post.id).is_none_or(|index| shard.flights[index].detached)
    }

    pub(crate) fn keep(&self, post: Post, keep: impl FnOnce()) {
        let shard = lock(&self.shards[post.shard]);
        if shard.index(post.id).is_some_and(|index| !shard.flights[index].detached) {
            keep();
        }
    }

    pub(crate) fn land(&self, post: Post, value: T, keep: impl FnOnce()) -> bool {
        let unfinished = Unfinished { flights: self, post };
        let mut shard = lock(&self.shards[post.shard]);
        let Some(index) = shard.index(post.id) else { return false };
        let kept = !shard.flights[index].detached;
        if kept {
            // Should it panic, the flight is still there, and is handed over.
            keep();
        }
        let flight = shard.flights.swap_remove(index);
        drop(shard);
        mem::forget(unfinished);
        let Some(line) = flight.line else { return kept };
        let mut line = lock(&line);
        line.landed = Some(value);
        let waiting = mem::take(&mut line.waiting);
        drop(line);
        waiting.into_iter().filter_map(|(_, waker)| waker).for_each(Waker::wake);
        kept
    }

    pub(crate) fn hand_over(&self, post: Post) {
        let (waker, _over) = lock(&self.shards[post.shard]).hand_over(post.id);
        waker.into_iter().for_each(Waker::wake);
    }
}

struct Unfinished<'a, K, T> {
    flights: &'a Flights<K, T>,
    post: Post,
}

impl<K, T> Drop for Unfinished<'_, K, T> {
    fn drop(&mut self) {
        self.flights.hand_over(self.post);
    }
}

/// Who brings the value of a key. Dropped before that, he hands over to the first follower.
pub struct Leader<K: Hash + Eq, T> {
    pub(super) seat: Option<(Arc<Flights<K, T>>, Post)>,
}

impl<K: Hash + Eq, T> Leader<K, T> {
    /// Whether the flight was [detached](Flights::detach).
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.seat.as_ref().is_some_and(|(flights, post)| flights.is_detached(*post))
    }

    /// Does `keep`, before anybody can detach the flight: unless it was detached already. The flight goes on. It must not use
    /// these flights.
    pub fn keep(&self, keep: impl FnOnce()) {
        if let Some((flights, post)) = &self.seat {
            flights.keep(*post, keep);
        }
    }

    /// Gives all followers a copy of the value; who asks for the key from now on begins a new flight.
    pub fn land(self, value: T) {
        self.land_with(value, || {});
    }

    /// The same, and before anybody can begin a new flight, or detach this one, does `keep`: unless it was detached
    /// already. Says whether `keep` was done. It must not use these flights.
    pub fn land_with(mut self, value: T, keep: impl FnOnce()) -> bool {
        self.seat.take().is_some_and(|(flights, post)| flights.land(post, value, keep))
    }

    /// For whoever holds the flights himself.
    pub(crate) fn into_post(mut self) -> Option<Post> {
        self.seat.take().map(|(_, post)| post)
    }
}

impl<K: Hash + Eq, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        if let Some((flights, post)) = self.seat.take() {
            flights.hand_over(post);
        }
    }
}

impl<K: Hash + Eq, T> fmt::Debug for Leader<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").finish_non_exhaustive()
    }
}
