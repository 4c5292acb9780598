//! Who is in the rotation, in virtual time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_balance::{Balance, Ejection, Endpoint, EndpointSnapshot, State};
use buttress_core::{Metric, Observe, Origin, Outcome, Reason, Value};
use tokio::time::{advance, sleep, timeout};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What an endpoint does, to be changed.
#[derive(Clone)]
struct Scripted {
    /// In percent.
    fails: Arc<AtomicU32>,
    takes_ms: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

type Boxed = BoxCloneSyncService<(), (), io::Error>;

impl Scripted {
    fn new() -> Self {
        Self { fails: Arc::default(), takes_ms: Arc::new(AtomicU64::new(10)), calls: Arc::default() }
    }

    fn endpoint(&self) -> Endpoint<Boxed> {
        let this = self.clone();
        Endpoint::new(BoxCloneSyncService::new(service_fn(move |()| {
            let this = this.clone();
            async move {
                this.calls.fetch_add(1, Relaxed);
                sleep(Duration::from_millis(this.takes_ms.load(Relaxed))).await;
                if fastrand::u32(..100) < this.fails.load(Relaxed) {
                    Err(io::Error::other("broken"))
                } else {
                    Ok(())
                }
            }
        })))
    }

    fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }
}

fn scripted<const N: usize>() -> [Scripted; N] {
    std::array::from_fn(|_| Scripted::new())
}

fn over(name: &str, ejection: Ejection, endpoints: &[Scripted]) -> Balance<usize, Boxed> {
    let endpoints = endpoints.iter().map(Scripted::endpoint).enumerate();
    Balance::builder(name).ejection(ejection).slow_start(Duration::ZERO).build(endpoints)
}

fn endpoint(balance: &Balance<usize, Boxed>, key: usize) -> EndpointSnapshot<usize> {
    balance.balancer().snapshot().endpoints.into_iter().find(|endpoint| endpoint.key == key).unwrap()
}

/// So many clients, one call after the other, for so long; returns how many of them failed.
async fn load(balance: &Balance<usize, Boxed>, clients: usize, time: Duration) -> u64 {
    let failed = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let (balance, failed) = (balance.clone(), Arc::clone(&failed));
            tokio::spawn(timeout(time, async move {
                loop {
                    failed.fetch_add(u64::from(balance.clone().oneshot(()).await.is_err()), Relaxed);
                }
            }))
        })
        .collect();
    for client in clients {
        _ = client.await.unwrap();
    }
    failed.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject_and_one_more_after_its_time_ejects_for_longer() {
    let endpoints = scripted::<2>();
    endpoints[0].fails.store(100, Relaxed);
    endpoints[0].takes_ms.store(0, Relaxed);
    let balance = over("in-a-row", Ejection::default(), &endpoints);
    load(&balance, 8, 5 * SECOND).await;
    let State::Ejected { left } = endpoint(&balance, 0).state else { panic!("{balance:?}") };
    assert!((24 * SECOND..34 * SECOND).contains(&left), "{left:?}");
    let (calls, all) = (endpoints[0].calls(), endpoints[0].calls() + endpoints[1].calls());
    assert!(calls * 50 < all, "{calls} of {all}");
    load(&balance, 8, 10 * SECOND).await;
    assert_eq!(endpoints[0].calls(), calls, "none while it is out");

    // The eight that were sent before the first of them came back count as one trial.
    sleep(left).await;
    assert_eq!(endpoint(&balance, 0).state, State::InRotation);
    load(&balance, 8, SECOND).await;
    let State::Ejected { left } = endpoint(&balance, 0).state else { panic!("it passed its trial") };
    assert!((58 * SECOND..66 * SECOND).contains(&left), "{left:?}");
    assert_eq!(endpoint(&balance, 0).ejections, 2);

    endpoints[0].fails.store(0, Relaxed);
    endpoints[0].takes_ms.store(10, Relaxed);
    sleep(left).await;
    assert_eq!(load(&balance, 8, 10 * SECOND).await, 0);
    assert_eq!(endpoint(&balance, 0).state, State::InRotation);
    assert!(endpoint(&balance, 0).successes > 1_000);
}

#[tokio::test(start_paused = true)]
async fn the_last_one_is_never_ejected() {
    let endpoints = scripted::<3>();
    endpoints.iter().for_each(|endpoint| endpoint.fails.store(100, Relaxed));
    let share = Ejection::try_new(2, 30 * SECOND, 1.0).unwrap();
    let balance = over("all-bad", share, &endpoints);
    load(&balance, 8, 5 * SECOND).await;
    let snapshot = balance.balancer().snapshot();
    let left = snapshot.endpoints.iter().filter(|endpoint| endpoint.state == State::InRotation).count();
    assert_eq!(left, 1);
    assert!(snapshot.panic, "one of three");
    let before: Vec<u64> = endpoints.iter().map(Scripted::calls).collect();
    load(&balance, 8, 5 * SECOND).await;
    assert!(endpoints.iter().zip(before).all(|(endpoint, before)| endpoint.calls() > before), "all are used");

    let off = over("off", Ejection::off(), &endpoints);
    load(&off, 8, 5 * SECOND).await;
    assert!(off.balancer().snapshot().endpoints.iter().all(|endpoint| endpoint.state == State::InRotation));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_more_than_its_peers_is_found_by_its_success_rate() {
    let endpoints = scripted::<5>();
    let rate = |at: usize, fails| endpoints[at].fails.store(fails, Relaxed);
    rate(3, 30);
    let never = Ejection::try_new(1_000, 30 * SECOND, 0.5).unwrap();
    let balance = Balance::builder("rates")
        .ejection(never)
        // So that the failing one gets its hundred calls, none of which is worth more than another.
        .classify(
            |result: &Result<(), io::Error>| if result.is_ok() { Outcome::Success } else { Outcome::Failure },
        )
        .build(endpoints.iter().map(Scripted::endpoint).enumerate());
    let ejected =
        || balance.balancer().snapshot().endpoints.iter().filter(|it| it.state != State::InRotation).count();
    for _ in 0..11 {
        assert_eq!(ejected(), 0);
        let calls: Vec<_> = (0..700).map(|_| tokio::spawn(balance.clone().oneshot(()))).collect();
        for call in calls {
            _ = call.await.unwrap();
        }
        advance(SECOND).await;
        if ejected() > 0 {
            break;
        }
    }
    let found: Vec<_> = balance
        .balancer()
        .snapshot()
        .endpoints
        .into_iter()
        .filter(|it| it.state != State::InRotation)
        .collect();
    assert_eq!(found.iter().map(|it| it.key).collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn by_hand_it_is_out_until_it_is_restored_and_panic_uses_all() {
    let endpoints = scripted::<3>();
    let balance = over("by-hand", Ejection::default(), &endpoints);
    let handle = balance.balancer();
    assert!(!handle.eject(&9) && !handle.restore(&9));
    assert!(handle.eject(&0));
    load(&balance, 4, 5 * SECOND).await;
    assert_eq!(endpoints[0].calls(), 0);
    assert_eq!(endpoint(&balance, 0).state, State::EjectedByHand);
    assert!(handle.eject(&1) && handle.snapshot().panic);
    load(&balance, 4, 5 * SECOND).await;
    assert!(endpoints[0].calls() > 0 && endpoints[1].calls() > 0);
    assert!(handle.restore(&1) && !handle.snapshot().panic);
    let calls = endpoints[0].calls();
    load(&balance, 4, 5 * SECOND).await;
    assert_eq!(endpoints[0].calls(), calls);
    assert!(handle.restore(&0));
    load(&balance, 4, 5 * SECOND).await;
    assert!(endpoints[0].calls() > calls);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_endpoints_own_is_no_failure_and_steers_away() {
    let origin = Origin::new("circuit-breaker", "one-of-two");
    let refuses = BoxCloneSyncService::new(service_fn(move |()| async move {
        Err::<(), io::Error>(origin.reject(Reason::CircuitOpen).with_retry_after(3 * SECOND).into())
    }));
    let well = Scripted::new();
    let balance = Balance::builder("steers").build([(0, Endpoint::new(refuses)), (1, well.endpoint())]);
    assert!(load(&balance, 4, 2 * SECOND).await <= 4, "those that were sent before the first refusal");
    let before = origin.rejections(Reason::CircuitOpen);
    assert!(before > 0);
    sleep(SECOND).await;
    load(&balance, 4, 3 * SECOND).await;
    assert!(origin.rejections(Reason::CircuitOpen) > before, "it is asked again when its time is up");
    let refused = endpoint(&balance, 0);
    assert_eq!((refused.state, refused.failures, refused.successes), (State::InRotation, 0, 0));
}

/// One that never answers looks slow, although its calls end by their callers' patience.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_left_though_its_calls_are_dropped() {
    let endpoints = scripted::<3>();
    endpoints[0].takes_ms.store(3_600_000, Relaxed);
    let balance = over("hangs", Ejection::default(), &endpoints);
    let client = |calls: usize| {
        let balance = balance.clone();
        async move {
            for _ in 0..calls {
                _ = timeout(200 * MS, balance.clone().oneshot(())).await;
            }
        }
    };
    let clients: Vec<_> = (0..16).map(|_| tokio::spawn(client(500))).collect();
    for client in clients {
        client.await.unwrap();
    }
    assert!(endpoints[0].calls() < 16 * 500 / 100, "{}", endpoints[0].calls());
    assert_eq!(endpoint(&balance, 0).pending, 0);
}

#[tokio::test(start_paused = true)]
async fn figures_say_what_the_handle_knows() {
    let endpoints = scripted::<4>();
    endpoints[2].fails.store(100, Relaxed);
    let balance = over("figures", Ejection::default(), &endpoints);
    load(&balance, 64, 5 * SECOND).await;
    balance.balancer().eject(&0);
    let mut seen = Vec::new();
    balance.balancer().observe(&mut |metric| seen.push(metric));
    for (name, value) in [
        ("endpoints", Value::Gauge(4.0)),
        ("in_rotation", Value::Gauge(2.0)),
        ("ejected", Value::Gauge(1.0)),
        ("pending", Value::Gauge(0.0)),
        ("panic", Value::Gauge(0.0)),
        ("ejections", Value::Counter(1)),
    ] {
        assert!(seen.contains(&Metric::new(name, value)), "{name}: {seen:?}");
    }
    assert_eq!(balance.balancer().origin(), Origin::new("balance", "figures"));
    let latency = endpoint(&balance, 1).latency.unwrap();
    assert!((9 * MS..12 * MS).contains(&latency), "{latency:?}");
}
