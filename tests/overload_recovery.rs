//! A minute of ten times the load: what becomes of a naive client, and of one with the default stack.

#![expect(clippy::print_stdout, reason = "the figures are half of what this test is for")]

#[path = "../examples/simulation/scenario.rs"]
mod scenario;

use std::time::Duration;

use buttress_simulator::{Arrivals, Backend, Callers, Report, Simulation, for_seeds};

use self::scenario::{BEGINS, ENDS, NORMAL, OVER, backend, naive, protect, protected};

const SECOND: Duration = Duration::from_secs(1);

/// A metastable failure (Bronson, Aghayev, Charapko and Zhu, HotOS 2021): what sustains it, the retries, stays when what
/// triggered it, the load, is gone.
#[test]
fn a_naive_client_collapses_and_does_not_come_back() {
    for_seeds(0..3, |seed| {
        let report = naive(seed);
        report.assert_goodput(..BEGINS, 0.99);

        // After the first seconds, in which the queue fills.
        let overload = report.during(BEGINS + 5 * SECOND..ENDS);
        assert!(overload.goodput() < 0.05 * NORMAL, "{report}");
        assert!(overload.amplification() > 3.0, "{report}");

        assert_eq!(report.recovery(ENDS, 0.95), None, "{report}");
        let after = report.during(ENDS..OVER);
        assert!(after.goodput() < 0.05 * NORMAL, "{report}");
        // The workers are busy all the time, and nobody waits for what they do.
        assert!(after.wasted() as f64 > 0.9 * 40.0 * after.length().as_secs_f64(), "{report}");
    });
}

#[test]
fn the_default_stack_serves_through_an_overload_and_is_back_at_once() {
    let mut slowest = Duration::ZERO;
    let mut least = f64::MAX;
    for_seeds(0..20, |seed| {
        let report = protected(seed);
        report.assert_goodput(..BEGINS, 0.98);
        report.assert_recovery(ENDS, 0.95, 10 * SECOND);
        // What the backend can do is done, and no more is asked of it.
        let overload = report.during(BEGINS..ENDS);
        assert!(overload.goodput() > NORMAL, "{report}");
        assert!(overload.wasted() < 60, "{report}");
        report.assert_amplification(.., 1.0);
        report.assert_latency(.., 0.99, SECOND);

        // The rate itself, within what chance does to the calls that come.
        let after = report.during(ENDS + 10 * SECOND..OVER);
        let offered = after.offered() as f64 / after.length().as_secs_f64();
        assert!(after.goodput() > 0.95 * offered, "{report}");
        slowest = slowest.max(report.recovery(ENDS, 0.95).unwrap_or_default());
        least = least.min(overload.goodput());
    });
    println!("20 seeds: at least {least:.0} calls a second in the overload, back after at most {slowest:?}");
}

/// The normal load all along, and for a minute something is wrong with the backend.
fn outage(seed: u64, wrong: fn(Backend) -> Backend) -> Report {
    let callers = Callers::arriving(Arrivals::poisson(NORMAL)).patient_for(5 * SECOND);
    let simulation = Simulation::new(OVER).seed(seed).callers(callers);
    simulation.run(|world| protect(world, wrong(backend()))).expect("every call ends")
}

#[test]
fn the_default_stack_is_back_soon_after_an_outage_of_a_minute() {
    type Wrong = fn(Backend) -> Backend;
    let outages: [(&str, Wrong); 3] = [
        ("refuses", |backend| backend.refusing(BEGINS..ENDS)),
        ("hangs", |backend| backend.hanging(BEGINS..ENDS)),
        ("is five times slower", |backend| backend.slow(5.0, BEGINS..ENDS)),
    ];
    for (name, wrong) in outages {
        let mut slowest = Duration::ZERO;
        for_seeds(0..5, |seed| {
            let report = outage(seed, wrong);
            report.assert_goodput(..BEGINS, 0.98);
            // Of the calls of any five seconds, for ever after. By chance there are some of more than the backend can do.
            report.assert_recovery(ENDS, 0.9, 10 * SECOND);
            slowest = slowest.max(report.recovery(ENDS, 0.9).unwrap_or_default());
        });
        println!("a backend that {name} for a minute: back after at most {slowest:?}");
    }
}
