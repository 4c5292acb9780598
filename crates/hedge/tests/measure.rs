//! The delay that goes by what calls take, in virtual time.

mod script;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Deadline;
use buttress_hedge::{Budget, CloneRequest, HedgeLayer, Percentile};
use script::{End, Failure, MS, SECOND, Script, figure, judge};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A backend whose attempts take what the function says, independently of each other.
fn backend(
    draw: impl Fn(&mut fastrand::Rng) -> (Duration, End) + Send + Sync + Clone + 'static,
) -> impl Service<(), Response = usize, Error = Failure, Future: Send> + Clone {
    let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(1)));
    service_fn(move |()| {
        let (takes, end) = draw(&mut rng.lock().unwrap());
        async move {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            end.result(0)
        }
    })
}

fn layer(name: &str) -> HedgeLayer<CloneRequest> {
    HedgeLayer::new(name, CloneRequest).budget(Budget::unlimited())
}

/// Exponential with a mean of 100 ms: the 95th percentile is 300 ms.
fn exponential(rng: &mut fastrand::Rng) -> (Duration, End) {
    (SECOND.mul_f64(0.1 * -rng.f64().max(1e-9).ln()), End::Answers)
}

/// The delay is measured on calls of which the slow ones are given up for a hedge. If those were not counted, the
/// percentile would fall, and more and more calls would be hedged.
#[tokio::test(start_paused = true)]
async fn the_share_of_hedged_calls_is_what_the_percentile_says() {
    let layer = layer("share");
    let service = layer.layer(backend(exponential));
    for _ in 0..20_000 {
        service.clone().oneshot(()).await.unwrap();
    }
    let hedged = figure(&layer.hedger(), "hedges") / figure(&layer.hedger(), "calls");
    assert!((0.04..0.06).contains(&hedged), "{hedged}");
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.25..0.35).contains(&delay), "{delay}");
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_fast_do_not_make_the_backend_look_fast() {
    let layer = layer("fast_failures").classify(judge::<usize>);
    let most_fail = |rng: &mut fastrand::Rng| {
        if rng.u32(..20) > 0 {
            let end = [End::Broken, End::NotFound, End::Busy, End::Refused][rng.usize(..4)];
            return (rng.u32(..2) * MS, end);
        }
        (rng.u32(50..100) * MS, End::Answers)
    };
    let service = layer.layer(backend(most_fail));
    for _ in 0..20_000 {
        let _ = service.clone().oneshot(()).await;
    }
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.095..0.108).contains(&delay), "{delay}");
}

/// A limit for each attempt inside: what it cuts off fails, and is slow.
#[tokio::test(start_paused = true)]
async fn a_backend_that_only_times_out_does_not_look_fast() {
    let layer = layer("slow_failures").budget(Budget::default()).classify(judge::<usize>);
    let service = layer.layer(backend(|_| (10 * MS, End::Answers)));
    for _ in 0..500 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert!(figure(&layer.hedger(), "delay") < 0.011);

    let service = layer.layer(backend(|_| (300 * MS, End::TimedOut)));
    for _ in 0..500 {
        service.clone().oneshot(()).await.unwrap_err();
    }
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.300..0.320).contains(&delay), "{delay}");
}

/// They take exactly the percentile, which is told a bit too long: it must not seem that they are in time.
#[tokio::test(start_paused = true)]
async fn a_tenth_that_times_out_keeps_the_delay_where_it_is() {
    let layer = layer("steady_failures").budget(Budget::try_new(0.01, 0, 10 * SECOND).unwrap());
    let service = layer.layer(backend(|rng| {
        if rng.u32(..10) == 0 { (300 * MS, End::TimedOut) } else { (10 * MS, End::Answers) }
    }));
    for call in 0..3000 {
        let _ = service.clone().oneshot(()).await;
        let delay = figure(&layer.hedger(), "delay");
        assert!(call < 2000 || (0.300..0.320).contains(&delay), "{delay} after {call} calls");
    }
}

/// Until it lost, however long the future of the call lives on.
#[tokio::test(start_paused = true)]
async fn who_lost_to_a_hedge_counts_as_slow_until_then() {
    let layer = layer("lost").attempts(2);
    let layer = layer.delay(Percentile::default().until_measured(20 * MS));
    for _ in 0..100 {
        let script = Script::of([(1000, End::Answers), (10, End::Answers)]);
        let mut call = Box::pin(layer.layer(script).call(()));
        assert_eq!(call.as_mut().await, Ok(1));
        sleep(SECOND).await;
    }
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.030..0.032).contains(&delay), "{delay}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_the_caller_gave_up_count_as_slow() {
    let layer = layer("given_up").attempts(2);
    let service = layer.layer(backend(exponential));
    let mut ended = 0;
    for _ in 0..5000 {
        // The slowest 22 % of what would be answered; of the others the 95th percentile is 138 ms.
        let call = tokio::time::timeout(150 * MS, service.clone().oneshot(()));
        ended += u32::from(call.await.is_ok());
    }
    assert!((3700..4100).contains(&ended), "{ended}");
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.150..0.165).contains(&delay), "{delay}");
}

/// A client that hangs up early says nothing about the backend.
#[tokio::test(start_paused = true)]
async fn calls_that_were_dropped_before_they_were_slow_count_for_nothing() {
    let layer = layer("dropped_early");
    let service = layer.layer(backend(|_| (80 * MS, End::Answers)));
    for call in 0..8000 {
        if call % 40 == 0 {
            service.clone().oneshot(()).await.unwrap();
        } else {
            assert!(tokio::time::timeout(5 * MS, service.clone().oneshot(())).await.is_err());
        }
    }
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.080..=0.085).contains(&delay), "{delay}");
}

#[tokio::test(start_paused = true)]
async fn until_it_is_measured_the_first_delay_holds_and_then_the_bounds() {
    let percentile = Percentile::default().between(20 * MS, 50 * MS).unwrap().until_measured(700 * MS);
    for (takes, bounded) in [(5, 0.020), (30, 0.030), (400, 0.050)] {
        let layer = layer("bounds").delay(percentile);
        let delay = || figure(&layer.hedger(), "delay");
        let service = layer.layer(backend(move |_| (takes * MS, End::Answers)));
        for _ in 0..99 {
            service.clone().oneshot(()).await.unwrap();
            assert_eq!(delay(), 0.7);
        }
        service.oneshot(()).await.unwrap();
        assert!((bounded..bounded * 1.05).contains(&delay()), "{} for {takes} ms", delay());
        assert_eq!(figure(&layer.hedger(), "hedges"), 0.0);
    }
}

/// Those that may not be hedged can be of another kind: exports among look-ups, or what is refused at once.
#[tokio::test(start_paused = true)]
async fn only_what_may_be_hedged_is_measured() {
    let only_small = |request: &u32| (*request < 100).then_some(*request);
    let layer = HedgeLayer::new("kinds", only_small).budget(Budget::unlimited());
    let service = layer.layer(service_fn(|takes: u32| async move {
        if takes < 1000 {
            sleep(takes * MS).await;
        }
        Ok::<_, Failure>(())
    }));
    let kinds = [10, 500].into_iter().chain([1000; 28]);
    for request in kinds.cycle().take(6000) {
        service.clone().oneshot(request).await.unwrap();
    }
    let figures = ["calls", "hedges"].map(|name| figure(&layer.hedger(), name));
    assert_eq!(figures, [6000.0, 0.0]);
    let delay = figure(&layer.hedger(), "delay");
    assert!((0.010..=0.012).contains(&delay), "{delay}");
}

/// One in thirty waits: the 95th percentile of all calls is no time at all, which the lower bound makes a millisecond.
#[tokio::test(start_paused = true)]
async fn calls_that_are_ready_at_once_count_as_well() {
    let layer = layer("at_once");
    let inner = backend(|rng| (if rng.u32(..30) == 0 { 40 * MS } else { Duration::ZERO }, End::Answers));
    let service = layer.layer(inner);
    for _ in 0..5000 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!(figure(&layer.hedger(), "delay"), 0.001);
    assert_eq!(figure(&layer.hedger(), "calls"), 5000.0);
}

/// A hedge takes as long as half of the calls do, if all goes well.
#[tokio::test(start_paused = true)]
async fn no_hedge_starts_where_half_of_the_calls_would_end_too_late() {
    let layer = layer("median");
    // 100 ms, or 200 ms for a tenth of them: the delay is 200 ms, and half of the calls take 100 ms.
    let service =
        layer.layer(backend(|rng| (if rng.u32(..10) == 0 { 200 * MS } else { 100 * MS }, End::Answers)));
    for _ in 0..1000 {
        service.clone().oneshot(()).await.unwrap();
    }
    let delay = Duration::from_secs_f64(figure(&layer.hedger(), "delay"));
    assert!((200 * MS..=213 * MS).contains(&delay), "{delay:?}");

    for (left, expected) in [(60, 1), (95, 1), (110, 2)] {
        let script = Script::of([(1000, End::Answers), (10, End::Answers)]);
        let calls = Arc::new(AtomicU32::new(0));
        let inner = {
            let (calls, script) = (Arc::clone(&calls), script);
            service_fn(move |()| {
                calls.fetch_add(1, Relaxed);
                script.attempt()
            })
        };
        let call = layer.layer(inner).oneshot(());
        Deadline::at(Instant::now() + delay + left * MS).scope(call).await.unwrap();
        assert_eq!(calls.load(Relaxed), expected, "with {left} ms left");
    }
}
