//! What nobody should do, and somebody does: panics in odd places, settings at their limits, a runtime without timers.

use std::{
    future::{pending, ready},
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_health::{Health, Part, Probe, State, Status};
use tokio::{
    runtime::Builder,
    time::{Instant, timeout},
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn whoever_waits_for_ready_is_not_told_of_a_moment_after_it() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let health = runtime.block_on(async { Health::builder().start().unwrap() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                health.begin_maintenance("flaps");
                health.end_maintenance();
            }
        });
        let begun = Instant::now();
        let mut early = 0;
        while begun.elapsed() < SECOND {
            early += usize::from(runtime.block_on(health.wait_ready(100 * SECOND)).is_err());
        }
        done.store(true, SeqCst);
        assert_eq!(early, 0, "it was ready, and the time was not up");
    });
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn without_a_timer_it_does_not_begin() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let probe = Probe::from_fn(|| ready(Status::Well));
    runtime.block_on(async {
        let _health = Health::builder().part(Part::new("db", probe)).start();
    });
}

/// Thrown by a panic, it panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_throws_may_panic_itself() {
    let probes = Arc::new(AtomicUsize::new(0));
    let count = probes.clone();
    let probe = Probe::from_fn(move || {
        if count.fetch_add(1, SeqCst) == 0 {
            panic_any(Bomb);
        }
        ready(Status::Well)
    });
    let reads = AtomicUsize::new(0);
    let passive = Part::passive_only("queue", move || {
        if reads.fetch_add(1, SeqCst) == 1 {
            panic_any(Bomb);
        }
        Status::down("full")
    });
    let health = Health::builder().part(Part::new("db", probe).critical()).part(passive).start().unwrap();
    health.wait_ready(20 * SECOND).await.expect("the next probe comes");
    let queue = health.report().part("queue").unwrap().clone();
    assert_eq!(queue.cause.unwrap().as_str(), "full", "the signal is read again");
}

/// Well until the switch is thrown, then it hangs.
fn hangs_on(switch: &Arc<AtomicBool>) -> Probe {
    let switch = switch.clone();
    Probe::from_fn(move || {
        let hangs = switch.load(SeqCst);
        async move {
            if hangs {
                pending::<()>().await;
            }
            Status::Well
        }
    })
}

#[tokio::test(start_paused = true)]
async fn down_is_known_within_two_intervals_at_the_limits() {
    const DAY: Duration = Duration::from_secs(86_400);
    for (interval, limit, down) in [
        (MS, None, 1),
        (3 * MS, None, 3),
        (15 * MS, Some(5 * MS), 3),
        (100 * MS, None, 100),
        (10 * SECOND, None, 10_000),
        (DAY, Some(DAY), 1),
        // Timers have a step of a millisecond: ten microseconds would take a hundred times as long.
        (10 * SECOND, None, 1_000_000),
        (2 * MS, None, 3),
        (10 * SECOND, Some(MS / 2), 3),
    ] {
        let hangs = Arc::new(AtomicBool::new(false));
        let part = Part::new("db", hangs_on(&hangs)).critical().interval(interval).thresholds(down, 1);
        let part = if let Some(limit) = limit { part.timeout(limit) } else { part };
        let Ok(health) = Health::builder().part(part).start() else {
            assert!(interval / down < MS || limit.is_some_and(|limit| limit < MS), "{interval:?} {down}");
            continue;
        };
        health.wait_ready(SECOND).await.unwrap();
        hangs.store(true, SeqCst);
        let mut watch = health.watch();
        let report = timeout(2 * interval + MS, watch.changed()).await.expect("known in time").unwrap();
        assert_eq!(report.parts()[0].state, State::Down);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_the_last_report_stays() {
    let full = Arc::new(AtomicBool::new(false));
    let says = full.clone();
    let queue = Part::passive_only("queue", move || Status::down_if(says.load(SeqCst), "full")).liveness();
    let db = Part::new("db", Probe::from_fn(|| ready(Status::Well)));
    let health = Health::builder().part(queue).part(db).start().unwrap();
    let signal = health.signal("db").unwrap();
    signal.succeeded();
    health.shutdown().await;
    let changes = health.history().len();
    full.store(true, SeqCst);
    for _ in 0..3 {
        signal.failed("closed");
    }
    let report = health.report();
    assert!(report.is_live() && report.parts().iter().all(|part| part.state == State::Up), "{report:?}");
    assert_eq!(health.history().len(), changes);
    health.declare_dead("it does not end");
    assert!(!health.report().is_live(), "by hand it still is");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_dead_to_be_ready() {
    let health = Health::builder().part(Part::new("db", Probe::from_fn(pending::<Status>)).critical());
    let health = health.start().unwrap();
    health.declare_dead("stuck");
    let begun = Instant::now();
    let error = health.wait_ready(100 * SECOND).await.unwrap_err();
    assert_eq!((begun.elapsed(), error.to_string().as_str()), (Duration::ZERO, "not ready: stuck"));
}
