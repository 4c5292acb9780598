use buttress::{
    core::{Metric, Origin, Setting, SettingValue, WeakObserve},
    hedge::{CloneRequest, HedgeLayer},
};

use super::*;

/// The stack in front of Postgres that `System` makes, with its defaults.
fn default_stack(registry: &Registry) -> Stack {
    let guard = CircuitBreakerLayer::builder("guard")
        .trip(Trip::consecutive(5).unwrap())
        .open_for(Backoff::constant(60 * SEC))
        .build();
    let seen = telemetry(registry, SEC);
    stack(&[&seen, &total(30 * SEC), &retry(3), &guard.breaker(), &postgres()])
}

#[test]
fn the_order_and_the_defaults_of_a_system_warn_of_nothing() {
    let explanation = Explanation::of([default_stack(&Registry::new())]);
    assert!(explanation.findings().iter().all(|finding| finding.severity == Severity::Note), "{explanation}");

    let command_timeout = Setting::new("command_timeout", SettingValue::Duration(SEC));
    let seen = telemetry(&Registry::new(), SEC);
    let redis = stack(&[&seen, &total(5 * SEC), &breaker(5)]).settings("redis", "kv", vec![command_timeout]);
    assert_eq!(found(redis), []);

    let seen = telemetry(&Registry::new(), SEC);
    let web = stack(&[&seen, &total(30 * SEC), &retry(3), &breaker(5), &http(true)]);
    assert!(found(web).iter().all(|(severity, _)| *severity == Severity::Note));
}

#[test]
fn each_layer_with_its_own_default_in_the_recommended_order_warns_of_nothing() {
    let (registry, hedge) = (Registry::new(), HedgeLayer::new("twice", CloneRequest));
    let seen = TelemetryLayer::new("seen", &registry).unwrap();
    let again = RetryLayer::new("again").retrier();
    let guard = CircuitBreakerLayer::new("guard").breaker();
    let layers: [&dyn Observe; 10] = [
        &seen,
        &cache(),
        &total(30 * SEC),
        &rate(100),
        &again,
        &hedge.hedger(),
        &guard,
        &attempt(4 * SEC),
        &bulkhead(50),
        &postgres(),
    ];
    let explanation = Explanation::of([stack(&layers)]);
    // The pool's own wait is longer than such an attempt, and ends with it.
    let findings: Vec<_> =
        explanation.findings().iter().map(|finding| (finding.severity, &*finding.layers[0].0)).collect();
    assert_eq!(findings, [(Severity::Note, "postgres")], "{explanation}");
    let stack = &explanation.stacks()[0];
    // An attempt takes 4 s; its hedge begins when it is nearly over; three of that, and 100 ms and 200 ms between.
    let from_retry = stack.layers[4].longest.unwrap();
    assert_eq!(from_retry, 3 * 8 * SEC + 300 * MS);
    assert_eq!((stack.longest, stack.attempts), (Some(24 * SEC + 300 * MS), 6));
}

#[test]
fn a_page_of_text() {
    let explanation = Explanation::of([default_stack(&Registry::new())]);
    let page = "\
stack `stock`, outermost first, with the longest time from each layer inwards
  telemetry `seen`            30s  slow_after 1s
  timeout `total`             30s  limit 30s
  retry `again`            no end  retries 3, backoff_first 1s, backoff_cap 60s, backoff_factor 2, budget_ratio 0.2
  circuit-breaker `guard`  no end  consecutive 5, open_for 60s
  postgres `shop`          no end  pool_size 20, max_overflow 30, wait_timeout 5s, connect_timeout 5s
at worst
  attempts  4 = 4 by retry `again`
  latency   30s, where timeout `total` ends it; without end otherwise
  load      4 attempts a call; in the long run 1.2, and 10 a second
  waits     5s in postgres `shop`
  bounds    telemetry `seen`: 64 operations
            postgres `shop`: 50 connections, 256 statements prepared on a connection

findings: 0 errors, 0 warnings, 1 note
  note     stack `stock`: retry `again`: no timeout stands around a single attempt: one that hangs takes all of the 30s of \
        timeout `total`, and is not repeated";
    assert_eq!(explanation.to_string(), page, "\n{explanation}");
}

#[test]
fn what_a_rate_limit_lets_in_becomes_attempts() {
    let layers: [&dyn Observe; 5] =
        [&total(30 * SEC), &rate(100), &retry(3), &attempt(2 * SEC), &queue(5, SEC)];
    let explanation = Explanation::of([stack(&layers)]);
    let page = explanation.to_string();
    let load = "load      4 attempts a call; in the long run 1.2, and 10 a second; 100 calls in 1s by rate-limit `pace`, which \
                are 400 attempts";
    assert!(page.contains(load), "{page}");
    assert!(page.contains("latency   15s"), "{page}");
    assert!(page.contains("waits     1s in bulkhead `room`"), "{page}");
    assert!(page.contains("bounds    bulkhead `room`: 5 calls at a time, 100 calls in its queue"), "{page}");
}

#[test]
fn the_stacks_of_a_registry_are_explained_as_they_are_set() {
    let registry = Registry::new();
    let (outer, again, inner) = (total(10 * SEC), retry(3), attempt(12 * SEC));
    registry.stack("stock").layer(&outer).layer(&again).layer(&inner).register().unwrap();
    let db = postgres();
    registry.stack("shop").layer(&db).register().unwrap();

    let explanation = Explanation::of_registry(&registry);
    let by_hand = Explanation::of([
        Stack::new("stock").layer(&outer).layer(&again).layer(&inner),
        Stack::new("shop").layer(&db),
    ]);
    assert_eq!(explanation, by_hand);
    assert!(explanation.has_errors());
    let severities: Vec<Severity> = explanation.findings().iter().map(|finding| finding.severity).collect();
    assert!(severities.is_sorted(), "the worst first");
    let finding = &explanation.findings()[0];
    assert_eq!((&*finding.stack, finding.layers.len()), ("stock", 2));
    assert_eq!(finding.layers[0], ("timeout".to_owned(), "attempt".to_owned()));
}

#[test]
fn a_layer_of_its_user_is_shown_and_changes_nothing() {
    #[derive(Clone)]
    struct Own;
    impl Observe for Own {
        fn origin(&self) -> Origin {
            Origin::new("own", "a\nname`")
        }
        fn observe(&self, _: &mut dyn FnMut(Metric)) {}
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::stateless(self)
        }
        fn settings(&self, visit: &mut dyn FnMut(Setting)) {
            visit(Setting::new("limit", SettingValue::Duration(SEC)));
            visit(Setting::new("retries", SettingValue::Count(9)));
            visit(Setting::new("spare", SettingValue::Off));
        }
    }
    let explanation = Explanation::of([stack(&[&total(5 * SEC), &Own])]);
    let stack = &explanation.stacks()[0];
    assert_eq!((stack.attempts, stack.longest, stack.layers[1].longest), (1, Some(5 * SEC), None));
    assert_eq!(explanation.findings(), []);
    let page = explanation.to_string();
    assert!(page.contains("own `a\\n"), "one line for each layer: {page}");
    assert!(page.contains("limit 1s, retries 9\n"), "{page}");
}
