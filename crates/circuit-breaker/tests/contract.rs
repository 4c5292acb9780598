//! What every layer owes to its caller and to the service inside.

use std::{
    future::{Ready, ready},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreakerLayer, Probes, Ramp, State, Trip, Window};
use buttress_core::{Backoff, Outcome, Rejectable, Rejected};
use buttress_testkit::{
    allocations,
    probe::{self, Backend, BoxError, PanicAt},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

fn tripping_at(failures: u32) -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder("contract")
        .trip(Trip::consecutive(failures).unwrap())
        .open_for(Backoff::constant(SECOND))
        .probes(Probes::try_new(1, 10 * SECOND).unwrap())
        // What it refuses by chance is for recovery.rs.
        .ramp(Ramp::NONE)
        .build()
}

/// One with a probe to give.
async fn half_open() -> CircuitBreakerLayer {
    let layer = tripping_at(1);
    layer.breaker().acquire().unwrap().finish(Outcome::Failure);
    advance(SECOND).await;
    layer
}

#[tokio::test(start_paused = true)]
async fn it_calls_only_what_is_ready() {
    probe::calls_only_ready(CircuitBreakerLayer::new("contract")).await;
    probe::releases_readiness(CircuitBreakerLayer::new("contract")).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing_behind() {
    probe::cancel_everywhere(tripping_at(1), |_| {}, |_| {}).await;

    // Half-open with one permitted probe: a slot that is not given back would refuse the call that follows.
    let layer = half_open().await;
    let breaker = layer.breaker();
    let reopen = |_: &Backend| {
        breaker.reset();
        breaker.isolate(Duration::ZERO);
    };
    probe::cancel_everywhere(layer, reopen, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_goes_on_and_breaks_nothing() {
    probe::survives_panic(tripping_at(1)).await;
    probe::survives_panic(half_open().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_gives_its_slot_back() {
    for at in [PanicAt::Call, PanicAt::Future] {
        let layer = half_open().await;
        let backend = Backend::new();
        backend.panic_next(at);
        let mut service = layer.layer(backend.service::<BoxError>());
        let panicked = tokio::spawn(async move { service.ready().await?.call(1).await }).await;
        assert!(panicked.unwrap_err().is_panic());
        assert_eq!(layer.breaker().state(), State::HalfOpen);
        let mut service = layer.layer(backend.service::<BoxError>());
        assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), 2);
        assert_eq!(layer.breaker().state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_one_breaker() {
    let layer = tripping_at(2);
    let backend = Backend::new();
    let mut first = layer.layer(backend.service::<BoxError>());
    let (mut clone, mut second) = (first.clone(), layer.clone().layer(backend.service::<BoxError>()));
    backend.fail_next(2);
    assert!(first.ready().await.unwrap().call(1).await.unwrap_err().rejected().is_none());
    assert!(clone.ready().await.unwrap().call(1).await.unwrap_err().rejected().is_none());
    assert!(second.ready().await.unwrap().call(1).await.unwrap_err().rejected().is_some());
    assert_eq!(backend.calls(), 2);

    let apart = CircuitBreakerLayer::builder("contract").trip(Trip::consecutive(1).unwrap()).per_service();
    let (mut first, mut second) =
        (apart.layer(backend.service::<BoxError>()), apart.layer(backend.service::<BoxError>()));
    backend.fail_next(1);
    assert!(first.ready().await.unwrap().call(1).await.is_err());
    assert_eq!(first.breaker().state(), State::Open);
    assert_eq!(second.ready().await.unwrap().call(1).await.unwrap(), 1);
}

/// Never ready.
struct Stuck;

impl Service<u32> for Stuck {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: u32) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_wait_for_the_backend() {
    // Neither `Clone` nor anything else is asked of the service.
    let layer = tripping_at(1);
    let mut service = layer.layer(Stuck);
    let waiting = tokio::time::timeout(SECOND, service.ready()).await;
    assert!(waiting.is_err(), "closed, it waits");
    layer.breaker().force_open();
    let rejected = service.ready().await.unwrap().call(1).await.unwrap_err().rejected().cloned().unwrap();
    assert_eq!((rejected.retry_after(), rejected.sent()), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_readied_service_asks_again_when_it_is_called() {
    let layer = tripping_at(1);
    let backend = Backend::new();
    let mut service = layer.layer(backend.service::<BoxError>());
    service.ready().await.unwrap();
    layer.breaker().force_open();
    assert!(service.call(1).await.unwrap_err().rejected().is_some());
    assert_eq!(backend.calls(), 0);
    layer.breaker().reset();
    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
    assert_eq!(backend.unready_calls(), 0);
}

/// Fails when it is asked for an odd number.
#[derive(Clone)]
struct Odd;

struct OddError;

impl From<Rejected> for OddError {
    fn from(_: Rejected) -> Self {
        Self
    }
}

impl Service<u32> for Odd {
    type Response = u32;
    type Error = OddError;
    type Future = Ready<Result<u32, OddError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OddError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(if n % 2 == 1 { Err(OddError) } else { Ok(n) })
    }
}

fn drive<S: Service<u32>>(service: &mut S, request: u32) -> Result<S::Response, S::Error> {
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let mut future = std::pin::pin!(service.call(request));
    match future.as_mut().poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it is ready at once"),
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_allocates_but_the_one_that_changes_the_state() {
    let window = Window::calls(100).unwrap();
    let classify =
        |result: &Result<u32, OddError>| if result.is_err() { Outcome::Failure } else { Outcome::Success };
    let trips = [
        Trip::default(),
        Trip::failure_rate(1.0, window).unwrap(),
        Trip::failure_rate(1.0, Window::time(SECOND).unwrap()).unwrap().with_slow_rate(1.0).unwrap(),
        Trip::consecutive(1000).unwrap(),
    ];
    for trip in trips {
        let layer = CircuitBreakerLayer::builder("allocations").trip(trip).classify(classify).build();
        let mut service = layer.layer(Odd);
        let _warm = drive(&mut service, 0);
        let mixed = allocations(|| (0..1000).for_each(|i| _ = drive(&mut service, u32::from(i % 10 == 9))));
        assert_eq!((mixed.count, layer.breaker().state()), (0, State::Closed), "{trip:?}");
        layer.breaker().force_open();
        let refused = allocations(|| assert!((0..1000).all(|_| drive(&mut service, 0).is_err())));
        assert_eq!(refused.count, 0, "{trip:?}");
    }
}

#[tokio::test]
async fn it_goes_where_tower_services_go() {
    let layer = CircuitBreakerLayer::new("boxed");
    let inner = tower::service_fn(async |n: u32| Ok::<_, BoxError>(n));
    let boxed = tower::util::BoxCloneSyncService::new(layer.layer(inner));
    assert_eq!(tokio::spawn(boxed.oneshot(7)).await.unwrap().unwrap(), 7);
}
