use buttress::{
    explain::Severity::{Note, Warning},
    hedge::{CloneRequest, HedgeLayer},
};

use super::*;

#[test]
fn telemetry_stands_outermost() {
    let registry = Registry::new();
    let seen = telemetry(&registry, SEC);
    let inside = found(stack(&[&total(5 * SEC), &seen]));
    let text = "telemetry `seen` stands inside of timeout `total`: what that refuses, answers or adds by itself is not \
                measured";
    assert_eq!(texts(&inside), [(Note, text)]);
    assert_eq!(found(stack(&[&seen, &total(5 * SEC)])), []);

    let beside_the_backend = TelemetryLayer::new("attempts", &registry).unwrap();
    assert_eq!(found(stack(&[&seen, &total(5 * SEC), &beside_the_backend])), []);
}

#[test]
fn a_cache_stands_around_what_is_for_its_misses() {
    let hedge = HedgeLayer::new("twice", CloneRequest).hedger();
    let outside: [(&dyn Observe, _, _); 4] = [
        (
            &retry(3),
            Warning,
            "retry `again` stands outside of cache `kept`: all who wait for one load that fails ask again, \
                              each up to 4 times",
        ),
        (
            &breaker(5),
            Warning,
            "circuit-breaker `guard` stands outside of cache `kept`: while it is open it refuses what the \
                                cache has",
        ),
        (
            &hedge,
            Warning,
            "hedge `twice` stands outside of cache `kept`: the second attempt joins the load of the first",
        ),
        (&rate(5), Note, "rate-limit `pace` stands outside of cache `kept`: hits use its units up"),
    ];
    for (outer, severity, text) in outside {
        let inside =
            about("outside of cache", stack(&[&total(60 * SEC), outer, &cache(), &attempt(9 * SEC)]));
        assert_eq!(inside.len(), 1, "{text}");
        assert_eq!(inside[0].0, severity);
        assert!(inside[0].1.starts_with(text), "{inside:?}");
        assert_eq!(
            about("outside of cache", stack(&[&cache(), &total(60 * SEC), outer, &attempt(9 * SEC)])),
            []
        );
    }
    assert_eq!(found(stack(&[&total(60 * SEC), &retry(0), &cache()])), []);
}

#[test]
fn a_breaker_sees_attempts() {
    let outside = about("sees calls", stack(&[&total(60 * SEC), &breaker(5), &retry(3), &attempt(SEC)]));
    let text = "circuit-breaker `guard` stands outside of retry `again`: it sees calls, not attempts; 5 failures in a row open \
                it, which are up to 5 x 4 = 20 attempts";
    assert_eq!(texts(&outside), [(Warning, text)]);
    let by_rate = about("sees calls", stack(&[&total(60 * SEC), &slow_rate(SEC), &retry(3), &attempt(SEC)]));
    assert!(by_rate[0].1.ends_with("a failure that it counts is up to 4 attempts"), "{by_rate:?}");

    let inner = CircuitBreakerLayer::new("inner").breaker();
    for fine in [
        stack(&[&total(60 * SEC), &retry(3), &breaker(5), &attempt(SEC)]),
        stack(&[&total(60 * SEC), &breaker(5), &retry(0), &attempt(SEC)]),
        stack(&[&total(60 * SEC), &breaker(5), &retry(3), &inner, &attempt(SEC)]),
    ] {
        assert_eq!(about("sees calls", fine), []);
    }
}

#[test]
fn a_breaker_counts_a_batch_once() {
    let of = |failures| {
        about("as many failures", stack(&[&total(5 * SEC), &breaker(failures), &batch(Duration::ZERO)]))
    };
    let text = "circuit-breaker `guard` stands outside of batch `gather`: one batch of up to 64 that fails is as many \
                failures, and 64 in a row open it; inside, a batch is one";
    assert_eq!(texts(&of(64)), [(Warning, text)]);
    assert_eq!(of(65), []);
    assert_eq!(found(stack(&[&total(5 * SEC), &batch(Duration::ZERO), &breaker(5)])), []);
}
