//! The loops in virtual time.

use std::{
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_health::{Health, Part, Probe, State, Status};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// What a probe answers, which the test can change.
#[derive(Clone)]
struct Dial(Arc<Mutex<Status>>);

impl Dial {
    fn new(status: Status) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    fn set(&self, status: Status) {
        *self.0.lock().unwrap() = status;
    }

    fn probe(&self) -> Probe {
        let dial = self.clone();
        Probe::from_fn(move || ready(dial.0.lock().unwrap().clone()))
    }
}

fn state(health: &Health, part: &str) -> State {
    health.report().part(part).unwrap().state
}

fn cause(health: &Health, part: &str) -> String {
    health.report().part(part).unwrap().cause.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Waits for a change after which this holds, and tells how long that took.
async fn until(health: &Health, holds: impl Fn(&Health) -> bool) -> Duration {
    let begun = Instant::now();
    let mut watch = health.watch();
    while !holds(health) {
        timeout(1000 * SECOND, watch.changed()).await.expect("a change").expect("the health runs");
    }
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_first_result_comes_before_ready() {
    let answers = Dial::new(Status::Well);
    let slow = answers.clone();
    let health = Health::builder()
        .part(
            Part::new(
                "db",
                Probe::from_fn(move || {
                    let slow = slow.clone();
                    async move {
                        sleep(SECOND).await;
                        slow.0.lock().unwrap().clone()
                    }
                }),
            )
            .critical(),
        )
        .start()
        .unwrap();
    let report = health.report();
    assert!(report.is_live() && !report.is_ready() && !report.is_started());
    assert_eq!(state(&health, "db"), State::Unknown);
    let error = health.wait_ready(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error.to_string(), "not ready: db is unknown");
    health.wait_ready(SECOND).await.unwrap();
    assert!(health.report().is_started());
}

#[tokio::test(start_paused = true)]
async fn a_first_failure_counts_at_once_and_startup_stays_true() {
    let dial = Dial::new(Status::down("not there yet"));
    let health = Health::builder().part(Part::new("db", dial.probe()).critical()).start().unwrap();
    until(&health, |health| state(health, "db") == State::Down).await;
    assert!(!health.report().is_started());
    dial.set(Status::Well);
    let up = until(&health, |health| health.report().is_ready()).await;
    assert!(up <= 4 * SECOND, "two successes, each after a recheck: {up:?}");
    dial.set(Status::down("gone"));
    until(&health, |health| !health.report().is_ready()).await;
    assert!(health.report().is_started() && health.report().is_live());
}

#[tokio::test(start_paused = true)]
async fn down_is_seen_within_two_intervals_and_one_failure_is_nothing() {
    let dial = Dial::new(Status::Well);
    let health = Health::builder().part(Part::new("db", dial.probe()).critical()).start().unwrap();
    health.wait_ready(SECOND).await.unwrap();
    sleep(17 * SECOND).await;

    let mut watch = health.watch();
    dial.set(Status::down("refused"));
    let begun = Instant::now();
    assert!(!watch.changed().await.unwrap().is_ready());
    let took = begun.elapsed();
    assert!(took <= 20 * SECOND, "{took:?}");
    assert!(took >= 2 * 2 * SECOND.mul_f64(0.9), "three failures, not the first one: {took:?}");
    assert_eq!(cause(&health, "db"), "refused");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_cut_at_its_timeout_and_dropped() {
    struct Running(Arc<AtomicUsize>);
    impl Drop for Running {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let running = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (count, seen) = (running.clone(), most.clone());
    let probe = Probe::from_fn(move || {
        let now = count.fetch_add(1, SeqCst) + 1;
        seen.fetch_max(now, SeqCst);
        let guard = Running(count.clone());
        async move {
            let _guard = guard;
            pending::<Status>().await
        }
    });
    // The timeout is longer than the recheck of 2 s.
    let part = Part::new("hangs", probe).interval(12 * SECOND).timeout(4 * SECOND);
    let health = Health::builder().part(part).start().unwrap();
    let took = until(&health, |health| state(health, "hangs") == State::Down).await;
    assert_eq!(took, 4 * SECOND);
    assert_eq!(cause(&health, "hangs"), "no answer within 4s");
    sleep(100 * SECOND).await;
    assert_eq!(most.load(SeqCst), 1, "probes of one part never overlap");

    assert_eq!(running.load(SeqCst), 1, "it is asked again and again");
    health.shutdown().await;
    assert_eq!(running.load(SeqCst), 0, "no probe is left");
}

#[tokio::test(start_paused = true)]
async fn panics_are_failures_wherever_they_happen() {
    struct DropPanics;
    impl Drop for DropPanics {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let begun = Arc::new(AtomicUsize::new(0));
    let count = begun.clone();
    let turns = Probe::from_fn(move || {
        let turn = count.fetch_add(1, SeqCst);
        assert!(turn != 0, "hunter2, before there is a future");
        let bomb = (turn == 2).then(|| DropPanics);
        async move {
            assert!(turn != 1, "hunter2, in the future");
            if let Some(bomb) = bomb {
                let _held = bomb;
                pending::<()>().await;
            }
            Status::Well
        }
    });
    let health = Health::builder().part(Part::new("bomb", turns)).start().unwrap();
    until(&health, |health| state(health, "bomb") == State::Down).await;
    assert_eq!(cause(&health, "bomb"), "the probe panicked", "and nothing of what it said");
    until(&health, |health| state(health, "bomb") == State::Up).await;
    assert!(begun.load(SeqCst) >= 5, "two panics, one that hangs, and two that are well");
    assert!(
        health
            .history()
            .iter()
            .all(|change| !change.cause.as_ref().is_some_and(|it| it.as_str().contains("hunter2")))
    );
}

#[tokio::test(start_paused = true)]
async fn the_loops_end_with_shutdown_and_with_the_last_handle() {
    let health = Health::builder().part(Part::new("db", Dial::new(Status::Well).probe())).start().unwrap();
    let held = Arc::new(());
    let probe = || {
        let held = held.clone();
        Probe::from_fn(move || {
            let held = held.clone();
            async move {
                sleep(SECOND).await;
                drop(held);
                Status::Well
            }
        })
    };
    drop(health);

    let health = Health::builder()
        .part(Part::new("a", probe()).critical())
        .part(Part::new("b", probe()))
        .start()
        .unwrap();
    sleep(SECOND / 2).await;
    assert_eq!(Arc::strong_count(&held), 5, "two probes, and both run");
    tokio::join!(health.shutdown(), health.shutdown());
    assert_eq!(Arc::strong_count(&held), 1, "no loop is left");
    let report = health.report();
    assert!(!report.is_ready() && report.is_live() && report.is_shutting_down());
    health.shutdown().await;
    let begun = Instant::now();
    let error = health.wait_ready(SECOND).await.unwrap_err();
    assert_eq!(error.to_string(), "not ready: a shutdown has begun");
    assert_eq!(begun.elapsed(), Duration::ZERO, "it can never become ready");

    let health = Health::builder().part(Part::new("a", probe())).start().unwrap();
    let (clone, mut watch, signal) = (health.clone(), health.watch(), health.signal("a").unwrap());
    sleep(SECOND / 2).await;
    drop(health);
    sleep(20 * SECOND).await;
    assert!(Arc::strong_count(&held) > 1, "a clone keeps it");
    drop(clone);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&held), 1);
    while watch.changed().await.is_some() {}
    signal.failed("nobody listens");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_has_begun_is_not_ready_and_still_probes() {
    let dial = Dial::new(Status::Well);
    let health = Health::builder().part(Part::new("db", dial.probe())).start().unwrap();
    assert!(health.report().is_ready(), "no part is critical");
    let mut watch = health.watch();
    health.begin_shutdown();
    let report = watch.changed().await.unwrap();
    assert!(!report.is_ready() && report.is_live());
    dial.set(Status::down("gone"));
    until(&health, |health| state(health, "db") == State::Down).await;
}

#[tokio::test(start_paused = true)]
async fn only_critical_parts_decide_on_ready() {
    let (db, cache) = (Dial::new(Status::Well), Dial::new(Status::Well));
    let health = Health::builder()
        .part(Part::new("db", db.probe()).critical())
        .part(Part::new("cache", cache.probe()))
        .start()
        .unwrap();
    health.wait_ready(SECOND).await.unwrap();
    assert_eq!(health.report().overall().as_str(), "pass");
    cache.set(Status::down("gone"));
    until(&health, |health| state(health, "cache") == State::Down).await;
    assert!(health.report().is_ready());
    assert_eq!(health.report().overall().as_str(), "warn");
    db.set(Status::degraded("one replica is missing"));
    until(&health, |health| state(health, "db") == State::Degraded).await;
    assert!(health.report().is_ready());
    assert_eq!(cause(&health, "db"), "one replica is missing");
    db.set(Status::down("gone"));
    until(&health, |health| !health.report().is_ready()).await;
    assert_eq!(health.report().overall().as_str(), "fail");
    assert!(health.report().is_live());
}

#[tokio::test(start_paused = true)]
async fn live_is_for_the_process_alone() {
    let worker = Dial::new(Status::Well);
    let health = Health::builder().part(Part::new("worker", worker.probe()).liveness()).start().unwrap();
    until(&health, |health| state(health, "worker") == State::Up).await;
    worker.set(Status::down("stuck"));
    until(&health, |health| !health.report().is_live()).await;
    assert!(!health.report().is_ready());
    worker.set(Status::Well);
    until(&health, |health| health.report().is_live()).await;
    health.declare_dead("the allocator is broken");
    assert!(!health.report().is_live() && !health.report().is_ready());
    let last = health.history().pop().unwrap();
    assert_eq!(last.cause.unwrap().as_str(), "the allocator is broken");
}

#[tokio::test(start_paused = true)]
async fn maintenance_is_by_hand() {
    let health = Health::builder().start().unwrap();
    assert!(health.report().is_ready(), "there is no part");
    health.begin_maintenance("moving\nhouse");
    let report = health.report();
    assert!(!report.is_ready() && report.is_live());
    assert_eq!(report.maintenance().unwrap().as_str(), r"moving\nhouse");
    health.end_maintenance();
    assert!(health.report().is_ready());
}

#[tokio::test(start_paused = true)]
async fn the_history_is_bounded_for_each_part() {
    let flip = Arc::new(AtomicBool::new(false));
    let flips = flip.clone();
    let flapping = Probe::from_fn(move || {
        let well = flips.fetch_xor(true, SeqCst);
        ready(Status::down_if(!well, "flapping"))
    });
    let steady = Dial::new(Status::Well);
    let health = Health::builder()
        .part(Part::new("flaps", flapping).thresholds(1, 1))
        .part(Part::new("steady", steady.probe()))
        .start()
        .unwrap();
    sleep(1000 * SECOND).await;
    let history = health.history();
    let of = |name: &str| {
        let is_of = |event| matches!(event, buttress_health::Event::Part { name: it, .. } if it == name);
        history.iter().filter(|change| is_of(change.event)).count()
    };
    assert_eq!(of("flaps"), 20);
    assert_eq!(of("steady"), 1, "the other one does not push it out");
    assert!(history.is_sorted_by_key(|change| change.number));
    assert!(history.last().unwrap().number > 100);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_be_are_refused_by_name() {
    let part = |name: &str| Part::new(name, Dial::new(Status::Well).probe());
    let error = |part: Part| Health::builder().part(part).start().unwrap_err().to_string();
    assert!(error(part("a:b")).contains("\"a:b\" cannot be a name"));
    assert!(error(part("a\nb")).contains(r#""a\nb" cannot be a name"#));
    assert!(error(part("a\u{202e}b")).contains(r#""a\u{202e}b" cannot be a name"#));
    assert!(error(part("")).contains("cannot be a name"));
    assert!(error(part(&"x".repeat(65))).contains("cannot be a name"));
    assert!(error(part("db").interval(Duration::ZERO)).contains("the interval of `db`"));
    assert!(error(part("db").timeout(4 * SECOND)).contains("the timeout of `db`"));
    assert!(error(part("db").thresholds(0, 1)).contains("a threshold of `db`"));
    let twice = Health::builder().part(part("db")).part(part("db")).start().unwrap_err();
    assert_eq!(twice.to_string(), "there are two parts `db`: give each a name of its own");
}

#[test]
fn handles_on_many_threads_agree() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dial = Dial::new(Status::Well);
    let part = Part::new("db", dial.probe()).critical().interval(Duration::from_millis(5));
    let wobbly = Arc::new(AtomicUsize::new(0));
    let wobbles = wobbly.clone();
    let part =
        part.passive(move || Status::down_if(wobbles.fetch_add(1, SeqCst).is_multiple_of(7), "wobbly"));
    let health = runtime.block_on(async { Health::builder().part(part).start().unwrap() });
    std::thread::scope(|scope| {
        for turn in 0..4 {
            let (health, signal) = (health.clone(), health.signal("db").unwrap());
            scope.spawn(move || {
                for call in 0..2000 {
                    if (call + turn) % 3 == 0 {
                        signal.failed("lost")
                    } else {
                        signal.succeeded()
                    }
                    let report = health.report();
                    let works = report.part("db").unwrap().state.works();
                    assert_eq!(
                        report.is_ready(),
                        works && report.is_started(),
                        "each report is of one moment"
                    );
                }
            });
        }
    });
    assert!(health.history().is_sorted_by_key(|change| change.number));
    runtime.block_on(health.shutdown());
    assert!(!health.report().is_ready());
}
