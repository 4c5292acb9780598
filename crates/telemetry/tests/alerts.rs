//! Alerts of a real stack, in virtual time.

#[path = "support/stack.rs"]
mod stack;

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use buttress_telemetry::{
    Alert, AlertStatus, Alerts, BurnWindow, Change, Cleared, Comparison, InvalidRules, Notify, Registry,
    Rule, Severity, Slo, Subject, default_rules,
};
use tokio::time::{Instant, sleep};

use self::stack::{OPEN_FOR, Stack};

/// Keeps what it is told, with the time.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Alert>>>);

impl Told {
    fn notify(&self) -> Notify {
        let told = Arc::clone(&self.0);
        Notify::function(move |alert| told.lock().unwrap().push(alert.clone()))
    }

    fn take(&self) -> Vec<(String, Change)> {
        self.0.lock().unwrap().drain(..).map(|alert| (alert.state.rule, alert.change)).collect()
    }
}

fn figure(alerts: &Alerts, name: &str, label: Option<&str>) -> f64 {
    let mut found = None;
    alerts.observe(&mut |metric| {
        if metric.name == name && metric.label.map(|(_, value)| value) == label {
            found = Some(match metric.value {
                Value::Counter(count) => count as f64,
                Value::Gauge(gauge) => gauge,
                _ => unreachable!(),
            });
        }
    });
    found.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_stays_open_fires_after_its_time_and_clears_when_it_closes() {
    let stack = Stack::new("alerts-open");
    let told = Told::default();
    let rules = default_rules(&stack.registry);
    let rules = rules.into_iter().filter(|rule| rule.name().starts_with("circuit-breaker"));
    let alerts = Alerts::builder(&stack.registry)
        .rules(rules)
        .every(Duration::from_secs(1))
        .notify(told.notify())
        .build()
        .unwrap();
    stack.calls(20).await;
    assert_eq!((alerts.active(), told.take()), (vec![], vec![]));

    stack.is_down.store(true, SeqCst);
    while stack.breaker.snapshot().opened == 0 {
        stack.calls(1).await;
    }
    let opened = Instant::now();
    sleep(Duration::from_secs(2)).await;
    let pending = alerts.active();
    assert_eq!((pending.len(), pending[0].status), (1, AlertStatus::Pending));
    assert_eq!((pending[0].severity, pending[0].instance), (Severity::Critical, "alerts-open"));
    assert_eq!(told.take(), []);

    let rule = "circuit-breaker alerts-open open".to_owned();
    let fired = loop {
        // The half-open state, and another refusal, are no recovery.
        stack.calls(1).await;
        if let [one] = &told.take()[..] {
            break one.clone();
        }
        assert!(opened.elapsed() < 2 * OPEN_FOR);
    };
    assert_eq!(fired, (rule.clone(), Change::Fired));
    assert!(opened.elapsed() >= OPEN_FOR, "after {:?}", opened.elapsed());
    assert_eq!(alerts.active()[0].status, AlertStatus::Firing);
    assert_eq!((figure(&alerts, "firing", None), figure(&alerts, "pending", None)), (1.0, 0.0));

    stack.is_down.store(false, SeqCst);
    stack.calls(200).await;
    assert_eq!(told.take(), [(rule, Change::Cleared(Cleared::Recovered))]);
    assert_eq!(alerts.active(), []);
    assert_eq!(figure(&alerts, "notifications", Some("delivered")), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_burns_fires_and_clears_in_virtual_hours() {
    let stack = Stack::new("alerts-burn");
    let told = Told::default();
    let _alerts = Alerts::builder(&stack.registry)
        .rule(
            Rule::burn_rate("burn", Slo::new("alerts-burn", 0.99).rejected_are_bad())
                .windows([BurnWindow::DEFAULT[0]]),
        )
        .notify(told.notify())
        .build()
        .unwrap();
    let hour = 32_000;
    let calls = async |count| stack.calls(count).await;
    calls(hour).await;
    assert_eq!(told.take(), []);
    // All calls are bad: 14.4 % of an hour is what they may be.
    stack.is_down.store(true, SeqCst);
    let began = Instant::now();
    while told.0.lock().unwrap().is_empty() {
        calls(50).await;
    }
    assert_eq!(told.take(), [("burn".to_owned(), Change::Fired)]);
    let took = began.elapsed().as_secs();
    assert!((400..620).contains(&took), "{took} s");
    stack.is_down.store(false, SeqCst);
    stack.breaker.reset();
    let began = Instant::now();
    while told.0.lock().unwrap().is_empty() {
        calls(50).await;
    }
    assert_eq!(told.take(), [("burn".to_owned(), Change::Cleared(Cleared::Recovered))]);
    let took = began.elapsed().as_secs();
    assert!((200..2000).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_dropped_clears_what_fires_because_it_is_gone() {
    let stack = Stack::new("alerts-gone");
    let told = Told::default();
    let registry = stack.registry.clone();
    let rule = Rule::between("open", Subject::figure("circuit-breaker", "state"), 1.0..=3.0);
    let alerts = Alerts::builder(&registry).rule(rule).notify(told.notify()).build().unwrap();
    stack.breaker.force_open();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(told.take(), [("open".to_owned(), Change::Fired)]);
    drop(stack);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(told.take(), [("open".to_owned(), Change::Cleared(Cleared::Gone))]);
    assert_eq!(alerts.active(), []);
}

/// Level 1 as long as it lives; a panic when it is told to.
struct Level(Arc<Mutex<bool>>);

impl Observe for Level {
    fn origin(&self) -> Origin {
        Origin::new("alerts-test", "level")
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let panics = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(!panics, "told to");
        visit(Metric::new("level", Value::Gauge(1.0)));
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

fn high(name: &str) -> Rule {
    Rule::threshold(name, Subject::figure("alerts-test", "level"), Comparison::AtLeast, 1.0)
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_or_never_returns_delays_nobody() {
    let registry = Registry::new();
    let level = Level(Arc::default());
    registry.register(&level).unwrap();
    let (told, (release, held)) = (Told::default(), std::sync::mpsc::channel::<()>());
    let held = Mutex::new(held);
    let alerts = Alerts::builder(&registry)
        .rules((0..3).map(|at| high(&at.to_string())))
        .notify(Notify::function(|_| panic!("a secret")))
        .notify(Notify::function(move |_| drop(held.lock().map(|held| held.recv()))))
        .notify(told.notify())
        .build()
        .unwrap();
    // Virtual time stands still while a function runs.
    tokio::time::resume();
    for _ in 0..200 {
        if told.0.lock().unwrap().len() == 3 && figure(&alerts, "notifications", Some("failed")) == 3.0 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(told.take().len(), 3);
    assert_eq!(figure(&alerts, "notifications", Some("failed")), 3.0);
    assert_eq!(figure(&alerts, "notifications", Some("delivered")), 3.0, "the other one got none back");
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn an_async_function_is_told_and_one_that_panics_or_hangs_delays_nobody() {
    let registry = Registry::new();
    let level = Level(Arc::default());
    registry.register(&level).unwrap();
    let (told, kept) = (Told::default(), Arc::new(()));
    let (telling, held) = (Arc::clone(&told.0), Arc::clone(&kept));
    let alerts = Alerts::builder(&registry)
        .rules((0..3).map(|at| high(&at.to_string())))
        .notify(Notify::async_function(|_| async { panic!("a secret") }))
        .notify(Notify::async_function(|alert: Alert| {
            assert!(alert.state.rule.is_empty(), "before there is a future");
            async {}
        }))
        .notify(Notify::async_function(move |_| {
            let held = Arc::clone(&held);
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        }))
        .notify(Notify::async_function(move |alert| {
            let telling = Arc::clone(&telling);
            async move {
                sleep(Duration::from_millis(100)).await;
                telling.lock().unwrap().push(alert);
            }
        }))
        .build()
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    let expected = ["0", "1", "2"].map(|rule| (rule.to_owned(), Change::Fired));
    assert_eq!(told.take(), expected);
    assert_eq!(figure(&alerts, "notifications", Some("failed")), 6.0);
    assert_eq!(figure(&alerts, "notifications", Some("delivered")), 3.0);
    assert_eq!(Arc::strong_count(&kept), 3, "it is on its way");
    drop(alerts);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&kept), 1, "it ended with the alerts");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_too_slow_burn_the_budget_of_an_objective_that_says_so() {
    let stack = Stack::new("alerts-slow");
    let told = Told::default();
    let window = BurnWindow { long: Duration::from_secs(60), short: Duration::from_secs(10), factor: 10.0 };
    let slo = || Slo::new("alerts-slow", 0.99);
    let _alerts = Alerts::builder(&stack.registry)
        .rule(Rule::burn_rate("failed", slo()).windows([window]))
        .rule(Rule::burn_rate("late", slo().slower_are_bad(Duration::from_millis(25))).windows([window]))
        .notify(told.notify())
        .build()
        .unwrap();
    stack.calls(600).await;
    assert_eq!(told.take(), []);
    stack.takes_millis.store(50, SeqCst);
    stack.calls(200).await;
    assert_eq!(told.take(), [("late".to_owned(), Change::Fired)]);
    stack.takes_millis.store(10, SeqCst);
    stack.calls(200).await;
    assert_eq!(told.take(), [("late".to_owned(), Change::Cleared(Cleared::Recovered))]);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_panics_is_looked_at_again() {
    let registry = Registry::new();
    let level = Level(Arc::new(Mutex::new(true)));
    registry.register(&level).unwrap();
    let alerts = Alerts::builder(&registry).rule(high("level")).build().unwrap();
    sleep(Duration::from_secs(11)).await;
    assert_eq!(alerts.active(), []);
    *level.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = false;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(alerts.active().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn its_tasks_end_with_the_last_handle() {
    let registry = Registry::new();
    let told = Told::default();
    let alerts = Alerts::builder(&registry).notify(told.notify()).build().unwrap();
    let again = alerts.clone();
    drop(alerts);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(Arc::strong_count(&told.0), 2, "the other one lives");
    drop(again);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&told.0), 1);
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[tokio::test]
async fn what_cannot_be_right_is_an_error_that_names_the_rule() {
    let registry = Registry::new();
    let build = |rules: Vec<Rule>| Alerts::builder(&registry).rules(rules).build().map(drop);
    let twice = build(vec![high("a"), high("b"), high("a")]);
    assert_eq!(twice, Err(InvalidRules::Twice { name: "a".into() }));
    let level = || Subject::figure("l", "f");
    for rule in [
        high(""),
        high(" "),
        high(&"a".repeat(201)),
        Rule::threshold("a", level(), Comparison::Above, f64::NAN),
        Rule::threshold("a", level(), Comparison::Above, f64::INFINITY),
        Rule::threshold("a", level().over(Duration::ZERO), Comparison::Above, 1.0),
        Rule::threshold("a", level().over(Duration::MAX), Comparison::Above, 1.0),
        Rule::threshold("a", Subject::figure("", "f"), Comparison::Above, 1.0),
        Rule::between("a", level(), 2.0..=1.0),
        Rule::between("a", level(), f64::NAN..=1.0),
        Rule::burn_rate("a", Slo::new("c", 1.0)),
        Rule::burn_rate("a", Slo::new("c", 99.9)),
        Rule::burn_rate("a", Slo::new("c", 0.0)),
        Rule::burn_rate("a", Slo::new("c", f64::NAN)),
        Rule::burn_rate("a", Slo::new("c", 0.9)).windows([]),
        Rule::burn_rate("a", Slo::new("c", 0.9).slower_are_bad(Duration::from_millis(300))),
        Rule::burn_rate("a", Slo::new("c", 0.9).slower_are_bad(Duration::ZERO)),
        // Not if every call failed: 6 times what is allowed is more than there are.
        Rule::burn_rate("a", Slo::new("c", 0.8)),
    ] {
        let name = rule.name().to_owned();
        match build(vec![rule.clone()]) {
            Err(InvalidRules::Rule { name: named, .. }) => assert_eq!(named, name),
            other => panic!("{rule:?}: {other:?}"),
        }
    }
    let often = Alerts::builder(&registry).every(Duration::ZERO).build().map(drop);
    assert_eq!(often, Err(InvalidRules::Always));
}

#[test]
fn without_a_runtime_it_says_so() {
    let built = Alerts::builder(&Registry::new()).build();
    assert_eq!(built.map(drop), Err(InvalidRules::NoRuntime));
}

#[tokio::test(start_paused = true)]
async fn the_default_rules_are_made_for_the_layers_that_there_are() {
    let stack = Stack::new("alerts-names");
    let rules = default_rules(&stack.registry);
    let names: Vec<&str> = rules.iter().map(Rule::name).collect();
    assert_eq!(
        names,
        [
            "telemetry alerts-names errors",
            "telemetry alerts-names rejected",
            "telemetry alerts-names p99",
            "timeout alerts-names rejections",
            "rate-limit alerts-names rejections",
            "retry alerts-names budget_exhausted",
            "circuit-breaker alerts-names open",
            "bulkhead alerts-names waiting",
            "bulkhead alerts-names rejections",
        ]
    );
    Alerts::builder(&stack.registry).rules(rules).build().expect("they are all valid");
}
