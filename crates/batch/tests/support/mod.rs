//! What the tests share.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_batch::{BatchLayer, Batched};
use buttress_core::{Rejectable, Rejected};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt};

pub(crate) const MS: Duration = Duration::from_millis(1);
/// The one that is not there.
pub(crate) const MISSING: u32 = 404_404;

/// What a batch or a request of one can fail with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Rejected(Rejected),
    /// Some request of the batch is poison, and nothing was done.
    Poison,
    /// Nobody knows what was done.
    Lost,
    /// This request's own.
    NotFound(u32),
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Failure {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

pub(crate) type Answer = Result<Vec<Result<u32, Failure>>, Failure>;

/// A backend that takes its time, answers each request with ten times itself, and remembers what it was sent.
#[derive(Clone, Default)]
pub(crate) struct Backend(Arc<Script>);

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) takes: Duration,
    pub(crate) poison: HashSet<u32>,
    pub(crate) fails_once: Mutex<Option<Failure>>,
    pub(crate) batches: Mutex<Vec<Vec<u32>>>,
    pub(crate) ended: Mutex<usize>,
    pub(crate) deadlines: Mutex<Vec<Option<Instant>>>,
}

impl Backend {
    pub(crate) fn taking(takes: Duration) -> Self {
        Self(Arc::new(Script { takes, ..Script::default() }))
    }

    pub(crate) fn poisoned_by(poison: impl IntoIterator<Item = u32>) -> Self {
        Self(Arc::new(Script { poison: poison.into_iter().collect(), takes: MS, ..Script::default() }))
    }

    pub(crate) fn fail_once(&self, failure: Failure) {
        *self.0.fails_once.lock().unwrap() = Some(failure);
    }

    pub(crate) fn batches(&self) -> Vec<Vec<u32>> {
        self.0.batches.lock().unwrap().clone()
    }

    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.batches().iter().map(Vec::len).collect()
    }

    /// How many calls came to their end.
    pub(crate) fn ended(&self) -> usize {
        *self.0.ended.lock().unwrap()
    }

    pub(crate) fn deadlines(&self) -> Vec<Option<Instant>> {
        self.0.deadlines.lock().unwrap().clone()
    }
}

impl Service<Vec<u32>> for Backend {
    type Response = Vec<Result<u32, Failure>>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Failure>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, requests: Vec<u32>) -> Self::Future {
        let script = self.0.clone();
        script.batches.lock().unwrap().push(requests.clone());
        let deadline = buttress_core::Deadline::current().map(buttress_core::Deadline::instant);
        script.deadlines.lock().unwrap().push(deadline);
        Box::pin(async move {
            if script.takes.is_zero() {
                tokio::task::yield_now().await;
            } else {
                sleep(script.takes).await;
            }
            *script.ended.lock().unwrap() += 1;
            if let Some(failure) = script.fails_once.lock().unwrap().take() {
                return Err(failure);
            }
            if requests.iter().any(|request| script.poison.contains(request)) {
                return Err(Failure::Poison);
            }
            let answer = |request: u32| {
                if request == MISSING { Err(Failure::NotFound(request)) } else { Ok(request * 10) }
            };
            Ok(requests.into_iter().map(answer).collect())
        })
    }
}

pub(crate) type Batching<S = Backend> = Batched<S, u32, u32, Failure>;

pub(crate) fn layer(name: &str) -> BatchLayer<u32, u32, Failure> {
    BatchLayer::new(name)
}

pub(crate) fn batching(name: &str, backend: &Backend) -> Batching {
    layer(name).layer(backend.clone())
}

/// Calls in a task of its own.
pub(crate) fn call<S>(service: &S, request: u32) -> JoinHandle<Result<u32, Failure>>
where
    S: Service<u32, Response = u32, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    tokio::spawn(service.clone().oneshot(request))
}

/// Calls, and lets each call come as far as it can by itself before the next.
pub(crate) async fn call_in_turn<S>(
    service: &S,
    requests: impl IntoIterator<Item = u32>,
) -> Vec<JoinHandle<Result<u32, Failure>>>
where
    S: Service<u32, Response = u32, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let mut calls = Vec::new();
    for request in requests {
        calls.push(call(service, request));
        settle().await;
    }
    calls
}

/// Lets all tasks run until they wait for time or for each other.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn all(calls: Vec<JoinHandle<Result<u32, Failure>>>) -> Vec<Result<u32, Failure>> {
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    results
}

pub(crate) fn rejected(result: Result<u32, Failure>) -> Rejected {
    match result {
        Err(Failure::Rejected(rejected)) => rejected,
        other => panic!("it was not rejected: {other:?}"),
    }
}

/// Drops a future after so many polls that were pending.
pub(crate) async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    buttress_testkit::probe::drop_after(polls, false, future).await
}
