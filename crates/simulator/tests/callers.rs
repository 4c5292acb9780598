//! What callers do, and what a backend does when they leave.

use std::time::Duration;

use buttress_simulator::{
    Arrivals, Backend, BackendFigures, Callers, Durations, Report, Simulation, WhenCallerLeaves,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn at(millis: &[u64]) -> Arrivals {
    Arrivals::at(millis.iter().copied().map(Duration::from_millis))
}

fn run(callers: Callers, backend: Backend) -> Report {
    Simulation::new(10 * SECOND).callers(callers).run(|world| world.backend(backend)).unwrap()
}

fn slow(millis: u64) -> Backend {
    Backend::workers(1).service_time(Durations::constant(Duration::from_millis(millis)))
}

#[test]
fn patience_is_exact_and_an_answer_at_its_end_counts() {
    let patient = Callers::arriving(at(&[0])).patient_for(300 * MS);
    assert_eq!(run(patient.clone(), slow(300)).during(..).answered(), 1);

    let late = Backend::workers(1).service_time(Durations::constant(300 * MS + Duration::from_nanos(1)));
    let report = run(patient, late);
    let all = report.during(..);
    assert_eq!((all.answered(), all.failures_of("out_of_patience")), (0, 1));
    assert_eq!((all.wasted(), all.attempts()), (1, 1));
}

#[test]
fn a_caller_tries_again_with_his_patience_anew() {
    let callers =
        Callers::arriving(at(&[0])).patient_for(100 * MS).trying_again(3, Durations::constant(50 * MS));
    // The first four tries end at 100, 250, 400 and 550 ms; only the third and the fourth come after the slow time.
    let backend = slow(10).slow(1000.0, ..200 * MS);
    let report = run(callers.clone(), backend.clone());
    let all = report.during(..);
    assert_eq!(
        (all.offered(), all.tries(), all.attempts(), all.answered()),
        (1, 4, 4, 0),
        "one worker hangs"
    );

    let backend = backend.when_caller_leaves(WhenCallerLeaves::Stop);
    let report = run(callers, backend);
    let all = report.during(..);
    assert_eq!(
        (all.offered(), all.tries(), all.answered(), all.failures_of("out_of_patience")),
        (1, 3, 1, 2)
    );
    let latency = all.latency(1.0).unwrap().as_secs_f64();
    assert!((latency / 0.310 - 1.0).abs() < 0.02, "counted from the first try on: {latency}");
}

#[test]
fn a_closed_loop_never_has_more_calls_than_callers() {
    let report = run(Callers::working(7, Durations::constant(10 * MS)), slow(20));
    report.assert_never_more_in_flight_than(7);
    assert_eq!(report.backends()[0].peak_in_flight, 7);
    let goodput = report.during(SECOND..).goodput();
    assert!((goodput - 50.0).abs() < 1.0, "{goodput}");
}

fn leave(what: WhenCallerLeaves) -> BackendFigures {
    // Three calls at once for one worker; all callers leave after 150 ms, while the second is being served.
    let callers = Callers::arriving(at(&[0, 0, 0])).patient_for(150 * MS);
    let patient = Callers::arriving(at(&[160])).patient_for(SECOND);
    let report = Simulation::new(10 * SECOND)
        .callers(callers)
        .callers(patient)
        .run(|world| world.backend(slow(100).when_caller_leaves(what)))
        .unwrap();
    assert_eq!(report.during(..).answered(), 2);
    report.backends()[0].clone()
}

#[test]
fn a_backend_works_on_for_callers_that_have_left() {
    let figures = leave(WhenCallerLeaves::WorkOn);
    assert_eq!((figures.served, figures.wasted, figures.left), (4, 2, 2));
    // Served from 300 ms on, having come at 160 ms.
    assert_eq!(figures.mean_wait, (100 + 200 + 140) * MS / 4);
}

#[test]
fn a_backend_that_skips_finds_out_when_their_turn_comes() {
    let figures = leave(WhenCallerLeaves::SkipQueued);
    assert_eq!((figures.served, figures.wasted, figures.left), (3, 1, 2));
    assert_eq!(figures.mean_wait, (100 + 40) * MS / 3);
}

#[test]
fn a_backend_that_stops_has_its_worker_back_at_once() {
    let figures = leave(WhenCallerLeaves::Stop);
    assert_eq!((figures.served, figures.wasted, figures.left), (2, 0, 2));
    // The third is begun when the second leaves, and leaves as well in the same instant.
    assert_eq!(figures.mean_wait, (100 + 150) * MS / 4);
    assert_eq!(figures.peak_in_flight, 3);
}

#[test]
fn calls_in_flight_at_the_end_are_awaited() {
    let report = run(Callers::arriving(at(&[9_900])), slow(3000));
    assert_eq!(report.during(..).share(), 1.0);
    assert_eq!(report.during(..).answered(), 0, "answered after the last sample");
    assert_eq!(report.ended(), 12_900 * MS);
}
