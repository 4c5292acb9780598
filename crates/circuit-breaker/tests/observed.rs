//! What the handle tells and does, and what a breaker says of its decisions.

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, State, Trip, Window};
use buttress_core::{Backoff, BoxError, Decisions, Observe, Setting, SettingValue, UnknownAction};
use buttress_testkit::observed::settings;
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn settings_are_those_in_force() {
    let second = Duration::from_secs(1);
    let trip =
        Trip::failure_rate(0.25, Window::time(10 * second).unwrap()).unwrap().with_min_calls(7).unwrap();
    let layer =
        CircuitBreakerLayer::builder("settings").trip(trip).open_for(Backoff::constant(3 * second)).build();
    let breaker = layer.breaker();
    let seen = settings(&breaker);
    for expected in [
        Setting::new("failure_rate", SettingValue::Ratio(0.25)),
        Setting::new("slow_rate", SettingValue::Off),
        Setting::new("min_calls", SettingValue::Count(7)),
        Setting::new("window", SettingValue::Duration(10 * second)),
        Setting::new("consecutive", SettingValue::Off),
        Setting::new("open_for", SettingValue::Duration(3 * second)),
        Setting::new("ignore_dropped", SettingValue::Word("no")),
    ] {
        assert!(seen.contains(&expected), "{expected:?} in {seen:?}");
    }
    breaker.configure(breaker.settings().trip(Trip::consecutive(4).unwrap()));
    assert!(settings(&breaker).contains(&Setting::new("consecutive", SettingValue::Count(4))));
    assert!(settings(&breaker).contains(&Setting::new("failure_rate", SettingValue::Off)));
}

#[tokio::test(start_paused = true)]
async fn actions_steer_it() {
    let breaker = CircuitBreakerLayer::new("actions").breaker();
    for (action, state) in
        [("force_open", State::ForcedOpen), ("force_closed", State::ForcedClosed), ("reset", State::Closed)]
    {
        assert!(breaker.actions().contains(&action));
        breaker.act(action).unwrap();
        assert_eq!(breaker.state(), state);
    }
    assert_eq!(breaker.act("explode"), Err(UnknownAction));
}

#[tokio::test(start_paused = true)]
async fn a_weak_handle_ends_with_the_last_service() {
    let layer = CircuitBreakerLayer::new("weak");
    let weak = layer.breaker().downgrade();
    let service = layer.layer(service_fn(async |()| Ok::<_, BoxError>(())));
    drop(layer);
    assert!(weak.upgrade().is_some());
    drop(service);
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why() {
    let trip = Trip::failure_rate(0.5, Window::calls(10).unwrap()).unwrap().with_min_calls(5).unwrap();
    let layer = CircuitBreakerLayer::builder("why").trip(trip).build();
    let service =
        layer.layer(service_fn(async |fails: bool| if fails { Err(BoxError::from("no")) } else { Ok(()) }));
    let mut decisions = Decisions::new();
    for fails in [false, true, true, true, false] {
        let call = service.clone().oneshot(fails);
        tokio::pin!(call);
        _ = decisions
            .collect(|| call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())));
    }
    assert!(decisions.as_slice().is_empty(), "what passes is no decision: {decisions:?}");
    _ = service.clone().oneshot(true).await;
    advance(Duration::from_millis(2100)).await;
    let call = service.clone().oneshot(true);
    tokio::pin!(call);
    _ = decisions
        .collect(|| call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())));
    let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
    assert_eq!((decision.origin.layer(), decision.what), ("circuit-breaker", "refused"));
    assert_eq!(decision.why, "open since 2.1s: 66 % of 6 failed");

    layer.breaker().force_open();
    assert!(layer.breaker().acquire().is_err(), "nobody collects here");
    let mut decisions = Decisions::new();
    decisions.collect(|| layer.breaker().acquire().is_err());
    assert_eq!(decisions.as_slice()[0].why, "forced_open since 0.0ns");
}
