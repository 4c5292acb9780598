//! What the tests share.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    future::Future,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress_cache::Cache;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Keeps values for a minute exactly.
pub(crate) fn cache<K, V>(name: &str) -> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder(name).jitter(0.0).build()
}

/// The request is the key.
pub(crate) fn key(request: &u32) -> Option<u32> {
    Some(*request)
}

/// Counts how often a future is polled.
pub(crate) struct Polls<F>(Pin<Box<F>>, u32);

impl<F> Polls<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Box::pin(future), 0)
    }
}

impl<F: Future> Future for Polls<F> {
    type Output = (F::Output, u32);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.1 += 1;
        self.0.as_mut().poll(cx).map(|output| (output, self.1))
    }
}
