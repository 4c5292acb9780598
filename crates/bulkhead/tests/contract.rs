//! What every layer owes to its caller and to the service inside.

use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_bulkhead::{Adaptive, BulkheadLayer, Criticality, InvalidLimit, Limit, Limiter, Permit, Queue};
use buttress_core::{Metric, Observe, Reason, Rejectable, Rejected, Value};
use buttress_testkit::{
    allocations,
    probe::{self, Backend, BoxError, PanicAt},
};
use tokio::task::yield_now;
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

fn fixed(calls: u32) -> Limit {
    Limit::fixed(calls).unwrap()
}

fn adaptive(calls: u32) -> Limit {
    Limit::adaptive(Adaptive::aimd().with_limits(calls, calls, calls).unwrap())
}

fn queue(capacity: u32) -> Queue {
    Queue::try_new(capacity, SECOND).unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_calls_only_what_is_ready() {
    for limit in [fixed(1), fixed(8), adaptive(1)] {
        let waiting = || BulkheadLayer::builder("contract", limit).queue(queue(4)).build();
        probe::calls_only_ready(BulkheadLayer::new("contract", limit)).await;
        probe::calls_only_ready(waiting()).await;
        probe::releases_readiness(BulkheadLayer::new("contract", limit)).await;
        probe::releases_readiness(waiting()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_gives_its_permit_back() {
    for limit in [fixed(1), adaptive(1)] {
        let layer = BulkheadLayer::new("dropped", limit);
        let limiter = layer.limiter();
        probe::cancel_everywhere(layer, |_| {}, |_| assert_eq!(limiter.snapshot().in_flight, 0)).await;
    }
}

/// Gives it back a little later.
fn lend(permit: Permit) {
    tokio::spawn(async move {
        yield_now().await;
        drop(permit);
    });
}

/// In the queue, when the permit has just been handed over, and after.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_loses_no_permit() {
    let layer = BulkheadLayer::builder("dropped", fixed(1)).queue(queue(1)).build();
    let limiter = layer.limiter();
    // The probe's next call has to wait, and hangs where the permit was lost.
    let script = |_: &Backend| {
        if let Ok(permit) = limiter.try_acquire() {
            lend(permit);
        }
    };
    let nobody_waits = |_: &Backend| assert_eq!(limiter.snapshot().waiting, 0, "it has left at once");
    probe::cancel_everywhere(layer, script, nobody_waits).await;
    yield_now().await;
    assert_eq!(limiter.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_permit_handed_over_to_one_who_leaves_goes_to_the_next() {
    let limiter = BulkheadLayer::builder("next", fixed(1)).queue(queue(2)).build().limiter();
    let mut context = Context::from_waker(Waker::noop());
    let held = limiter.try_acquire().unwrap();
    let mut first = Box::pin(limiter.acquire());
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut second = pin!(limiter.acquire());
    assert!(second.as_mut().poll(&mut context).is_pending());
    drop(held);
    assert!(second.as_mut().poll(&mut context).is_pending(), "it is the first one's turn");
    drop(first);
    assert!(second.as_mut().poll(&mut context).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_gives_the_permit_back() {
    probe::survives_panic(BulkheadLayer::new("panic", fixed(1))).await;
    probe::survives_panic(BulkheadLayer::new("panic", adaptive(1))).await;
    let waiting = BulkheadLayer::builder("panic", fixed(1)).queue(queue(1)).build();
    probe::survives_panic(waiting.clone()).await;

    // Of a call that had waited.
    for at in [PanicAt::Call, PanicAt::Future] {
        let backend = Backend::new();
        backend.panic_next(at);
        let mut service = waiting.layer(backend.service::<BoxError>());
        service.ready().await.unwrap();
        let held = waiting.limiter().try_acquire().unwrap();
        let call = tokio::spawn(service.call(1));
        yield_now().await;
        assert_eq!(waiting.limiter().snapshot().waiting, 1);
        drop(held);
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!(waiting.limiter().snapshot().in_flight, 0);
    }
}

/// Some futures put up with that.
#[test]
fn a_poll_after_the_answer_gives_no_permit_back_twice() {
    for limit in [fixed(2), fixed(2).with_reserve(1, Criticality::Critical).unwrap(), adaptive(2)] {
        let layer = BulkheadLayer::new("again", limit);
        let again =
            tower::service_fn(|n: u32| std::future::poll_fn(move |_| Poll::Ready(Ok::<_, BoxError>(n))));
        let mut service = layer.layer(again);
        let _one = layer.limiter().try_acquire().unwrap();
        let mut call = pin!(service.call(1));
        for _ in 0..3 {
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        assert_eq!(layer.limiter().snapshot().in_flight, 1);
        let held: Vec<_> = std::iter::from_fn(|| layer.limiter().try_acquire().ok()).collect();
        assert_eq!(held.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn clones_and_services_of_one_layer_share_one_limit() {
    let one = || BulkheadLayer::new("shared", fixed(1));
    probe::clones_share(one, async |mut first, mut second, backend| {
        backend.hold();
        let call = tokio::spawn(first.ready().await.unwrap().call(1));
        yield_now().await;
        let refused = second.ready().await.unwrap().call(2).await.unwrap_err();
        assert_eq!(refused.rejected().unwrap().reason(), Reason::Overloaded);
        backend.release();
        assert_eq!(call.await.unwrap().unwrap(), 1);
        assert_eq!(second.ready().await.unwrap().call(3).await.unwrap(), 3);
    })
    .await;

    let backend = Backend::new();
    let apart = BulkheadLayer::builder("apart", fixed(1)).per_service();
    let (mut first, mut second) =
        (apart.layer(backend.service::<BoxError>()), apart.layer(backend.service::<BoxError>()));
    let _held = first.limiter().try_acquire().unwrap();
    assert!(first.ready().await.unwrap().call(1).await.is_err());
    assert!(second.ready().await.unwrap().call(1).await.is_ok());
}

/// Never ready. Neither `Clone` nor anything else is asked of a service without a queue.
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
    let layer = BulkheadLayer::new("stuck", fixed(1));
    let mut service = layer.layer(Stuck);
    assert!(tokio::time::timeout(SECOND, service.ready()).await.is_err(), "there is a permit: it waits");
    let held = layer.limiter().try_acquire().unwrap();
    let at_once = tokio::time::timeout(SECOND, service.ready()).await.expect("it refuses");
    let error = at_once.unwrap().call(1).await.unwrap_err();
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::Overloaded, false));
    drop(held);
    assert!(tokio::time::timeout(SECOND, service.ready()).await.is_err(), "there is one again");
}

#[tokio::test(start_paused = true)]
async fn readiness_that_an_idle_clone_holds_stalls_nobody() {
    let backend = Backend::new();
    for layer in [fixed(1), adaptive(1)].map(|limit| BulkheadLayer::new("idle", limit)) {
        let service = layer.layer(backend.service::<BoxError>());
        let (mut idle, mut busy) = (service.clone(), service);
        idle.ready().await.unwrap();
        assert_eq!(layer.limiter().snapshot().in_flight, 0);
        assert_eq!(busy.ready().await.unwrap().call(1).await.unwrap(), 1);
        assert_eq!(idle.call(2).await.unwrap(), 2);
    }
    assert_eq!(backend.unready_calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_limit_can_be_changed_and_stays_where_it_cannot() {
    let limiter =
        BulkheadLayer::new("set", fixed(2).with_reserve(1, Criticality::CriticalPlus).unwrap()).limiter();
    for (limit, error) in [
        (0, InvalidLimit::Zero),
        (Limit::MAX + 1, InvalidLimit::TooHigh(Limit::MAX + 1)),
        (1, InvalidLimit::NotAboveReserve { limit: 1, reserve: 1 }),
    ] {
        assert_eq!(limiter.set_limit(limit), Err(error));
        assert_eq!(limiter.limit(), 2);
    }
    limiter.set_limit(4).unwrap();
    let held: Vec<_> = std::iter::from_fn(|| limiter.try_acquire().ok()).collect();
    assert_eq!(held.len(), 3, "and one in reserve");

    // Lower than what is in flight: reached as calls end, not before.
    limiter.set_limit(2).unwrap();
    assert_eq!((limiter.limit(), limiter.snapshot().in_flight), (2, 3));
    let mut held = held.into_iter();
    for left in [2, 1] {
        drop(held.next());
        assert_eq!(limiter.snapshot().in_flight, left);
        assert!(limiter.try_acquire().is_err());
    }
    drop(held);
    assert!(limiter.try_acquire().is_ok());

    let adaptive = Adaptive::vegas().with_limits(2, 3, 5).unwrap();
    let limiter = BulkheadLayer::new("set", Limit::adaptive(adaptive)).limiter();
    assert_eq!(limiter.set_limit(6), Err(InvalidLimit::Outside { limit: 6, min: 2, max: 5 }));
    limiter.set_limit(5).unwrap();
    assert_eq!(limiter.limit(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_handle_guards_what_is_no_service() {
    let limiter = BulkheadLayer::new("handle", fixed(1)).limiter();
    let inside = async || {
        assert_eq!(limiter.snapshot().in_flight, 1);
        assert!(limiter.acquire().await.is_err(), "no queue");
        Ok::<_, Rejected>(7)
    };
    assert_eq!(limiter.call(inside).await, Ok(7));
    let failed = limiter.call(async || Err::<(), BoxError>("no".into())).await;
    assert_eq!(failed.unwrap_err().to_string(), "no");
    let permit = limiter.acquire().await.unwrap();
    let refused = limiter.call(async || Ok::<_, BoxError>(())).await.unwrap_err();
    assert_eq!(refused.to_string(), "bulkhead `handle`: too many calls are in flight; the call was not sent");
    drop(permit);
    assert_eq!(limiter.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn it_tells_what_happens() {
    let layer = BulkheadLayer::builder("observed", fixed(1)).queue(queue(1)).build();
    let limiter = layer.limiter();
    let held = limiter.try_acquire().unwrap();
    let waiter = |level: Criticality| {
        let limiter = limiter.clone();
        tokio::spawn(level.scope(async move { limiter.acquire().await.map(drop) }))
    };
    let low = waiter(Criticality::Sheddable);
    yield_now().await;
    let high = waiter(Criticality::Critical);
    assert_eq!(low.await.unwrap().unwrap_err().reason(), Reason::Overloaded);
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight, snapshot.waiting, snapshot.shed), (1, 1, 1, 1));
    let mut seen = Vec::new();
    limiter.observe(&mut |metric| seen.push(metric));
    assert_eq!(
        seen,
        [
            Metric::new("limit", Value::Gauge(1.0)),
            Metric::new("in_flight", Value::Gauge(1.0)),
            Metric::new("waiting", Value::Gauge(1.0)),
            Metric::new("shed", Value::Counter(1)),
            Metric::new("rejections", Value::Counter(1)).with_label("reason", "overloaded"),
        ]
    );
    drop(held);
    high.await.unwrap().unwrap();
}

/// An error without a heap allocation.
#[derive(Debug)]
struct Failed;

impl From<Rejected> for Failed {
    fn from(_: Rejected) -> Self {
        Self
    }
}

impl Rejectable for Failed {
    fn rejected(&self) -> Option<&Rejected> {
        None
    }
}

#[derive(Clone)]
struct Echo;

impl Service<bool> for Echo {
    type Response = ();
    type Error = Failed;
    type Future = Ready<Result<(), Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, works: bool) -> Self::Future {
        ready(if works { Ok(()) } else { Err(Failed) })
    }
}

fn drive<S: Service<bool>>(service: &mut S, works: bool) -> Result<S::Response, S::Error> {
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    let future = pin!(service.call(works));
    match future.poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it is ready at once"),
    }
}

fn allocates_nothing<S: Service<bool> + Clone>(mut service: S, limiter: &Limiter) {
    let _warm = drive(&mut service, true);
    let served = allocations(|| (0..1000).for_each(|i| _ = drive(&mut service, i % 10 != 9)));
    assert_eq!(served.count, 0);
    let cloned = allocations(|| (0..100).for_each(|_| _ = drive(&mut service.clone(), true)));
    assert_eq!(cloned.count, 0);
    let held: Vec<_> = std::iter::from_fn(|| limiter.try_acquire().ok()).collect();
    assert!(!held.is_empty());
    let refused = allocations(|| assert!((0..1000).all(|_| drive(&mut service, true).is_err())));
    assert_eq!(refused.count, 0);
}

#[tokio::test(start_paused = true)]
async fn neither_a_call_nor_a_refusal_nor_a_clone_allocates() {
    for limit in [fixed(10), fixed(10).with_reserve(2, Criticality::Critical).unwrap(), adaptive(10)] {
        let layer = BulkheadLayer::new("allocations", limit);
        allocates_nothing(layer.layer(Echo), &layer.limiter());
    }
}

#[tokio::test]
async fn it_goes_where_tower_services_go() {
    let layer = BulkheadLayer::builder("boxed", fixed(1))
        .queue(queue(1))
        .criticality(|n: &u32| (*n == 7).then_some(Criticality::CriticalPlus))
        .build();
    let inner = tower::service_fn(async |n: u32| Ok::<_, BoxError>(n));
    let boxed = tower::util::BoxCloneSyncService::new(layer.layer(inner));
    assert_eq!(tokio::spawn(boxed.oneshot(7)).await.unwrap().unwrap(), 7);
}
