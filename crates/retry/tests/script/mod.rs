//! A backend that plays a script, for all tests.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Backoff, Jitter};
use buttress_retry::RetryLayer;
use tokio::time::Instant;
use tower::Service;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// 100 ms, 200 ms, ... at most a second.
pub(crate) fn steady() -> Backoff {
    Backoff::exponential(100 * MS, 1000 * MS).unwrap().with_jitter(Jitter::None)
}

pub(crate) fn layer(name: &str) -> RetryLayer {
    RetryLayer::new(name).backoff(steady())
}

/// A backend that gives these results one after the other, and notes when it was called.
#[derive(Debug)]
pub(crate) struct Script<E = io::Error>(Arc<Mutex<Played<E>>>);

#[derive(Debug)]
pub(crate) struct Played<E> {
    results: VecDeque<Result<u32, E>>,
    calls: Vec<Instant>,
}

impl<E> Clone for Script<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Script<E> {
    pub(crate) fn of(results: impl IntoIterator<Item = Result<u32, E>>) -> Self {
        Self(Arc::new(Mutex::new(Played { results: results.into_iter().collect(), calls: Vec::new() })))
    }

    pub(crate) fn failing(times: usize) -> Self
    where
        E: From<io::Error>,
    {
        let failure = |_| Err(io::Error::other("it fails").into());
        Self::of((0..times).map(failure).chain([Ok(7)]))
    }

    pub(crate) fn next(&self) -> Result<u32, E> {
        let mut played = self.0.lock().unwrap();
        played.calls.push(Instant::now());
        played.results.pop_front().expect("a result for each attempt")
    }

    /// Milliseconds from `start` to each attempt.
    pub(crate) fn attempts(&self, start: Instant) -> Vec<u128> {
        self.0.lock().unwrap().calls.iter().map(|at| (*at - start).as_millis()).collect()
    }
}

impl<Req, E> Service<Req> for Script<E> {
    type Response = u32;
    type Error = E;
    type Future = Ready<Result<u32, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        ready(self.next())
    }
}
