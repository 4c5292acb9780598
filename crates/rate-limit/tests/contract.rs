//! What every layer owes to its caller and to the service inside.

mod figures;

use std::{
    future::{Ready, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{Metric, Observe, Reason, Rejectable, Rejected, Value};
use buttress_rate_limit::{InvalidLimit, InvalidRate, Limit, Rate, RateLimitLayer, RateLimiter};
use buttress_testkit::{
    allocations,
    probe::{self, Backend, BoxError},
};
use figures::gauge;
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn limits(units: u32) -> [Limit; 4] {
    let rate = Rate::per_second(units);
    [
        Limit::sliding_window(rate),
        Limit::sliding_log(rate).unwrap(),
        Limit::gcra(rate, units).unwrap(),
        Limit::fixed_window(rate),
    ]
}

#[tokio::test(start_paused = true)]
async fn it_calls_only_what_is_ready() {
    for limit in limits(1_000) {
        probe::calls_only_ready(RateLimitLayer::new("contract", limit)).await;
        probe::calls_only_ready(RateLimitLayer::builder("contract", limit).wait(SECOND).build()).await;
        probe::calls_only_ready(RateLimitLayer::builder("contract", limit).keyed(|_: &u32| 7).build()).await;
        probe::releases_readiness(RateLimitLayer::new("contract", limit)).await;
        probe::releases_readiness(RateLimitLayer::builder("contract", limit).wait(SECOND).build()).await;
    }
}

/// Where the probe's call has to wait first, for its key and then for all.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_the_queue() {
    for limit in limits(5) {
        let layer = RateLimitLayer::builder("dropped", limit).wait(60 * SECOND).build();
        let limiter = layer.limiter();
        let script = |_: &Backend| {
            while limiter.try_acquire(1).is_ok() {}
        };
        let nobody_waits = |_: &Backend| assert_eq!(gauge(&limiter, "waiting"), 0.0);
        probe::cancel_everywhere(layer, script, nobody_waits).await;

        let layer = RateLimitLayer::builder("dropped", limit)
            .wait(60 * SECOND)
            .keyed(|_: &u32| 7)
            .overall(Rate::try_new(5, 2 * SECOND).unwrap())
            .build();
        let limiter = layer.limiter();
        let script = |_: &Backend| {
            while limiter.try_acquire(&7, 1).is_ok() {}
        };
        let nobody_waits = |_: &Backend| assert_eq!(gauge(&limiter, "waiting"), 0.0);
        probe::cancel_everywhere(layer, script, nobody_waits).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_harms_nobody_else() {
    for limit in limits(1_000) {
        probe::survives_panic(RateLimitLayer::new("panics", limit)).await;
        probe::survives_panic(RateLimitLayer::builder("panics", limit).wait(SECOND).build()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_takes_nothing() {
    let limiter = {
        let layer = RateLimitLayer::builder("panics", Rate::per_second(1))
            .weight(|request: &u32| if *request == 13 { panic!("unlucky") } else { 1 })
            .keyed(|request: &u32| if *request == 12 { panic!("nearly unlucky") } else { 0 })
            .build();
        for bad in [12, 13] {
            let mut service = layer.layer(service_fn(|_: u32| ready(Ok::<_, Rejected>(()))));
            let call = tokio::spawn(async move { service.ready().await.unwrap().call(bad).await });
            assert!(call.await.unwrap_err().is_panic());
        }
        layer.limiter()
    };
    assert_eq!(limiter.quotas(&0)[0].remaining, 1);
    assert!(limiter.try_acquire(&0, 1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn it_refuses_while_the_service_inside_is_not_ready() {
    #[derive(Clone)]
    struct Never;
    impl Service<()> for Never {
        type Response = ();
        type Error = Rejected;
        type Future = Ready<Result<(), Rejected>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
            Poll::Pending
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("it was never ready")
        }
    }
    let layer = RateLimitLayer::new("busy", Rate::per_second(1));
    let mut service = layer.layer(Never);
    assert!(pin!(service.ready()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    layer.limiter().try_acquire(1).unwrap();
    let refused = service.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!(refused.retry_after().unwrap() > SECOND);
    assert!(!refused.sent());
}

#[test]
fn a_call_that_is_let_through_or_refused_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let backend = service_fn(|_: u32| ready(Ok::<u32, Rejected>(1)));
    let cx = &mut Context::from_waker(Waker::noop());
    for limit in limits(1_000) {
        let mut one =
            RateLimitLayer::builder("free", limit).and(Rate::per_hour(1_000_000)).build().layer(backend);
        let mut waits = RateLimitLayer::builder("free", limit).wait(SECOND).build().layer(backend);
        let mut keyed = RateLimitLayer::builder("free", limit).keyed(|key: &u32| *key).build().layer(backend);
        // What was never there before takes its memory.
        for key in 0..10 {
            let _ = pin!(keyed.call(key)).poll(cx);
        }
        let mut warm =
            RateLimitLayer::new("free", Limit::sliding_log(Rate::per_second(2_000)).unwrap()).layer(backend);
        for _ in 0..1_500 {
            let _ = pin!(warm.call(0)).poll(cx);
        }
        let counted = allocations(|| {
            for key in 0..10 {
                assert!(pin!(one.call(key)).poll(cx).is_ready());
                assert!(pin!(waits.call(key)).poll(cx).is_ready());
                if !matches!(limit.algorithm(), buttress_rate_limit::Algorithm::SlidingLog) {
                    assert!(pin!(keyed.call(key)).poll(cx).is_ready());
                }
                assert!(pin!(warm.call(key)).poll(cx).is_ready());
            }
        });
        // A log grows to its limit.
        let log = matches!(limit.algorithm(), buttress_rate_limit::Algorithm::SlidingLog);
        assert!(counted.count == 0 || log, "{limit:?} {counted:?}");
    }
    let limiter = RateLimiter::new("free", Rate::per_second(1));
    let _ = limiter.try_acquire(1);
    assert_eq!(allocations(|| assert!(limiter.try_acquire(1).is_err())).count, 0);
}

#[tokio::test(start_paused = true)]
async fn errors_stay_flat_and_say_who_and_when() {
    let layer = RateLimitLayer::new("flat", Rate::per_second(1));
    let mut service = layer.layer(service_fn(async |_: u32| Ok::<_, BoxError>(())));
    service.ready().await.unwrap().call(1).await.unwrap();
    let error = service.ready().await.unwrap().call(1).await.unwrap_err();
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.layer(), rejected.name()), ("rate-limit", "flat"));
    assert_eq!(
        error.to_string(),
        "rate-limit `flat`: the rate limit is reached; the call was not sent; try again in 1.0s"
    );
}

#[test]
fn refuses_what_cannot_be() {
    assert_eq!(Rate::try_new(0, SECOND), Err(InvalidRate::NoUnits));
    assert_eq!(Rate::try_new(1, Duration::ZERO), Err(InvalidRate::NoTime));
    assert_eq!(Rate::try_new(1, Duration::MAX), Err(InvalidRate::TooLong { period: Duration::MAX }));
    let nano = Duration::from_nanos(1);
    assert_eq!(Rate::try_new(2, nano), Err(InvalidRate::TooFast { units: 2, period: nano }));
    assert_eq!(Limit::gcra(Rate::per_second(1), 0), Err(InvalidLimit::NoBurst));
    assert_eq!(Limit::gcra(Rate::per_hour(1), u32::MAX), Err(InvalidLimit::BurstTooLong { burst: u32::MAX }));
    assert_eq!(
        Limit::sliding_log(Rate::per_second(2_000_000)),
        Err(InvalidLimit::LogTooLong { units: 2_000_000 })
    );
    assert!(std::panic::catch_unwind(|| Rate::per_second(0)).is_err());
    for error in [InvalidLimit::NoBurst.to_string(), InvalidRate::NoUnits.to_string()] {
        assert!(error.contains("would refuse everything"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_weight_that_cannot_fit_is_refused_for_good_and_zero_is_free() {
    for limit in limits(5) {
        let layer =
            RateLimitLayer::builder("weights", limit).wait(60 * SECOND).weight(|units: &u32| *units).build();
        let mut service = layer.layer(service_fn(async |_: u32| Ok::<_, Rejected>(())));
        let began = Instant::now();
        let refused = service.ready().await.unwrap().call(6).await.unwrap_err();
        assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, None));
        assert_eq!(Instant::now(), began);
        service.ready().await.unwrap().call(5).await.unwrap();
        service.ready().await.unwrap().call(0).await.unwrap();
        assert_eq!(Instant::now(), began);
        service.ready().await.unwrap().call(3).await.unwrap();
        // An edge of the fixed window may be near.
        let least = if limit == limits(5)[3] { Duration::ZERO } else { SECOND / 2 };
        assert!(began.elapsed() > least, "{limit:?}");
    }
}

#[test]
fn it_goes_where_tower_services_go() {
    fn everywhere<T: Send + Sync + 'static>(_: &T) {}
    struct NotClone;
    impl Service<u32> for NotClone {
        type Response = ();
        type Error = Rejected;
        type Future = Ready<Result<(), Rejected>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            ready(Ok(()))
        }
    }
    let layer = RateLimitLayer::builder("everywhere", Rate::per_second(1)).keyed(|key: &u32| *key).build();
    // Only who keeps calls waiting needs a clone of the service.
    let mut service = layer.layer(NotClone);
    let future = service.call(1);
    everywhere(&layer);
    everywhere(&layer.limiter());
    everywhere(&service);
    everywhere(&future);
    let waits = RateLimitLayer::builder("everywhere", Rate::per_second(1)).wait(SECOND).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let mut service = waits.layer(service_fn(|_: u32| ready(Ok::<_, Rejected>(()))));
    let (_first, second) = (service.call(1), service.call(2));
    everywhere(&second);
    fn between_threads<T: Send + Sync>(_: T) {}
    between_threads(waits.limiter().acquire(1, SECOND));
}

#[test]
fn it_tells_its_limits_and_nothing_of_the_keys() {
    let key: fn(&()) -> u32 = |()| 7;
    let layer = RateLimitLayer::builder("told", Rate::per_second(3)).keyed(key).build();
    layer.limiter().restrict(&7, 0, SECOND);
    let service = layer.layer(Gate::default());
    for told in [format!("{layer:?}"), format!("{service:?}"), format!("{:?}", layer.limiter())] {
        assert!(told.contains("told") && told.contains("SlidingWindow"), "{told}");
        assert!(!told.contains("seed") && !told.contains("print") && !told.contains("until"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_one_who_was_not_called_does_not_stay() {
    let layer = RateLimitLayer::new("stays", Rate::per_second(1));
    let backend = Gate::default();
    let mut service = layer.layer(backend.clone());
    layer.limiter().try_acquire(1).unwrap();
    // Ready to refuse; but by the next time there is a unit, and the service is ready.
    service.ready().await.unwrap();
    advance(2 * SECOND).await;
    assert!(pin!(service.ready()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    backend.0.store(true, Relaxed);
    service.ready().await.unwrap().call(()).await.unwrap();
    // A clone does not inherit it.
    backend.0.store(false, Relaxed);
    service.ready().await.unwrap();
    advance(2 * SECOND).await;
    let mut clone = service.clone();
    assert!(pin!(clone.ready()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(service.call(()).await.is_err(), "it was ready to refuse, and to nothing else");
    assert_eq!(layer.limiter().quotas()[0].remaining, 1);
}

/// Ready when it is told, and only then called.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<AtomicBool>);

impl Service<()> for Gate {
    type Response = ();
    type Error = Rejected;
    type Future = Ready<Result<(), Rejected>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        if self.0.load(Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
    fn call(&mut self, (): ()) -> Self::Future {
        assert!(self.0.load(Relaxed));
        ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn several_limits_are_taken_together_or_not_at_all() {
    let layer = RateLimitLayer::builder("both", Rate::per_second(2)).and(Rate::per_minute(3)).build();
    let limiter = layer.limiter();
    assert!(limiter.try_acquire(2).is_ok());
    assert!(limiter.try_acquire(1).unwrap_err().retry_after().unwrap() < 2 * SECOND);
    assert_eq!(limiter.quotas()[1].remaining, 1, "what was refused took nothing");
    advance(2 * SECOND).await;
    assert!(limiter.try_acquire(1).is_ok());
    // There is one of the second, and none of the minute.
    let after = limiter.try_acquire(1).unwrap_err().retry_after().unwrap();
    assert!(after > 57 * SECOND, "{after:?}");
    assert_eq!(limiter.quotas()[0].remaining, 1);
    advance(after).await;
    assert!(limiter.try_acquire(1).is_ok());
    assert_eq!(limiter.limits().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_handle_tells_its_figures() {
    let limiter = RateLimiter::new("figures", Rate::per_second(3));
    limiter.try_acquire(2).unwrap();
    let _ = limiter.try_acquire(2);
    let mut seen = Vec::new();
    limiter.observe(&mut |metric| seen.push(metric));
    assert_eq!(
        seen,
        [
            Metric::new("waiting", Value::Gauge(0.0)),
            Metric::new("remaining", Value::Gauge(1.0)),
            Metric::new("restricted", Value::Gauge(0.0)),
            Metric::new("rejections", Value::Counter(1)).with_label("reason", "rate_limited"),
        ]
    );
    assert!(format!("{limiter:?}").contains("figures"));
}

#[tokio::test(start_paused = true)]
async fn a_server_restricts_its_client() {
    let limiter = RateLimiter::new("restricted", Rate::per_second(100));
    limiter.restrict(2, 10 * SECOND);
    assert!(limiter.try_acquire(1).is_ok());
    assert!(limiter.try_acquire(2).is_err());
    assert!(limiter.try_acquire(1).is_ok());
    let refused = limiter.try_acquire(1).unwrap_err();
    assert_eq!(refused.retry_after(), Some(10 * SECOND));
    let quota = limiter.quotas()[0];
    assert_eq!((quota.remaining, quota.reset_after), (0, 10 * SECOND));
    assert_eq!(quota.restricted_for, Some(10 * SECOND));
    assert!((gauge(&limiter, "restricted") - 1.0).abs() < f64::EPSILON);
    // One who waits is told as soon as he cannot be in time, and else waits until then.
    let (impatient, patient) = (limiter.clone(), limiter.clone());
    let impatient = tokio::spawn(async move { impatient.acquire(1, 15 * SECOND).await });
    let patient = tokio::spawn(async move { patient.acquire(1, 60 * SECOND).await });
    tokio::task::yield_now().await;
    let began = Instant::now();
    limiter.restrict(0, 20 * SECOND);
    assert_eq!(impatient.await.unwrap().unwrap_err().retry_after(), Some(20 * SECOND));
    assert_eq!(Instant::now(), began);
    assert!(patient.await.unwrap().is_ok());
    assert_eq!(began.elapsed(), 20 * SECOND);
    assert_eq!(gauge(&limiter, "waiting"), 0.0);
    assert!(limiter.try_acquire(50).is_ok(), "after that, the limit is its own again");
}
