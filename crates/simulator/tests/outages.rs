//! Backends that fail, slow down and go away, by the clock.

use std::time::Duration;

use buttress_simulator::{Arrivals, Backend, Callers, Durations, Report, Simulation};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Ten calls a second for ten seconds, each of which takes 200 ms.
fn run(change: impl Fn(Backend) -> Backend) -> Report {
    let backend = change(Backend::workers(10).service_time(Durations::constant(200 * MS)));
    Simulation::new(10 * SECOND)
        .callers(Callers::arriving(Arrivals::constant(10.0)).patient_for(2 * SECOND))
        .run(|world| world.backend(backend))
        .unwrap()
}

#[test]
fn a_share_fails_while_it_is_to() {
    let report = run(|backend| backend.failing(1.0, 3 * SECOND..5 * SECOND));
    assert_eq!(report.during(..3 * SECOND).share(), 1.0);
    assert_eq!(report.during(3 * SECOND..5 * SECOND).share(), 0.0);
    assert_eq!(report.during(5 * SECOND..).share(), 1.0);
    assert_eq!(report.during(..).failures().collect::<Vec<_>>(), [("failed", 20)]);
    assert_eq!(report.backends()[0].failed, 20);

    let third = Simulation::new(300 * SECOND)
        .callers(Callers::arriving(Arrivals::constant(100.0)))
        .run(|world| world.backend(Backend::workers(50).failing(0.33, ..)))
        .unwrap();
    assert!((third.during(..).share() - 0.67).abs() < 0.01);
}

#[test]
fn a_process_that_goes_away_takes_down_what_it_was_doing() {
    let report = run(|backend| backend.refusing(5050 * MS..7 * SECOND));
    // Those of 4.9 s and 5.0 s were inside; then those of 5.1 s to 6.9 s.
    assert_eq!(report.during(..).failures_of("refused"), 2 + 19);
    assert_eq!(report.during(7 * SECOND..).share(), 1.0);
    assert_eq!(report.backends()[0].refused, 21);
    // At once: whoever is refused does not wait for his patience.
    let figures = &report.backends()[0];
    assert_eq!((figures.served, figures.left), (79, 0));
}

#[test]
fn what_waits_goes_down_with_the_process_as_well() {
    let report = Simulation::new(10 * SECOND)
        .callers(Callers::arriving(Arrivals::at([Duration::ZERO, MS, 2 * MS, 3 * SECOND])))
        .run(|world| {
            let backend = Backend::workers(1).service_time(Durations::constant(SECOND));
            world.backend(backend.refusing(500 * MS..2 * SECOND))
        })
        .unwrap();
    let all = report.during(..);
    assert_eq!((all.failures_of("refused"), all.answered()), (3, 1));
    let figures = &report.backends()[0];
    assert_eq!((figures.served, figures.refused), (1, 3));
    assert_eq!(figures.mean_stay, (500 + 499 + 498 + 1000) * MS / 4);
}

#[test]
fn a_network_that_swallows_lets_nobody_know() {
    let report = run(|backend| backend.hanging(5050 * MS..7 * SECOND));
    // The answers to those of 4.9 s and 5.0 s are lost as well.
    assert_eq!(report.during(..).failures_of("out_of_patience"), 2 + 19);
    let figures = &report.backends()[0];
    assert_eq!((figures.refused, figures.left, figures.served), (0, 21, 81));
}

#[test]
fn a_slow_time_and_a_load_both_stretch_what_begins() {
    let report = run(|backend| backend.slow(3.0, 5 * SECOND..6 * SECOND).slow(2.0, ..6 * SECOND));
    let latency = |from: u32, until: u32| report.during(from * SECOND..until * SECOND).latency(0.5).unwrap();
    assert!(latency(2, 4).as_millis().abs_diff(400) < 8, "{:?}", latency(2, 4));
    assert!(latency(8, 10).as_millis().abs_diff(200) < 4);
    let slowest = report.during(..).latency(1.0).unwrap();
    assert!(slowest.as_millis().abs_diff(600) < 12, "the largest factor counts: {slowest:?}");

    // Two workers, four at once: the third and fourth begin while fewer wait than before.
    let report = Simulation::new(SECOND)
        .callers(Callers::arriving(Arrivals::at([Duration::ZERO; 4])))
        .run(|world| {
            world.backend(
                Backend::workers(2)
                    .service_time(Durations::constant(100 * MS))
                    .slowdown(|load| (load.busy + load.queued) as f64),
            )
        })
        .unwrap();
    // Begun at 0, 0, 100, 200 ms; with a factor of 1, 2, 3 (one served, one begun, one queued), 2.
    assert_eq!(report.backends()[0].mean_stay, (100 + 200 + 400 + 400) * MS / 4);
}

#[test]
fn backends_do_not_disturb_each_other() {
    let alone = |with_other: bool| {
        let report = Simulation::new(10 * SECOND)
            .callers(Callers::arriving(Arrivals::poisson(50.0)))
            .run(|world| {
                let first = world.backend(Backend::workers(2).name("first"));
                if with_other {
                    let _ = world.backend(Backend::workers(1).name("second"));
                }
                first
            })
            .unwrap();
        report.backends()[0].clone()
    };
    assert_eq!(alone(true), alone(false));
}

#[test]
fn recovery_is_from_when_it_stays_good() {
    let run = |later: f64| {
        Simulation::new(20 * SECOND)
            .callers(Callers::arriving(Arrivals::constant(100.0)))
            .run(|world| {
                let backend = Backend::workers(10).service_time(Durations::constant(10 * MS));
                world.backend(
                    backend.failing(1.0, 3 * SECOND..8 * SECOND).failing(later, 14 * SECOND..15 * SECOND),
                )
            })
            .unwrap()
    };
    let once = run(0.0);
    assert_eq!(once.recovery(8 * SECOND, 0.95), Some(Duration::ZERO));
    assert_eq!(once.recovery(5 * SECOND, 0.95), Some(3 * SECOND));
    assert_eq!(once.recovery(3500 * MS, 0.95), Some(4500 * MS));
    assert_eq!(once.recovery(30 * SECOND, 0.95), None, "nothing was seen then");
    once.assert_recovery(5 * SECOND, 0.95, 3 * SECOND);

    let twice = run(1.0);
    assert_eq!(twice.recovery(8 * SECOND, 0.95), Some(7 * SECOND));
    assert_eq!(twice.recovery(8 * SECOND, 0.75), Some(Duration::ZERO), "one second of five");
}
