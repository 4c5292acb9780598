use buttress::{
    circuit_breaker::CircuitBreakerLayer,
    core::{Backoff, Setting, SettingValue},
    explain::Severity::{Error, Note, Warning},
};

use super::*;

#[test]
fn an_inner_timeout_is_shorter_than_the_outer() {
    let found = found(stack(&[&total(30 * SEC), &attempt(40 * SEC)]));
    let text = "timeout `attempt` of 40s is inside of timeout `total` of 30s: it never ends a call";
    assert_eq!(texts(&found), [(Error, text)]);

    let same = about("never ends", stack(&[&total(30 * SEC), &attempt(30 * SEC)]));
    assert_eq!(same.len(), 1);
    assert_eq!(self::found(stack(&[&total(30 * SEC), &attempt(30 * SEC - MS)])), []);
}

#[test]
fn behind_a_batch_an_inner_timeout_ends_what_its_callers_left() {
    let found = found(stack(&[&total(30 * SEC), &batch(Duration::ZERO), &attempt(40 * SEC)]));
    let text =
        "timeout `attempt` of 40s is inside of timeout `total` of 30s: it ends only what outlives its caller";
    assert_eq!(texts(&found), [(Note, text)]);

    let reloading = Cache::<u64, u64>::builder("kept").stale_while_revalidate(SEC).build();
    let layers: [&dyn Observe; 3] = [&total(30 * SEC), &reloading, &attempt(40 * SEC)];
    assert_eq!(about("outlives", stack(&layers)).len(), 1);
    assert_eq!(about("never ends", stack(&[&total(30 * SEC), &cache(), &attempt(40 * SEC)])).len(), 1);
}

#[test]
fn the_default_of_an_api_client_contradicts_no_timeout_of_the_same_length() {
    let api = |limit| {
        let timeout = Setting::new("timeout", SettingValue::Duration(limit));
        Stack::new("stock").settings("api-client", "stock", vec![timeout]).layer(&total(30 * SEC))
    };
    assert_eq!(found(api(30 * SEC)), []);
    assert_eq!(about("never ends", api(29 * SEC)).len(), 1);
}

#[test]
fn something_ends_a_call() {
    let open = found(stack(&[&breaker(5), &postgres()]));
    let text = "no timeout stands around postgres `shop`: a call that hangs ends with its caller's deadline, or never";
    assert_eq!(texts(&open), [(Warning, text)]);
    assert_eq!(found(stack(&[&total(30 * SEC), &breaker(5), &postgres()])), []);

    let open = found(stack(&[&bulkhead(5)]));
    assert_eq!(
        texts(&open),
        [(Note, "it has no timeout: a call that hangs ends with its caller's deadline, or never")]
    );
    assert_eq!(found(stack(&[&cache()])), [], "a cache holds nothing while a call hangs");
    assert_eq!(found(stack(&[])), []);
}

#[test]
fn a_client_waits_no_longer_than_its_caller() {
    let of = |limit| about("wait_timeout", stack(&[&total(limit), &postgres()]));
    let text = "postgres `shop`: its wait_timeout of 5s is more than timeout `total` of 4s, which ends the call first";
    assert_eq!(texts(&of(4 * SEC)), [(Note, text)]);
    assert_eq!(of(5 * SEC), []);
}

#[test]
fn a_slow_call_can_be_slow() {
    let registry = Registry::new();
    let slow = telemetry(&registry, SEC);
    let of = |limit| found(stack(&[&slow, &total(limit)]));
    let text =
        "telemetry `seen` calls slow what takes 1s, and no call takes more than 999ms: none is ever slow";
    assert_eq!(texts(&of(999 * MS)), [(Note, text)]);
    assert_eq!(of(SEC), []);
}

#[test]
fn a_breaker_can_see_slow_calls() {
    let of = |slow| about("slow_rate", stack(&[&total(30 * SEC), &slow_rate(slow), &attempt(2 * SEC)]));
    let text = "circuit-breaker `guard` counts as slow what takes 3s, and a call inside of it takes 2s at most: its slow_rate \
                never opens it";
    assert_eq!(texts(&of(3 * SEC)), [(Warning, text)]);
    assert_eq!(of(2 * SEC), []);
    // Without a rate of slow calls, the threshold is for dropped calls alone.
    let failures = CircuitBreakerLayer::builder("guard").slow_call(3 * SEC).build().breaker();
    assert_eq!(found(stack(&[&total(30 * SEC), &failures, &attempt(2 * SEC)])), []);
}

#[test]
fn a_breaker_sees_what_is_dropped() {
    let of = |limit| about("dropped", stack(&[&total(limit), &breaker(5)]));
    let text = "circuit-breaker `guard` counts what is dropped from its slow_call of 1s on, and timeout `total` around it \
                drops what hangs after 500ms: it does not see that a backend hangs";
    assert_eq!(texts(&of(500 * MS)), [(Warning, text)]);
    assert_eq!(of(SEC), []);
    // A limit inside ends what hangs before, as a failure.
    assert_eq!(about("dropped", stack(&[&total(500 * MS), &breaker(5), &attempt(100 * MS)])), []);

    let deaf = CircuitBreakerLayer::builder("guard").ignore_dropped().build().breaker();
    let found = about("ignores what is dropped", stack(&[&total(30 * SEC), &deaf]));
    assert_eq!(found[0].0, Note);
}

#[test]
fn a_breaker_stays_open_until_old_calls_have_ended() {
    let open_for =
        |time| CircuitBreakerLayer::builder("guard").open_for(Backoff::constant(time)).build().breaker();
    let of = |time| found(stack(&[&total(30 * SEC), &open_for(time), &attempt(10 * SEC)]));
    let text = "circuit-breaker `guard` is open for 9s, and a call inside of it takes up to 10s: it probes before all of the \
                old ones have ended";
    assert_eq!(texts(&of(9 * SEC)), [(Note, text)]);
    assert_eq!(of(10 * SEC), []);
}
