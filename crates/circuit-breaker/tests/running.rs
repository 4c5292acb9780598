//! A breaker that runs: read, changed, listened to and tried out.

use std::time::Duration;

use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Probes, Ramp, State, Throttle, Trip, Window};
use buttress_core::{Backoff, Metric, Observe, Outcome, Value};
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn end(breaker: &Breaker, outcome: Outcome, times: u32) {
    (0..times).for_each(|_| breaker.acquire().unwrap().finish(outcome));
}

#[tokio::test(start_paused = true)]
async fn thresholds_change_and_the_window_lives_on() {
    let trip = |rate| Trip::failure_rate(rate, Window::calls(100).unwrap()).unwrap();
    let breaker = CircuitBreakerLayer::builder("configured").trip(trip(0.9)).build().breaker();
    end(&breaker, Outcome::Success, 60);
    end(&breaker, Outcome::Failure, 39);
    let running = breaker.acquire().unwrap();
    breaker.configure(breaker.settings().trip(trip(0.4)));
    assert_eq!((breaker.snapshot().calls, breaker.snapshot().failed), (99, 39));
    running.finish(Outcome::Failure);
    assert_eq!(breaker.state(), State::Closed, "a call that ran meanwhile is not counted");
    end(&breaker, Outcome::Failure, 1);
    assert_eq!(breaker.state(), State::Open, "40 of 100");
    assert_eq!(breaker.settings(), breaker.settings().trip(trip(0.4)));
}

#[tokio::test(start_paused = true)]
async fn a_window_of_calls_becomes_one_of_time_and_slow_calls_begin_to_count() {
    let breaker = CircuitBreakerLayer::new("becomes").breaker();
    end(&breaker, Outcome::Success, 1_000);
    let trip = Trip::failure_rate(1.0, Window::time(10 * SECOND).unwrap()).unwrap();
    let trip = trip.with_slow_rate(0.5).unwrap().with_min_calls(30).unwrap();
    let settings = breaker.settings().trip(trip).slow_call(SECOND / 2);
    breaker.configure(settings);
    assert_eq!(breaker.snapshot().calls, 0);
    for _ in 0..40 {
        let permit = breaker.acquire().unwrap();
        sleep(SECOND / 2).await;
        permit.finish(Outcome::Success);
    }
    assert_eq!(
        breaker.state(),
        State::Closed,
        "all but the last 10 s are forgotten: {:?}",
        breaker.snapshot()
    );
    breaker.configure(settings.trip(trip.with_min_calls(5).unwrap()));
    let permit = breaker.acquire().unwrap();
    sleep(SECOND / 2).await;
    permit.finish(Outcome::Success);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_hears_every_change_and_the_end() {
    let layer = CircuitBreakerLayer::builder("heard")
        .trip(Trip::consecutive(2).unwrap())
        .open_for(Backoff::constant(SECOND))
        .probes(Probes::try_new(1, SECOND).unwrap())
        .ramp(Ramp::over(SECOND).unwrap())
        .build();
    let breaker = layer.breaker();
    let mut changes = breaker.subscribe();
    assert_eq!(changes.borrow_and_update().to, State::Closed);
    let listener = tokio::spawn(async move {
        let mut heard = Vec::new();
        while changes.changed().await.is_ok() {
            let change = *changes.borrow_and_update();
            heard.push((change.number, change.from, change.to, change.consecutive_failures, change.open_for));
        }
        heard
    });
    end(&breaker, Outcome::Failure, 2);
    sleep(SECOND).await;
    end(&breaker, Outcome::Success, 1);
    sleep(SECOND).await;
    end(&breaker, Outcome::Success, 1);
    sleep(SECOND).await;
    drop((layer, breaker));
    // The next of the same name is another one, though it may be lent the same memory.
    let next = CircuitBreakerLayer::builder("heard").build().breaker();
    next.force_open();
    use State::{Closed, HalfOpen, Open, Recovering};
    let heard = listener.await.unwrap();
    let expected = [
        (1, Closed, Open, 2, Some(SECOND)),
        (2, Open, HalfOpen, 0, None),
        (3, HalfOpen, Recovering, 0, None),
        (4, Recovering, Closed, 0, None),
    ];
    // A watch keeps the last one: the two that the probe caused came at the same time.
    assert!(heard == expected || heard == [expected[0], expected[2], expected[3]], "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_is_reported_beside_the_live_one() {
    let strict = Trip::consecutive(2).unwrap();
    let breaker = CircuitBreakerLayer::builder("shadow").shadow(strict).build().breaker();
    // A healthy window, which is otherwise only read.
    end(&breaker, Outcome::Success, 500);
    end(&breaker, Outcome::Failure, 2);
    end(&breaker, Outcome::Success, 10);
    end(&breaker, Outcome::Failure, 1);
    let snapshot = breaker.snapshot();
    let shadow = snapshot.shadow.unwrap();
    assert_eq!((snapshot.state, shadow.state), (State::Closed, State::Open));
    assert_eq!((shadow.opened, shadow.refused, shadow.refused_good), (1, 11, 10));
    let mut metrics = Vec::new();
    breaker.observe(&mut |metric| metrics.push(metric));
    assert!(metrics.contains(&Metric::new("shadow_refused_good", Value::Counter(10))), "{metrics:?}");
    breaker.configure(breaker.settings().without_shadow());
    assert_eq!(breaker.snapshot().shadow, None);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_with_a_window_of_time_beside_one_of_calls() {
    let lasting = Trip::failure_rate(0.5, Window::time(10 * SECOND).unwrap()).unwrap();
    let slow = lasting.with_slow_rate(0.5).unwrap();
    let breaker = CircuitBreakerLayer::builder("beside").shadow(slow).build().breaker();
    for _ in 0..30 {
        let permit = breaker.acquire().unwrap();
        advance(SECOND).await;
        permit.finish(Outcome::Success);
    }
    assert!(breaker.snapshot().shadow.unwrap().calls <= 12, "those of the last ten seconds");
    let permits: Vec<_> = (0..20).map(|_| breaker.acquire().unwrap()).collect();
    advance(SECOND).await;
    permits.into_iter().for_each(|permit| permit.finish(Outcome::Success));
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 50));
    assert_eq!(snapshot.shadow.unwrap().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn metrics_only_lets_all_through_and_says_what_it_would_have_done() {
    let breaker = CircuitBreakerLayer::builder("dry").trip(Trip::consecutive(3).unwrap()).build().breaker();
    breaker.metrics_only();
    end(&breaker, Outcome::Failure, 10);
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::MetricsOnly);
    let shadow = snapshot.shadow.unwrap();
    assert_eq!((shadow.opened, shadow.refused, shadow.refused_good), (1, 7, 0));
    breaker.reset();
    end(&breaker, Outcome::Failure, 3);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_asked_of_a_breaker_what_has_changed_by_then_is_told() {
    for ask in
        [|b: &Breaker| _ = b.settings(), |b: &Breaker| _ = b.snapshot(), |b: &Breaker| _ = b.subscribe()]
    {
        let breaker = CircuitBreakerLayer::builder("asked")
            .probes(Probes::try_new(1, SECOND).unwrap())
            .ramp(Ramp::over(SECOND).unwrap())
            .build()
            .breaker();
        let changes = breaker.subscribe();
        breaker.isolate(Duration::ZERO);
        end(&breaker, Outcome::Success, 1);
        assert_eq!(changes.borrow().to, State::Recovering);
        advance(SECOND).await;
        ask(&breaker);
        assert_eq!(changes.borrow().to, State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_is_no_transition() {
    let breaker = CircuitBreakerLayer::new("unchanged").breaker();
    let changes = breaker.subscribe();
    (0..3).for_each(|_| breaker.reset());
    breaker.force_open();
    breaker.force_open();
    breaker.reset();
    assert_eq!(changes.borrow().number, 2, "a gap would say that some were missed");
}

#[tokio::test(start_paused = true)]
async fn running_calls_count_unless_calls_are_counted_in_another_way() {
    let breaker = CircuitBreakerLayer::builder("same").trip(Trip::consecutive(1).unwrap()).build().breaker();
    let running = breaker.acquire().unwrap();
    breaker.configure(breaker.settings());
    breaker.configure(breaker.settings().probes(Probes::try_new(2, SECOND).unwrap()).slow_call(SECOND));
    running.finish(Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_times_calls_does_not_change_the_live_decisions() {
    let window = Window::calls(20).unwrap();
    let trip = Trip::failure_rate(0.5, window).unwrap();
    let breaker = CircuitBreakerLayer::builder("timed")
        .trip(trip)
        .shadow(trip.with_slow_rate(1.0).unwrap())
        .build()
        .breaker();
    end(&breaker, Outcome::Failure, 19);
    let slow = breaker.acquire().unwrap();
    advance(2 * SECOND).await;
    slow.finish(Outcome::Success);
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.slow),
        (State::Closed, 20, 0),
        "a success opens nothing"
    );
    assert_eq!(snapshot.shadow.unwrap().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn thresholds_that_come_while_they_are_only_tried_are_tried() {
    let layer = CircuitBreakerLayer::builder("tried").throttle(Throttle::default()).build();
    let breaker = layer.breaker();
    breaker.metrics_only();
    assert_eq!(breaker.snapshot().shadow, None, "a throttle is not tried out");
    breaker.configure(breaker.settings().trip(Trip::consecutive(2).unwrap()));
    end(&breaker, Outcome::Failure, 3);
    let shadow = breaker.snapshot().shadow.unwrap();
    assert_eq!((shadow.opened, shadow.refused), (1, 1));
    breaker.configure(breaker.settings().throttle(Throttle::default()));
    assert_eq!(breaker.snapshot().shadow, None);
}

#[tokio::test(start_paused = true)]
async fn another_open_time_holds_from_the_next_time_on() {
    let breaker =
        CircuitBreakerLayer::builder("longer").trip(Trip::consecutive(1).unwrap()).build().breaker();
    breaker.configure(breaker.settings().open_for(Backoff::constant(7 * SECOND)));
    end(&breaker, Outcome::Failure, 1);
    assert_eq!(breaker.snapshot().retry_after, Some(7 * SECOND));
    breaker.configure(breaker.settings().open_for(Backoff::constant(SECOND)));
    assert_eq!(breaker.snapshot().retry_after, Some(7 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_held_obeys_nobody() {
    let breaker = CircuitBreakerLayer::builder("held").obey_throttling().build().breaker();
    for hold in [Breaker::force_closed, Breaker::metrics_only] {
        hold(&breaker);
        let state = breaker.state();
        end(&breaker, Outcome::Throttled(Some(SECOND)), 1);
        breaker.isolate(SECOND);
        assert_eq!(breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_open_sees_every_call_when_it_ends() {
    let breaker = CircuitBreakerLayer::builder("each")
        .trip(Trip::failure_rate(1.0, Window::calls(4).unwrap()).unwrap())
        .open_for(Backoff::constant(10 * SECOND))
        .probes(Probes::try_new(1, SECOND).unwrap())
        // With a window, so that good calls need not be counted one by one while it is closed.
        .shadow(Trip::failure_rate(1.0, Window::calls(100).unwrap()).unwrap().with_consecutive(1).unwrap())
        .build()
        .breaker();
    end(&breaker, Outcome::Failure, 1);
    // Soon the live window is full of successes, to which one more makes no difference.
    end(&breaker, Outcome::Success, 50);
    for _ in 0..9 {
        advance(SECOND).await;
        end(&breaker, Outcome::Success, 1);
    }
    advance(SECOND).await;
    end(&breaker, Outcome::Failure, 1);
    // Not before: whoever looks has all counted.
    let shadow = breaker.snapshot().shadow.unwrap();
    assert_eq!((shadow.opened, shadow.refused, shadow.refused_good), (2, 59, 59), "{shadow:?}");
}

#[tokio::test(start_paused = true)]
async fn windows_of_any_two_lengths_stand_beside_each_other() {
    let of = |length| Trip::failure_rate(1.0, Window::time(length).unwrap()).unwrap();
    for (live, candidate) in [(10 * SECOND, SECOND / 50), (SECOND / 50, 10 * SECOND)] {
        let breaker = CircuitBreakerLayer::builder("lengths").trip(of(live)).build().breaker();
        breaker.configure(breaker.settings().shadow(of(candidate)));
        for _ in 0..100 {
            end(&breaker, Outcome::Success, 1);
            advance(SECOND / 100).await;
        }
        let snapshot = breaker.snapshot();
        let (live, candidate) = (snapshot.calls, snapshot.shadow.unwrap().calls);
        let (long, short) = (live.max(candidate), live.min(candidate));
        assert!(long == 100 && (1..=3).contains(&short), "{live} beside {candidate}");
        breaker.configure(breaker.settings().without_shadow());
        assert_eq!(breaker.snapshot().calls, live);
    }
}
