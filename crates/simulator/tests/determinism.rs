//! The same seed is the same run, event for event.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_retry::RetryLayer;
use buttress_simulator::{
    Arrivals, Backend, Callers, Durations, Event, Report, Simulation, World, for_seeds,
};
use buttress_timeout::TimeoutLayer;
use proptest::prelude::*;
use tower::ServiceBuilder;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A backend that fails in part, goes away and is overrun, below layers with jitter.
fn run(seed: u64) -> (Report, Vec<Event>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let arrivals = Arrivals::poisson(50.0)
        .lasting(5 * SECOND)
        .then(Arrivals::ramp(50.0, 500.0).lasting(5 * SECOND))
        .then(Arrivals::constant(60.0).and(Arrivals::bursts(30, 2 * SECOND)));
    let report = Simulation::new(20 * SECOND)
        .seed(seed)
        .callers(
            Callers::arriving(arrivals)
                .patient_for(2 * SECOND)
                .trying_again(1, Durations::exponential(100 * MS)),
        )
        .callers(Callers::working(5, Durations::lognormal(300 * MS, 2 * SECOND)))
        .on_event(move |event| told.lock().unwrap().push(event.clone()))
        .run(stack)
        .unwrap();
    let events = std::mem::take(&mut *events.lock().unwrap());
    (report, events)
}

fn stack(
    world: &World,
) -> impl tower::Service<
    buttress_simulator::Call,
    Response = buttress_simulator::Answer,
    Error = buttress_simulator::BackendError,
    Future: Send,
>
+ Clone
+ Send
+ 'static
+ use<> {
    let backend = Backend::workers(10)
        .service_time(Durations::lognormal(80 * MS, 500 * MS))
        .queue(200)
        .slowdown(|load| 1.0 + load.queued as f64 / 100.0)
        .failing(0.1, ..)
        .refusing(15 * SECOND..16 * SECOND)
        .hanging(17 * SECOND..17 * SECOND + 500 * MS);
    ServiceBuilder::new()
        .layer(RetryLayer::new("determinism"))
        .layer(CircuitBreakerLayer::new("determinism"))
        .layer(TimeoutLayer::new(700 * MS))
        .service(world.backend(backend))
}

#[test]
fn one_seed_is_one_run_event_for_event() {
    let mut kinds = BTreeSet::new();
    for_seeds(0..5, |seed| {
        let (first, events) = run(seed);
        for _ in 0..2 {
            let (again, same) = run(seed);
            let differs = events.iter().zip(&same).position(|(one, other)| one != other);
            assert_eq!(differs.map(|at| (&events[at], &same[at])), None, "event {differs:?}");
            assert_eq!(events.len(), same.len());
            assert_eq!(first, again);
        }
        assert!(events.len() > 5000, "{}", events.len());
        kinds.extend(first.during(..).failures().map(|(kind, _)| kind.to_owned()));
    });
    // They have been lively runs.
    for kind in ["failed", "timed_out", "circuit_open"] {
        assert!(kinds.contains(kind), "{kinds:?}");
    }
}

#[test]
fn other_seeds_are_other_runs() {
    let mut fingerprints: Vec<u64> = (0..5).map(|seed| run(seed).0.fingerprint()).collect();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 5);
}

#[test]
fn the_stack_does_not_change_when_calls_come() {
    let simulation = Simulation::new(10 * SECOND).callers(Callers::arriving(Arrivals::poisson(100.0)));
    let strong = simulation.run(|world| world.backend(Backend::workers(100))).unwrap();
    let weak = simulation.run(|world| {
        let weak = Backend::workers(1).failing(1.0, ..);
        ServiceBuilder::new().layer(RetryLayer::new("weak")).service(world.backend(weak))
    });
    let offered = |report: &Report| report.samples().iter().map(|sample| sample.offered).collect::<Vec<_>>();
    assert_eq!(offered(&strong), offered(&weak.unwrap()));
}

#[tokio::test]
async fn it_runs_in_a_tokio_test_too_and_leaves_its_chance_alone() {
    fastrand::seed(7);
    let expected: Vec<u64> = (0..3).map(|_| fastrand::u64(..)).collect();
    fastrand::seed(7);
    let (report, _) = run(1);
    assert_eq!((0..3).map(|_| fastrand::u64(..)).collect::<Vec<_>>(), expected);
    assert_eq!(report, run(1).0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn any_seed_repeats(seed: u64) {
        prop_assert_eq!(run(seed).0.fingerprint(), run(seed).0.fingerprint());
    }
}
