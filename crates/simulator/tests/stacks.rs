//! Stacks of layers of other people, and stacks with faults.

use std::{
    convert::Infallible,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use buttress_core::BoxError;
use buttress_simulator::{Arrivals, Backend, Call, Callers, Durations, Report, Simulation};
use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn simulation(rate: f64) -> Simulation {
    Simulation::new(10 * SECOND).callers(Callers::arriving(Arrivals::poisson(rate)))
}

#[test]
fn layers_of_tower_and_other_types_fit_in() {
    let report = simulation(100.0)
        .run(|world| {
            ServiceBuilder::new()
                .buffer(100)
                .concurrency_limit(3)
                .timeout(500 * MS)
                .map_request(|call: Call| format!("GET /{}", call.number))
                .map_err(|error: buttress_simulator::BackendError| BoxError::from(error))
                .service(world.backend(Backend::workers(10).service_time(Durations::exponential(20 * MS))))
        })
        .unwrap();
    report.assert_goodput(.., 1.0);
    report.assert_never_more_in_flight_than(3);
}

/// A timer of the stack fires at the next whole millisecond, whatever else happens in between.
#[test]
fn timers_of_the_stack_are_never_passed_over() {
    let report = simulation(3000.0)
        .run(|world| {
            let backend = world.backend(Backend::workers(9).service_time(Durations::exponential(MS)));
            service_fn(move |call: Call| {
                let mut backend = backend.clone();
                async move {
                    let asked = Instant::now();
                    let nap = Duration::from_micros(call.number % 7000);
                    sleep(nap).await;
                    let late = asked.elapsed() - nap;
                    assert!(late < MS, "{late:?}");
                    tower::Service::call(&mut backend, call).await
                }
            })
        })
        .unwrap();
    report.assert_goodput(.., 1.0);
}

#[test]
fn gauges_are_read_at_the_end_of_each_sample() {
    let report = simulation(10.0)
        .run(|world| {
            let begun = Instant::now();
            world.gauge("seconds", move || begun.elapsed().as_secs_f64());
            world.backend(Backend::workers(1))
        })
        .unwrap();
    let expected: Vec<f64> = (1..=10).map(f64::from).collect();
    assert_eq!(report.gauge("seconds").collect::<Vec<_>>(), expected);
    assert_eq!(report.gauge("minutes").count(), 0);
    assert!(report.to_string().contains("seconds 10.0000"));
}

#[test]
fn calls_that_nothing_ends_are_told_and_not_waited_for() {
    let stalled = Simulation::new(10 * SECOND)
        .seed(3)
        .callers(Callers::arriving(Arrivals::at([SECOND, 2 * SECOND])).patient_for(Duration::MAX))
        .run(|_| service_fn(|_: Call| pending::<Result<(), Infallible>>()))
        .unwrap_err();
    assert_eq!((stalled.at(), stalled.calls(), stalled.is_spinning()), (2 * SECOND, 2, false));
    assert_eq!(
        stalled.to_string(),
        "the simulation stands still since 2.000s: nobody is there to end the calls in flight; 2 calls have not \
         ended; replay: BUTTRESS_SIMULATION_SEED=3 cargo test \
         calls_that_nothing_ends_are_told_and_not_waited_for"
    );
}

/// Though a task of the stack lives on and wakes itself for ever.
#[test]
fn a_stack_that_ticks_does_not_hide_that_it_stands_still() {
    let stalled = Simulation::new(10 * SECOND)
        .callers(Callers::arriving(Arrivals::at([SECOND])).patient_for(Duration::MAX))
        .run(|_| {
            tokio::spawn(async {
                loop {
                    sleep(SECOND).await;
                }
            });
            service_fn(|_: Call| pending::<Result<(), Infallible>>())
        })
        .unwrap_err();
    assert_eq!((stalled.at(), stalled.calls()), (SECOND, 1));
}

#[test]
fn a_call_whose_own_timer_runs_for_minutes_is_waited_for() {
    let report = Simulation::new(SECOND)
        .callers(Callers::arriving(Arrivals::at([Duration::ZERO])).patient_for(Duration::MAX))
        .run(|_| {
            service_fn(async |_: Call| {
                sleep(500 * SECOND).await;
                Ok::<_, Infallible>(())
            })
        })
        .unwrap();
    assert_eq!((report.during(..).share(), report.ended()), (1.0, 500 * SECOND));
}

#[test]
fn tasks_that_go_round_without_time_passing_are_told() {
    let stalled = simulation(1.0)
        .run(|_| {
            service_fn(|_: Call| {
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<Result<(), Infallible>>::Pending
                })
            })
        })
        .unwrap_err();
    assert!(stalled.is_spinning(), "{stalled}");
}

#[test]
fn callers_that_take_no_time_are_told() {
    let stalled = Simulation::new(SECOND)
        .callers(Callers::working(1, Durations::constant(Duration::ZERO)))
        .run(|world| world.backend(Backend::workers(1).queue(0).refusing(..)))
        .unwrap_err();
    assert!(stalled.is_spinning(), "{stalled}");
}

#[test]
fn a_panic_of_the_stack_is_the_tests() {
    let panics: [fn(u64); 3] = [|number| assert!(number < 5, "in the call"), |_| {}, |_| {}];
    for (which, in_call) in panics.into_iter().enumerate() {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            simulation(10.0).run(|world| {
                let gauge = AtomicUsize::new(0);
                world.gauge("gauge", move || {
                    assert!(which != 1 || gauge.fetch_add(1, Relaxed) < 3, "in the gauge");
                    0.0
                });
                let curve = move |_| if which == 2 { panic!("in the curve") } else { 1.0 };
                let backend = world.backend(Backend::workers(1).slowdown(curve));
                service_fn(move |call: Call| {
                    in_call(call.number);
                    tower::Service::call(&mut backend.clone(), call)
                })
            })
        }));
        let panic = panicked.unwrap_err();
        let message = panic.downcast_ref::<&str>().map(|message| (*message).to_owned());
        assert_eq!(message.as_deref(), Some(["in the call", "in the gauge", "in the curve"][which]));
    }
}

/// As many as ever were in flight at one time, in a million calls.
#[test]
fn a_clone_of_the_stack_lives_as_long_as_its_call() {
    struct Counted(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            let now = self.0.fetch_add(1, Relaxed) + 1;
            self.1.fetch_max(now, Relaxed);
            Self(Arc::clone(&self.0), Arc::clone(&self.1))
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }
    let (alive, most) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let counted = Counted(Arc::clone(&alive), Arc::clone(&most));
    let report = Simulation::new(50 * SECOND)
        .callers(Callers::arriving(Arrivals::poisson(500.0)))
        .run(|world| {
            let backend = world.backend(Backend::workers(20));
            service_fn(move |call: Call| {
                let _ = &counted;
                tower::Service::call(&mut backend.clone(), call)
            })
        })
        .unwrap();
    assert!(report.during(..).offered() > 20_000);
    assert!(most.load(Relaxed) <= 60, "{most:?}");
    assert_eq!(alive.load(Relaxed), 0, "nothing of the stack is left");
}

#[test]
fn failed_assertions_say_what_was_and_how_to_see_it_again() {
    let report =
        simulation(10.0).seed(5).run(|world| world.backend(Backend::workers(1).failing(1.0, ..))).unwrap();
    type Check = fn(&Report);
    let checks: [(&str, Check); 4] = [
        ("0.00 % were answered in time, 50.00 % wanted", |report| report.assert_goodput(.., 0.5)),
        ("back to 95.0 % answered in time never, 1s after 2s wanted", |report| {
            report.assert_recovery(2 * SECOND, 0.95, SECOND);
        }),
        ("1.000 attempts came to the backends for each call, at most 0.5 wanted", |report| {
            report.assert_amplification(.., 0.5);
        }),
        ("no call was answered", |report| report.assert_latency(.., 0.5, SECOND)),
    ];
    for (message, check) in checks {
        let panic = catch_unwind(AssertUnwindSafe(|| check(&report))).unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        let replay = "seed 5; replay: BUTTRESS_SIMULATION_SEED=5 cargo test \
                      failed_assertions_say_what_was_and_how_to_see_it_again";
        assert!(said.starts_with(&format!("{message}\n{replay}\n   time |")), "{said}");
    }
}
