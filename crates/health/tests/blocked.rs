//! A probe that blocks its thread, which no timeout can cut off.

use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use buttress_health::{Health, Part, Probe, State, Status};
use tokio::{runtime::Builder, time::Instant};

#[test]
fn its_part_is_down_for_whoever_asks() {
    // Outside of the runtime: a blocked worker may hold up the timers of all others.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (release, blocked) = mpsc::channel::<()>();
    let (_never, pause) = mpsc::channel::<()>();
    let blocked = std::sync::Arc::new(Mutex::new(blocked));
    let mut turn = 0;
    let probe = Probe::from_fn(move || {
        turn += 1;
        let blocks = turn == 3;
        let blocked = blocked.clone();
        async move {
            if blocks {
                // On purpose, until the test lets go.
                let _ = blocked.lock().unwrap().recv();
            }
            Status::Well
        }
    });
    let part = Part::new("blocks", probe).critical().interval(Duration::from_millis(50));
    let health = runtime.block_on(async { Health::builder().part(part).start().unwrap() });
    let until = |ready: bool| {
        let begun = Instant::now();
        while health.report().is_ready() != ready {
            assert!(begun.elapsed() < Duration::from_secs(10), "{health:?}");
            let _ = pause.recv_timeout(Duration::from_millis(10));
        }
    };
    until(true);
    until(false);
    let report = health.report();
    assert_eq!(report.parts()[0].state, State::Down);
    assert!(report.parts()[0].cause.as_ref().unwrap().as_str().contains("overdue"));

    drop(release);
    until(true);
    runtime.block_on(health.shutdown());
    let _ = pause.recv_timeout(Duration::from_millis(1200));
    assert_eq!(health.report().parts()[0].state, State::Up, "what has ended is not overdue");
}
