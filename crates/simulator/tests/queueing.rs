//! The backend against the theory of queues.

use std::time::Duration;

use buttress_simulator::{Arrivals, Backend, BackendFigures, Callers, Durations, Simulation};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn run(rate: f64, seconds: u32, seed: u64, backend: Backend) -> BackendFigures {
    let report = Simulation::new(seconds * SECOND)
        .seed(seed)
        .callers(Callers::arriving(Arrivals::poisson(rate)).patient_for(Duration::MAX))
        .run(|world| world.backend(backend))
        .unwrap();
    assert_eq!(report.during(..).answered(), report.during(..).attempts() - unanswered_at_the_end(&report));
    report.backends()[0].clone()
}

/// What was answered after the last sample.
fn unanswered_at_the_end(report: &buttress_simulator::Report) -> u64 {
    let fulfilled: u64 = report.samples().iter().map(|sample| sample.fulfilled).sum();
    assert_eq!(fulfilled, report.during(..).offered(), "all are answered in the end");
    fulfilled - report.during(..).answered()
}

fn near(what: &str, told: f64, expected: f64, tolerance: f64) {
    assert!((told / expected - 1.0).abs() < tolerance, "{what}: {told} instead of {expected}");
}

/// The probability that an arriving call has to wait (Erlang C).
fn erlang_c(servers: u32, load: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 0.0;
    for k in 0..servers {
        sum += term;
        term *= load / f64::from(k + 1);
    }
    let last = term / (1.0 - load / f64::from(servers));
    last / (sum + last)
}

#[test]
fn one_worker_is_m_m_1() {
    let figures = run(70.0, 2500, 1, Backend::workers(1).service_time(Durations::exponential(10 * MS)));
    let (arrivals, service, rho) = (70.0, 100.0, 0.7);
    near("wait", figures.mean_wait.as_secs_f64(), rho / (service - arrivals), 0.05);
    near("stay", figures.mean_stay.as_secs_f64(), 1.0 / (service - arrivals), 0.05);
    near("in it", figures.mean_in_flight, rho / (1.0 - rho), 0.05);
    near("busy", figures.utilization, rho, 0.02);
}

#[test]
fn many_workers_are_m_m_c() {
    let figures = run(80.0, 2500, 2, Backend::workers(10).service_time(Durations::exponential(100 * MS)));
    let wait = erlang_c(10, 8.0) / (100.0 - 80.0);
    near("wait", figures.mean_wait.as_secs_f64(), wait, 0.06);
    near("queue", figures.mean_queue, 80.0 * wait, 0.06);
    near("busy", figures.utilization, 0.8, 0.02);
}

/// Pollaczek and Khinchine: a constant service time halves the wait.
#[test]
fn a_constant_service_time_is_m_d_1() {
    let figures = run(80.0, 1000, 3, Backend::workers(1).service_time(Durations::constant(10 * MS)));
    near("wait", figures.mean_wait.as_secs_f64(), 0.8 / (2.0 * 100.0 * 0.2), 0.05);
}

/// tokio's timers know no less than a millisecond, and would make of this a queue without end.
#[test]
fn service_times_below_a_millisecond_are_exact() {
    let backend = Backend::workers(1).service_time(Durations::exponential(Duration::from_micros(100)));
    let figures = run(7000.0, 20, 4, backend);
    near("wait", figures.mean_wait.as_secs_f64(), 0.7 / 3000.0, 0.06);
}

/// Erlang's loss formula: without a queue, what comes while all are busy is lost.
#[test]
fn without_a_queue_what_finds_no_worker_is_refused() {
    let report = Simulation::new(1000 * SECOND)
        .callers(Callers::arriving(Arrivals::poisson(50.0)))
        .run(|world| {
            world.backend(Backend::workers(5).service_time(Durations::exponential(100 * MS)).queue(0))
        })
        .unwrap();
    let (mut lost, load) = (1.0, 5.0);
    for servers in 1..=5 {
        lost = load * lost / (f64::from(servers) + load * lost);
    }
    let all = report.during(..);
    near("lost", all.failures_of("queue_full") as f64 / all.offered() as f64, lost, 0.03);
    assert_eq!(report.backends()[0].peak_in_flight, 5);
    report.assert_never_more_in_flight_than(5);
}

#[test]
fn a_closed_loop_obeys_its_own_law() {
    // Interactive response time law: throughput = callers / (stay + think).
    let report = Simulation::new(300 * SECOND)
        .callers(Callers::working(30, Durations::exponential(200 * MS)).patient_for(Duration::MAX))
        .run(|world| world.backend(Backend::workers(2).service_time(Durations::exponential(20 * MS))))
        .unwrap();
    let stay = report.backends()[0].mean_stay.as_secs_f64();
    near("goodput", report.during(..).goodput(), 30.0 / (stay + 0.2), 0.02);
    assert!(report.backends()[0].peak_in_flight <= 30);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_call_is_lost_and_none_is_served_beyond_capacity(
        seed: u64,
        rate in 1.0..400.0,
        workers in 1..9usize,
        queue in prop_oneof![Just(usize::MAX), 0..40usize],
        patience in 1..300u32,
        tries in 0..3u32,
    ) {
        let report = Simulation::new(10 * SECOND)
            .seed(seed)
            .callers(
                Callers::arriving(Arrivals::poisson(rate))
                    .patient_for(patience * MS)
                    .trying_again(tries, Durations::exponential(5 * MS)),
            )
            .run(|world| {
                let service = Durations::constant(40 * MS);
                world.backend(Backend::workers(workers).service_time(service).queue(queue))
            })
            .unwrap();
        let all = report.during(..);
        let backend = &report.backends()[0];

        // Capacity: as many as the workers can end within each second.
        let capacity = workers as u64 * 25;
        prop_assert!(report.samples().iter().all(|sample| sample.answered <= capacity + workers as u64));
        prop_assert!(all.answered() <= capacity * 10);

        // Each try ends once, each call that began is tried at least once, and at most as often as allowed.
        prop_assert!(all.tries() >= all.offered());
        prop_assert!(backend.attempts >= all.tries());
        prop_assert!(all.tries() <= all.offered() * u64::from(1 + tries));
        prop_assert!(backend.peak_in_flight <= workers.saturating_add(queue));
        prop_assert!(backend.utilization <= 1.0 + 1e-9);
        prop_assert!(backend.served <= backend.attempts - backend.refused);
        // Nobody was answered late.
        if let Some(latency) = all.latency(1.0) {
            let longest = (patience * MS) * (1 + tries) + tries * 500 * MS;
            prop_assert!(latency.as_secs_f64() <= longest.as_secs_f64() * 1.02 + 1e-6);
        }
    }

    #[test]
    fn littles_law_holds_exactly(seed: u64, rate in 1.0..200.0, workers in 1..9usize) {
        let report = Simulation::new(10 * SECOND)
            .seed(seed)
            .callers(Callers::arriving(Arrivals::poisson(rate)).patient_for(Duration::MAX))
            .run(|world| world.backend(Backend::workers(workers).service_time(Durations::exponential(40 * MS))))
            .unwrap();
        let backend = &report.backends()[0];
        // All have left, so the time that they stayed, added up, is the area under how many were inside.
        prop_assert_eq!(backend.served, backend.attempts);
        let ended = report.ended().as_secs_f64();
        let area = backend.mean_in_flight * ended;
        let stayed = backend.mean_stay.as_secs_f64() * backend.attempts as f64;
        prop_assert!((area - stayed).abs() < 1e-6 * (1.0 + area), "{} {}", area, stayed);
    }
}
