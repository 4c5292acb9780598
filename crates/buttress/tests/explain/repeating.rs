use buttress::{
    explain::Severity::{Error, Note, Warning},
    hedge::{CloneRequest, HedgeLayer, Hedger, Percentile},
};

use super::*;

fn hedge(delay: Duration) -> Hedger {
    HedgeLayer::new("twice", CloneRequest).delay(delay).hedger()
}

#[test]
fn all_attempts_fit() {
    let of = |limit| about("attempts of", stack(&[&total(limit), &retry(3), &attempt(10 * SEC)]));
    let sum = "retry `again`: 4 attempts of 10s and waits of up to 1s + 2s + 4s take 47s, but timeout `total` ends the call \
               after";
    assert_eq!(of(47 * SEC), []);
    let cases = [
        (46 * SEC, Warning, format!("{sum} 46s: the last attempt is cut off")),
        (38 * SEC, Warning, format!("{sum} 38s: the last attempt is cut off")),
        // The fourth begins after 37 s.
        (37 * SEC, Warning, format!("{sum} 37s: no attempt begins after the first 3")),
        (30 * SEC, Warning, format!("{sum} 30s: attempt 3 is cut off, and no other begins")),
        (12 * SEC, Warning, format!("{sum} 12s: attempt 2 is cut off, and no other begins")),
        // The second begins after 11 s.
        (11 * SEC, Error, format!("{sum} 11s: not even the second attempt begins")),
    ];
    for (limit, severity, text) in cases {
        assert_eq!(of(limit), [(severity, text)]);
    }
}

#[test]
fn a_limit_that_is_found_by_itself_is_not_found_twice() {
    let found = found(stack(&[&total(30 * SEC), &retry(3), &attempt(30 * SEC)]));
    let text = "timeout `attempt` of 30s is inside of timeout `total` of 30s: it never ends a call";
    assert_eq!(texts(&found), [(Error, text)]);
}

#[test]
fn the_first_wait_ends_before_the_call() {
    let late = RetryLayer::new("again").backoff(Backoff::constant(5 * SEC)).retrier();
    let of = |limit| about("before its first retry", stack(&[&total(limit), &late]));
    let text =
        "retry `again` waits up to 5s before its first retry, but timeout `total` ends the call after 5s";
    assert_eq!(texts(&of(5 * SEC)), [(Warning, text)]);
    assert_eq!(of(6 * SEC), []);
}

#[test]
fn many_waits_are_told_together() {
    let late =
        RetryLayer::new("again").retries(9).backoff(Backoff::exponential(SEC, 10 * SEC).unwrap()).retrier();
    let found = about("waits of", stack(&[&total(60 * SEC), &late, &attempt(SEC)]));
    // 1 + 2 + 4 + 8 + 5 x 10
    assert!(
        found[0].1.contains("waits of up to 1s + 2s + ... (9 of them, 65s together) take 75s"),
        "{found:?}"
    );
}

#[test]
fn an_attempt_ends_by_itself() {
    let open = found(stack(&[&total(30 * SEC), &retry(3)]));
    let text = "retry `again`: no timeout stands around a single attempt: one that hangs takes all of the 30s of timeout \
                `total`, and is not repeated";
    assert_eq!(texts(&open), [(Note, text)]);
    assert_eq!(found(stack(&[&total(30 * SEC), &retry(0)])), []);
    assert_eq!(found(stack(&[&total(30 * SEC), &retry(3), &attempt(5 * SEC)])), []);
}

#[test]
fn what_does_harm_is_not_repeated() {
    let of = |repeats| {
        let layers: [&dyn Observe; 4] = [&total(30 * SEC), &retry(3), &hedge(SEC), &attempt(2 * SEC)];
        found(stack(&layers).repeats(repeats))
    };
    assert_eq!(of(Repeats::Safe), []);
    let all = of(Repeats::All);
    assert!(all.iter().all(|(severity, _)| *severity == Warning), "{all:?}");
    assert!(
        all[0].1.starts_with("retry `again` repeats every call: what writes may be carried out 4 times"),
        "{all:?}"
    );
    assert!(
        all[1].1.starts_with("hedge `twice` repeats every call: what writes may be carried out 2 times"),
        "{all:?}"
    );
    let text = "retry `again` sends a call up to 4 times: its settings do not tell which calls";
    assert_eq!(texts(&of(Repeats::Untold)), [(Note, text)]);
    assert_eq!(found(stack(&[&total(SEC), &retry(0)]).repeats(Repeats::All)), []);
}

#[test]
fn retries_have_a_budget() {
    let found = about("budget", stack(&[&total(60 * SEC), &unlimited("again", 3), &attempt(SEC)]));
    let text = "retry `again` has no budget: a backend that fails every call gets 4 times its load for as long as it fails";
    assert_eq!(texts(&found), [(Warning, text)]);
    assert_eq!(about("budget", stack(&[&total(60 * SEC), &retry(3), &attempt(SEC)])), []);
    assert_eq!(about("budget", stack(&[&total(60 * SEC), &unlimited("again", 0), &attempt(SEC)])), []);
}

#[test]
fn a_stack_has_one_retry() {
    let outer = RetryLayer::new("outer").retries(3).retrier();
    let of = |inner: &Retrier| {
        about("inside of one another", stack(&[&total(600 * SEC), &outer, inner, &attempt(SEC)]))
    };
    let text = "retry `outer` and retry `again` stand inside of one another: a call that fails is sent 4 x 4 = 16 times";
    assert_eq!(texts(&of(&retry(3))), [(Warning, text)]);
    assert_eq!(of(&unlimited("again", 1))[0].0, Error);
    assert_eq!(of(&retry(0)), []);
}

#[test]
fn a_hedge_begins() {
    let of = |delay| about("never begins", stack(&[&total(30 * SEC), &hedge(delay), &attempt(2 * SEC)]));
    let text = "hedge `twice` begins after 2s, and an attempt takes 2s at most: it never begins";
    assert_eq!(texts(&of(2 * SEC)), [(Error, text)]);
    assert_eq!(of(2 * SEC - MS), []);

    let of = |delay| about("never begins", stack(&[&total(30 * SEC), &hedge(delay)]));
    let text = "hedge `twice` begins after 30s, but timeout `total` ends the call after 30s: it never begins";
    assert_eq!(texts(&of(30 * SEC)), [(Error, text)]);
    assert_eq!(of(29 * SEC), []);

    let measured = |least| {
        let delay =
            Percentile::try_new(95.0).unwrap().between(least, 10 * SEC).unwrap().until_measured(10 * SEC);
        HedgeLayer::new("twice", CloneRequest).delay(delay).hedger()
    };
    let of = |least| about("never begins", stack(&[&total(30 * SEC), &measured(least), &attempt(2 * SEC)]));
    assert_eq!(of(2 * SEC).len(), 1);
    assert_eq!(of(SEC), [], "its percentile may be shorter than an attempt");
}
