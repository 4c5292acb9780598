//! What the traffic knows.

use std::{
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::{Metric, Observe, Value};
use buttress_health::{Health, Part, Probe, State, Status};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// As a TCP probe of a process that is wedged.
fn says_well() -> Probe {
    Probe::from_fn(|| ready(Status::Well))
}

fn state(health: &Health) -> State {
    health.report().parts()[0].state
}

#[tokio::test(start_paused = true)]
async fn down_by_the_traffic_is_down_whatever_the_probe_says() {
    let wedged = Arc::new(AtomicBool::new(false));
    let says = wedged.clone();
    let part = Part::new("stock", says_well())
        .critical()
        .passive(move || Status::down_if(says.load(SeqCst), "nothing is answered"));
    let health = Health::builder().part(part).start().unwrap();
    health.wait_ready(SECOND).await.unwrap();

    wedged.store(true, SeqCst);
    let report = health.report();
    assert!(!report.is_ready(), "seen by whoever asks, at once");
    assert_eq!(report.parts()[0].cause.as_ref().unwrap().as_str(), "nothing is answered");
    sleep(100 * SECOND).await;
    assert_eq!(state(&health), State::Down, "though the probe is well");
    wedged.store(false, SeqCst);
    assert_eq!(state(&health), State::Up);

    let mut watch = health.watch();
    wedged.store(true, SeqCst);
    let begun = Instant::now();
    assert!(!watch.changed().await.unwrap().is_ready(), "seen by whoever watches, at the next tick");
    assert!(begun.elapsed() <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_line_for_a_breaker_does_not_lock_itself_out() {
    let breaker = CircuitBreakerLayer::new("locks_itself_out").breaker();
    let seen = breaker.clone();
    let part = Part::new("stock", says_well()).critical().passive(move || {
        Status::down_if(seen.snapshot().retry_after > Some(Duration::ZERO), "the circuit breaker is open")
    });
    let health = Health::builder().part(part).start().unwrap();
    health.wait_ready(SECOND).await.unwrap();
    while breaker.call(async || Err::<(), _>(io::Error::other("wedged"))).await.is_err() {
        if breaker.state() == buttress_circuit_breaker::State::Open {
            break;
        }
    }
    assert!(!health.report().is_ready());
    // No call comes, since the process is not ready: the breaker's state alone would stay open for ever.
    health.wait_ready(1000 * SECOND).await.unwrap();
    assert_eq!(breaker.state(), buttress_circuit_breaker::State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_part_without_a_probe_is_what_its_signal_says() {
    let level = Arc::new(AtomicUsize::new(2));
    let says = level.clone();
    let part = Part::passive_only("queue", move || match says.load(SeqCst) {
        0 => Status::Well,
        1 => Status::degraded("half full"),
        2 => Status::down("full"),
        _ => panic!("hunter2"),
    });
    let health = Health::builder().part(part.critical()).start().unwrap();
    assert_eq!(state(&health), State::Down);
    for (at, expected) in [(0, State::Up), (1, State::Degraded), (3, State::Down), (0, State::Up)] {
        level.store(at, SeqCst);
        assert_eq!(state(&health), expected);
    }
    level.store(3, SeqCst);
    let mut watch = health.watch();
    let report = watch.changed().await.unwrap();
    assert_eq!(report.parts()[0].cause.as_ref().unwrap().as_str(), "the passive signal panicked");
    level.store(0, SeqCst);
    assert!(watch.changed().await.unwrap().is_ready(), "the loop goes on");
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_asks_its_own_health_does_not_wait_for_itself() {
    let slot: Arc<std::sync::OnceLock<Health>> = Arc::default();
    let own = slot.clone();
    let part = Part::passive_only("curious", move || {
        Status::down_if(own.get().is_some_and(|health| !health.report().is_live()), "not live")
    });
    let health = Health::builder().part(part).start().unwrap();
    slot.set(health.clone()).unwrap();
    assert_eq!(state(&health), State::Up);
    health.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_in_one_row_with_probes() {
    let probes = Arc::new(AtomicUsize::new(0));
    let count = probes.clone();
    let probe = Probe::from_fn(move || {
        count.fetch_add(1, SeqCst);
        ready(Status::Well)
    });
    let health = Health::builder().part(Part::new("stock", probe).critical()).start().unwrap();
    assert!(health.signal("nobody").is_none());
    let signal = health.signal("stock").unwrap();
    health.wait_ready(SECOND).await.unwrap();
    assert_eq!(probes.load(SeqCst), 1);

    signal.failed("broken pipe");
    sleep(5 * SECOND / 2).await;
    assert_eq!(probes.load(SeqCst), 2, "a failure has it probed at the pace of a recheck");

    for _ in 0..2 {
        signal.failed("broken pipe");
        signal.failed("broken pipe");
        signal.succeeded();
    }
    assert_eq!(state(&health), State::Up, "never three in a row");
    for _ in 0..3 {
        signal.failed("broken\npipe");
    }
    let report = health.report();
    assert!(!report.is_ready());
    assert_eq!(report.parts()[0].cause.as_ref().unwrap().as_str(), r"broken\npipe");
    signal.failed("once more");
    health.wait_ready(5 * SECOND).await.expect("two probes heal it");
    for _ in 0..3 {
        signal.failed("broken pipe");
    }
    signal.succeeded();
    signal.failed("and again");
    signal.succeeded();
    assert_eq!(state(&health), State::Down);
    signal.succeeded();
    assert_eq!(state(&health), State::Up);
}

#[tokio::test(start_paused = true)]
async fn figures_are_given_when_asked() {
    let probe = Probe::from_fn(|| async {
        sleep(SECOND / 4).await;
        Status::down("never")
    });
    let hangs = Probe::from_fn(std::future::pending::<Status>);
    let health = Health::builder()
        .name("figures")
        .part(Part::new("bad", probe))
        .part(Part::new("hangs", hangs))
        .part(Part::passive_only("quiet", || Status::degraded("a bit")))
        .start()
        .unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(health.origin().name(), "figures");
    let mut seen: Vec<Metric> = Vec::new();
    health.observe(&mut |metric| seen.push(metric));
    let value = |name, part: Option<&str>| {
        seen.iter().find(|it| it.name == name && it.label.map(|(_, value)| value) == part).unwrap().value
    };
    assert_eq!(value("ready", None), Value::Gauge(1.0));
    assert_eq!(value("live", None), Value::Gauge(1.0));
    assert_eq!(value("up", Some("bad")), Value::Gauge(0.0));
    assert_eq!(value("probes", Some("bad")), Value::Counter(2));
    assert_eq!(value("probe_failures", Some("bad")), Value::Counter(2));
    assert_eq!(value("probe_timeouts", Some("bad")), Value::Counter(0));
    assert_eq!(value("probe_duration", Some("bad")), Value::Gauge(0.25));
    assert_eq!(value("probe_timeouts", Some("hangs")), Value::Counter(1));
    assert_eq!(value("degraded", Some("quiet")), Value::Gauge(1.0));
    assert_eq!(value("up", Some("quiet")), Value::Gauge(1.0));
    assert!(!seen.iter().any(|it| it.name == "probes" && it.label == Some(("part", "quiet"))));
}
