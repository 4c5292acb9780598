//! How calls come back: by probes, then by a share that grows.

use std::time::Duration;

use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Probes, Ramp, State, Trip, Window};
use buttress_core::{Backoff, Outcome};
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn recovering(ramp: Ramp) -> Breaker {
    let breaker = CircuitBreakerLayer::builder("recovery")
        .trip(Trip::failure_rate(0.5, Window::time(10 * SECOND).unwrap()).unwrap())
        .open_for(Backoff::constant(SECOND))
        .probes(Probes::try_new(1, SECOND).unwrap())
        .ramp(ramp)
        .build()
        .breaker();
    breaker.isolate(Duration::ZERO);
    breaker.acquire().unwrap().finish(Outcome::Success);
    breaker
}

/// How many of so many calls are admitted, spread over that time.
async fn admitted(breaker: &Breaker, calls: u32, over: Duration) -> u32 {
    let mut admitted = 0;
    for _ in 0..calls {
        if let Ok(permit) = breaker.acquire() {
            permit.finish(Outcome::Success);
            admitted += 1;
        }
        advance(over / calls).await;
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn a_growing_share_is_admitted() {
    fastrand::seed(1);
    let breaker = recovering(Ramp::over(10 * SECOND).unwrap());
    assert_eq!(breaker.state(), State::Recovering);
    // Evenly from a tenth to all: the middle of each tenth of the ramp.
    for tenth in 0..10 {
        let share = 0.1 + 0.9 * (f64::from(tenth) + 0.5) / 10.0;
        let admitted = f64::from(admitted(&breaker, 10_000, SECOND).await) / 10_000.0;
        assert!((admitted - share).abs() < 0.02, "{admitted} of {share} in the {tenth}th second");
    }
    assert_eq!(breaker.state(), State::Recovering, "until the next call");
    assert_eq!(admitted(&breaker, 1_000, SECOND).await, 1_000);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_asks_for_little_is_not_refused() {
    let breaker = recovering(Ramp::over(10 * SECOND).unwrap());
    assert_eq!(admitted(&breaker, 15, 10 * SECOND).await, 15);
}

#[tokio::test(start_paused = true)]
async fn every_ramp_lets_a_few_through() {
    let breaker = recovering(Ramp::over(60 * SECOND).unwrap().from_share(0.000_001).unwrap());
    for _ in 0..10 {
        assert_eq!((0..100).filter(|_| breaker.acquire().is_ok()).count(), 1, "as many as there are probes");
        breaker.isolate(Duration::ZERO);
        breaker.acquire().unwrap().finish(Outcome::Success);
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_it_takes_five_seconds_or_a_shorter_window() {
    for (window, ramp) in [(60 * SECOND, 5 * SECOND), (2 * SECOND, 2 * SECOND)] {
        let trip = Trip::failure_rate(0.5, Window::time(window).unwrap()).unwrap();
        let breaker = CircuitBreakerLayer::builder("default ramp").trip(trip).build().breaker();
        breaker.isolate(Duration::ZERO);
        (0..3).for_each(|_| breaker.acquire().unwrap().finish(Outcome::Success));
        advance(ramp - MS).await;
        assert_eq!(breaker.snapshot().state, State::Recovering);
        advance(MS).await;
        assert_eq!(breaker.snapshot().state, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_ramp_all_come_at_once() {
    let breaker = recovering(Ramp::NONE);
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(admitted(&breaker, 1_000, SECOND).await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_that_the_next_call_may_have_a_chance() {
    let breaker = recovering(Ramp::over(60 * SECOND).unwrap().from_share(0.000_001).unwrap());
    let refused = (0..100).find_map(|_| breaker.acquire().err()).unwrap();
    assert_eq!(refused.retry_after(), Some(SECOND));
}

#[tokio::test(start_paused = true)]
async fn failures_on_the_way_up_open_it_again() {
    let breaker = recovering(Ramp::over(10 * SECOND).unwrap().from_share(1.0).unwrap());
    for _ in 0..20 {
        breaker.acquire().unwrap().finish(Outcome::Failure);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_ends_a_ramp_without_a_call() {
    let breaker = recovering(Ramp::over(SECOND).unwrap());
    advance(SECOND).await;
    assert_eq!(breaker.snapshot().state, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn more_successes_than_probes_at_the_same_time() {
    let probes = Probes::try_new(2, SECOND).unwrap().with_successes(5).unwrap();
    let breaker = CircuitBreakerLayer::builder("successes").probes(probes).build().breaker();
    breaker.isolate(Duration::ZERO);
    for left in [5, 4, 3] {
        let (first, second) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
        assert!(breaker.acquire().is_err(), "two at a time, {left} to come");
        first.finish(Outcome::Success);
        second.finish(Outcome::Ignored);
    }
    let (first, second) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
    first.finish(Outcome::Success);
    assert!(breaker.acquire().is_err(), "the last one that is needed is out");
    second.finish(Outcome::Success);
    assert_eq!(breaker.state(), State::Recovering);
}

#[tokio::test(start_paused = true)]
async fn the_longest_half_open_time_ends_it() {
    let probes = Probes::try_new(2, 10 * SECOND).unwrap().with_longest(15 * SECOND).unwrap();
    let breaker = CircuitBreakerLayer::builder("longest").probes(probes).build().breaker();
    breaker.isolate(Duration::ZERO);
    breaker.acquire().unwrap().finish(Outcome::Success);
    sleep(14 * SECOND).await;
    breaker.acquire().unwrap().finish(Outcome::Ignored);
    assert_eq!(breaker.state(), State::HalfOpen);
    sleep(SECOND).await;
    breaker.acquire().unwrap().finish(Outcome::Ignored);
    assert_eq!(breaker.state(), State::Recovering);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_asks_for_time_makes_it_open_for_longer() {
    let of = |length| Outcome::Throttled(Some(length));
    let layer = CircuitBreakerLayer::builder("asked")
        .trip(Trip::consecutive(2).unwrap())
        .open_for(Backoff::constant(SECOND))
        .probes(Probes::try_new(1, SECOND).unwrap())
        .ramp(Ramp::NONE);
    let breaker = layer.clone().build().breaker();
    breaker.acquire().unwrap().finish(of(20 * SECOND));
    assert_eq!(breaker.state(), State::Closed, "one failure like others");
    breaker.acquire().unwrap().finish(Outcome::Failure);
    assert_eq!(breaker.acquire().unwrap_err().retry_after(), Some(20 * SECOND));
    // A probe may ask as well.
    sleep(20 * SECOND).await;
    breaker.acquire().unwrap().finish(of(7 * SECOND));
    assert_eq!(breaker.acquire().unwrap_err().retry_after(), Some(7 * SECOND));
    breaker.reset();
    for _ in 0..2 {
        breaker.acquire().unwrap().finish(Outcome::Failure);
    }
    assert_eq!(breaker.acquire().unwrap_err().retry_after(), Some(SECOND), "a reset forgets what was asked");

    let obeys = layer.obey_throttling().build().breaker();
    let (one, straggler) = (obeys.acquire().unwrap(), obeys.acquire().unwrap());
    obeys.acquire().unwrap().finish(Outcome::Throttled(None));
    assert_eq!(obeys.state(), State::Closed, "it did not say for how long");
    obeys.acquire().unwrap().finish(Outcome::Success);
    let since = Instant::now();
    one.finish(of(30 * SECOND));
    assert_eq!(obeys.acquire().unwrap_err().retry_after(), Some(30 * SECOND));
    straggler.finish(of(40 * SECOND));
    sleep(30 * SECOND).await;
    obeys.acquire().unwrap().finish(Outcome::Success);
    assert_eq!((obeys.state(), since.elapsed()), (State::Closed, 30 * SECOND));
    obeys.acquire().unwrap().finish(of(Duration::MAX));
    assert_eq!(obeys.acquire().unwrap_err().retry_after(), Some(60 * SECOND), "no more than a minute");
}

#[tokio::test(start_paused = true)]
async fn by_chance_each_of_two_callers_gets_through() {
    // A turn for every second call would always refuse the same one of two that follow each other.
    fastrand::seed(2);
    let breaker = recovering(Ramp::over(3_600 * SECOND).unwrap().from_share(0.5).unwrap());
    let mut admitted = [0; 2];
    for i in 0..2_000 {
        admitted[i % 2] += u32::from(breaker.acquire().is_ok());
        advance(MS / 10).await;
    }
    assert!(admitted.iter().all(|n| (400..600).contains(n)), "{admitted:?}");
}
