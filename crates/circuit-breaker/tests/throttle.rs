//! A share of the calls instead of on and off.

use std::time::Duration;

use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, State, Throttle, Trip};
use buttress_core::Outcome;
use tokio::time::advance;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn throttled() -> Breaker {
    let throttle = Throttle::try_new(2.0, 10 * SECOND).unwrap();
    CircuitBreakerLayer::builder("throttle").throttle(throttle).build().breaker()
}

/// Asks for a thousand calls a second; the backend accepts so many of a thousand that reach it. Returns how many reached it
/// and how many were served, a second.
async fn run(breaker: &Breaker, seconds: u32, accepts: u32) -> (f64, f64) {
    let (mut reached, mut served) = (0, 0);
    for _ in 0..seconds * 1_000 {
        if let Ok(permit) = breaker.acquire() {
            reached += 1;
            let works = fastrand::u32(..1_000) < accepts;
            served += u32::from(works);
            permit.finish(if works { Outcome::Success } else { Outcome::Failure });
        }
        advance(MS).await;
    }
    (f64::from(reached) / f64::from(seconds), f64::from(served) / f64::from(seconds))
}

#[tokio::test(start_paused = true)]
async fn a_healthy_backend_gets_every_call() {
    fastrand::seed(1);
    let breaker = throttled();
    assert_eq!(run(&breaker, 30, 1_000).await, (1_000.0, 1_000.0));
    // Half of the calls may fail before one is refused; a few failures more or less make no difference.
    assert_eq!(run(&breaker, 30, 700).await.0, 1_000.0);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_gets_a_tenth_and_is_found_again() {
    fastrand::seed(2);
    let breaker = throttled();
    run(&breaker, 20, 1_000).await;
    run(&breaker, 20, 0).await;
    assert_eq!(breaker.state(), State::Throttling);
    let (reached, _) = run(&breaker, 10, 0).await;
    assert!((80.0..120.0).contains(&reached), "{reached} of 1000");
    // It is back: no open time to wait out, the share grows as the window forgets.
    run(&breaker, 25, 1_000).await;
    assert_eq!(run(&breaker, 10, 1_000).await, (1_000.0, 1_000.0), "after about two windows");
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_can_take_a_part_gets_about_twice_that() {
    fastrand::seed(3);
    let breaker = throttled();
    // It accepts 200 a second, whatever comes; the others fail.
    let (mut reached, seconds) = (0_u32, 60);
    for second in 0..seconds {
        let mut capacity = 200;
        for _ in 0..1_000 {
            if let Ok(permit) = breaker.acquire() {
                reached += u32::from(second >= 20);
                permit.finish(if capacity > 0 { Outcome::Success } else { Outcome::Failure });
                capacity = u32::saturating_sub(capacity, 1);
            }
            advance(MS).await;
        }
    }
    let reached = f64::from(reached) / f64::from(seconds - 20);
    assert!((350.0..450.0).contains(&reached), "{reached} a second, where it accepts 200");
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_nothing_is_held_against_the_backend() {
    fastrand::seed(4);
    let breaker = throttled();
    run(&breaker, 20, 0).await;
    assert_eq!(breaker.state(), State::Throttling);
    advance(3_600 * SECOND).await;
    assert!((0..100).all(|_| breaker.acquire().is_ok()));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn on_the_border_it_does_not_change_its_state_at_every_call_however_often_somebody_looks() {
    for looks in [false, true] {
        fastrand::seed(5);
        let breaker = throttled();
        let changes = breaker.subscribe();
        for i in 0..40_000 {
            if let Ok(permit) = breaker.acquire() {
                // Each second one is just what may fail.
                permit.finish(if i % 2 == 0 { Outcome::Success } else { Outcome::Failure });
            }
            if looks {
                let _snapshot = breaker.snapshot();
            }
            advance(MS).await;
        }
        let changes = changes.borrow().number;
        assert!(changes > 0 && changes < 80, "{changes} changes in 40 s, with somebody who looks: {looks}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trip_instead_ends_it_and_a_throttle_instead_of_a_trip_begins_where_that_stands() {
    fastrand::seed(7);
    let breaker = throttled();
    let (throttle, trip) = (breaker.settings(), breaker.settings().trip(Trip::consecutive(20).unwrap()));
    run(&breaker, 20, 0).await;
    assert_eq!(breaker.state(), State::Throttling);
    breaker.configure(trip);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(run(&breaker, 1, 1_000).await.0, 1_000.0);

    run(&breaker, 1, 0).await;
    breaker.configure(throttle);
    assert_eq!(breaker.state(), State::Open, "until its time is up");
    assert_eq!(run(&breaker, 1, 1_000).await.0, 0.0);
    run(&breaker, 60, 1_000).await;
    assert_eq!(breaker.state(), State::Closed);
    run(&breaker, 20, 0).await;
    assert_eq!(breaker.state(), State::Throttling);
}
