//! Circuit breakers: closed with all calls good or one in a hundred failing, and open.

use std::{future::ready, sync::Arc};

use failsafe::{Config, FailurePolicy, StateMachine, backoff, failure_policy, futures::CircuitBreaker as _};
use recloser::{AsyncRecloser, Recloser};
use tower::{BoxError, Layer, Service, service_fn};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

use super::FOR_EVER;
use crate::{
    backend::{Backend, DOWN, FLAKY, Fails, HEALTHY},
    body::{Body, shared},
    ours::{self, THRESHOLD, WINDOW, by_count, opened},
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

const CLOSED: Expected = Expected::All(Verdict::Served);
const FAILING: Expected = Expected::OnePercentFailing;
const OPEN: Expected = Expected::All(Verdict::Refused);

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, expected, build| Row::new("breaker", name, expected, build);
    let others = vec![
        row("buttress count closed 1% failing", FAILING, |_| by_count(FLAKY)),
        row("recloser closed", CLOSED, |_| by_recloser(HEALTHY)),
        row("recloser closed 1% failing", FAILING, |_| by_recloser(FLAKY)),
        row("recloser async closed", CLOSED, |_| by_async_recloser(HEALTHY)),
        row("recloser open", OPEN, |runtime| opened(runtime, by_recloser(DOWN))),
        row("failsafe closed", CLOSED, |_| by_failsafe(Config::new().build(), HEALTHY)),
        row("failsafe closed 1% failing", FAILING, |_| by_failsafe(Config::new().build(), FLAKY)),
        row("failsafe consecutive closed", CLOSED, |_| by_failsafe(consecutive(), HEALTHY)),
        row("failsafe open", OPEN, |runtime| opened(runtime, by_failsafe(consecutive(), DOWN))),
        row("tower-resilience count closed", CLOSED, |_| by_resilience(HEALTHY)),
        row("tower-resilience count closed 1% failing", FAILING, |_| by_resilience(FLAKY)),
        row("tower-resilience open", OPEN, |runtime| opened(runtime, by_resilience(DOWN))),
    ];
    [ours::rows_of("breaker"), others].concat()
}

/// recloser is no tower service. It is handed a call that returns at once, which costs it least: no `Arc` to clone.
fn by_recloser<F: Fails>(mut inner: Backend<F>) -> Box<dyn Body> {
    let breaker = Arc::new(ring());
    shared(service_fn(move |request| ready(breaker.call(|| inner.call(request).into_inner()))))
}

/// What a call that has to wait would need of recloser.
fn by_async_recloser<F: Fails>(mut inner: Backend<F>) -> Box<dyn Body> {
    let breaker = AsyncRecloser::from(ring());
    shared(service_fn(move |request| breaker.call(inner.call(request))))
}

fn ring() -> Recloser {
    Recloser::custom().error_rate(THRESHOLD).closed_len(WINDOW).open_wait(FOR_EVER).build()
}

/// failsafe is no tower service either.
fn by_failsafe<P, F>(breaker: StateMachine<P, ()>, mut inner: Backend<F>) -> Box<dyn Body>
where
    P: FailurePolicy + Send + Sync + 'static,
    F: Fails,
{
    shared(service_fn(move |request| breaker.call(inner.call(request))))
}

fn consecutive() -> StateMachine<impl FailurePolicy + Send + Sync + 'static, ()> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(FOR_EVER));
    Config::new().failure_policy(policy).build()
}

fn by_resilience<F: Fails>(inner: Backend<F>) -> Box<dyn Body> {
    let layer = CircuitBreakerLayer::builder()
        .failure_rate_threshold(THRESHOLD.into())
        .sliding_window_size(WINDOW)
        .wait_duration_in_open(FOR_EVER)
        .build()
        .expect("the thresholds are valid");
    shared(layer.layer(inner))
}

impl Refusal for recloser::Error<BoxError> {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Rejected)
    }
}

impl Refusal for failsafe::Error<BoxError> {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Rejected)
    }
}

impl Refusal for tower_resilience_circuitbreaker::CircuitBreakerError<BoxError> {
    fn is_refusal(&self) -> bool {
        self.is_circuit_open()
    }
}
