use buttress::{
    core::{Setting, SettingValue},
    explain::Severity::{Error, Note, Warning},
};

use super::*;

#[test]
fn a_queue_ends_before_the_call() {
    let of = |wait| found(stack(&[&total(5 * SEC), &queue(10, wait)]));
    let text = "bulkhead `room` lets a call wait for 5s, but timeout `total` ends it after 5s: that wait is never over first";
    assert_eq!(texts(&of(5 * SEC)), [(Error, text)]);
    assert_eq!(of(5 * SEC - MS), []);
    assert_eq!(found(stack(&[&total(5 * SEC), &bulkhead(10)])), [], "it has no queue");
}

#[test]
fn a_rate_limit_waits_less_than_the_call_lasts() {
    let of = |wait| {
        let wait = Setting::new("wait", SettingValue::Duration(wait));
        found(Stack::new("stock").layer(&total(5 * SEC)).layer(&rate(10)).also(wait))
    };
    let found = of(5 * SEC);
    assert_eq!(found[0].0, Warning);
    assert!(
        found[0]
            .1
            .starts_with("rate-limit `pace` lets a call wait for 5s, but timeout `total` ends it after 5s"),
        "{found:?}"
    );
    assert_eq!(of(4 * SEC), []);
}

#[test]
fn a_batch_lingers_less_than_half_of_the_call() {
    let of = |linger| found(stack(&[&total(5 * SEC), &batch(linger)]));
    let text = |linger: &str| {
        format!(
            "batch `gather` lingers for {linger}, which is more than half of the 5s of timeout `total`: a batch never lingers \
             for such a caller, but goes at once"
        )
    };
    assert_eq!(of(5 * SEC), [(Error, text("5s"))]);
    assert_eq!(of(2501 * MS), [(Warning, text("2.501s"))]);
    assert_eq!(of(2500 * MS), []);
}

#[test]
fn a_permit_is_not_held_by_who_waits() {
    let of =
        |retry: &Retrier| about("permit", stack(&[&total(60 * SEC), &bulkhead(10), retry, &attempt(SEC)]));
    let text = "bulkhead `room` stands outside of retry `again`: a call keeps its permit while it waits, up to 7s in all";
    assert_eq!(texts(&of(&retry(3))), [(Note, text)]);
    assert_eq!(of(&retry(0)), []);
    assert_eq!(about("permit", stack(&[&total(60 * SEC), &retry(3), &bulkhead(10), &attempt(SEC)])), []);
}
