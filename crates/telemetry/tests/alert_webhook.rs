//! Alerts that are sent to an address: what fires and clears, and an address that is dead, slow or hostile.
#![cfg(feature = "webhook")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use buttress_http::{ApiClient, ApiError, Body, HttpClient};
use buttress_telemetry::{Alerts, Comparison, Notify, Registry, Rule, Subject};
use buttress_testkit::{Reply, Upstream};

/// A level that the test sets.
#[derive(Clone, Default)]
struct Level(Arc<AtomicU64>);

impl Observe for Level {
    fn origin(&self) -> Origin {
        Origin::new("webhook-test", "level")
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("level", Value::Gauge(self.0.load(SeqCst) as f64)));
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

fn hook(url: &str) -> Notify {
    let service = HttpClient::builder().name("hook").build::<Body>().unwrap();
    let client = ApiClient::builder("hook")
        .base_url(format!("{url}/v1"))
        .bearer("a-secret-token")
        .timeout(Duration::from_millis(500))
        .build(service)
        .unwrap();
    Notify::webhook(client, "/alerts")
}

type Told = Arc<Mutex<Vec<Instant>>>;

struct Watched {
    level: Level,
    alerts: Alerts,
    told: Told,
}

/// One rule, told to the hook and then to a function.
#[expect(clippy::disallowed_methods, reason = "the test waits for real servers")]
fn watch(hook: Notify) -> Watched {
    let (registry, level, told) = (Registry::new(), Level::default(), Told::default());
    registry.register(&level).unwrap();
    let telling = Arc::clone(&told);
    let rule =
        Rule::threshold("high \"}]\n", Subject::figure("webhook-test", "level"), Comparison::Above, 1.0);
    let alerts = Alerts::builder(&registry)
        .rule(rule)
        .every(Duration::from_millis(10))
        .notify(hook)
        .notify(Notify::function(move |_| telling.lock().unwrap().push(Instant::now())))
        .build()
        .unwrap();
    Watched { level, alerts, told }
}

impl Watched {
    fn count(&self, outcome: &str) -> u64 {
        let mut found = None;
        self.alerts.observe(&mut |metric| {
            if let (Some((_, label)), Value::Counter(count)) = (metric.label, metric.value) {
                found = found.or((label == outcome).then_some(count));
            }
        });
        found.unwrap()
    }

    fn told(&self) -> u64 {
        self.told.lock().unwrap().len() as u64
    }

    async fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        for _ in 0..500 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("in vain: {what}; failed {}, delivered {}", self.count("failed"), self.count("delivered"));
    }
}

#[tokio::test]
async fn what_fires_and_clears_arrives_as_json() {
    let upstream = Upstream::start().await;
    upstream.on("/v1/alerts", Reply::status(204));
    let watched = watch(hook(&upstream.url()));
    watched.level.0.store(2, SeqCst);
    watched.until("fired", |_| upstream.requests().len() == 1).await;
    watched.level.0.store(0, SeqCst);
    watched.until("cleared", |_| upstream.requests().len() == 2).await;
    let bodies: Vec<serde_json::Value> =
        upstream.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    assert_eq!((&bodies[0]["change"], &bodies[0]["status"]), (&"fired".into(), &"firing".into()));
    assert_eq!((&bodies[1]["change"], &bodies[1]["reason"]), (&"cleared".into(), &"recovered".into()));
    for body in &bodies {
        assert_eq!(body["rule"], "high \"}]\n");
        assert_eq!((&body["layer"], &body["instance"]), (&"webhook-test".into(), &"level".into()));
        assert_eq!((&body["value"], &body["threshold"]), (&2.0.into(), &1.0.into()));
    }
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.method == http::Method::POST));
    assert!(requests.iter().all(|request| request.headers["content-type"] == "application/json"));
    // Both ways of telling.
    watched.until("counted", |watched| watched.count("delivered") == 4).await;
}

#[tokio::test]
async fn one_that_is_dead_or_refuses_is_counted_and_the_next_alert_arrives() {
    let upstream = Upstream::start().await;
    let huge = Reply::ok(vec![b'x'; 20 << 20]);
    upstream.on(
        "/v1/alerts",
        [Reply::disconnect(), Reply::status(500).body("<script>"), huge, Reply::status(204)],
    );
    let watched = watch(hook(&upstream.url()));
    for (level, failed) in [(2, 1), (0, 2)] {
        watched.level.0.store(level, SeqCst);
        watched.until("failed", |watched| watched.count("failed") == failed).await;
    }
    watched.level.0.store(2, SeqCst);
    watched.until("a huge answer", |_| upstream.requests().len() >= 3).await;
    watched
        .until("told", |watched| {
            watched.count("failed") + watched.count("delivered") == 2 + 1 + watched.told()
        })
        .await;
    watched.level.0.store(0, SeqCst);
    watched.until("it is well again", |_| upstream.requests().len() >= 4).await;
    assert!(!format!("{:?} {:?}", watched.alerts, hook(&upstream.url())).contains("secret"));

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let watched = self::watch(hook(&format!("http://{nobody}")));
    watched.level.0.store(2, SeqCst);
    watched.until("nobody listens", |watched| watched.count("failed") == 1 && watched.told() == 1).await;
    assert_eq!(watched.alerts.active().len(), 1, "it fires all the same");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test waits for real servers")]
async fn a_slow_one_delays_nobody_and_hears_the_newest_state() {
    let upstream = Upstream::start().await;
    let slow = Reply::ok("").after(Duration::from_millis(300));
    upstream.on("/v1/alerts", [slow, Reply::never(), Reply::ok("")]);
    let watched = watch(hook(&upstream.url()));
    let began = Instant::now();
    for change in 1..=5 {
        watched.level.0.store(if change % 2 == 1 { 2 } else { 0 }, SeqCst);
        watched.until("told", |watched| watched.told() == change).await;
    }
    assert!(began.elapsed() < Duration::from_millis(300), "the function waited for the hook");
    // The first arrives, then the newest, which nobody answers; after its timeout another one is heard.
    watched.until("timeout", |watched| watched.count("failed") == 1).await;
    assert_eq!(watched.count("dropped"), 3);
    watched.level.0.store(0, SeqCst);
    watched.until("heard", |_| upstream.requests().len() == 3).await;
    let last: serde_json::Value = serde_json::from_slice(&upstream.requests()[2].body).unwrap();
    assert_eq!(last["change"], "cleared");
}

#[tokio::test]
async fn a_client_that_panics_is_a_failure_and_hears_of_the_next_alert() {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let service = tower::service_fn(move |_: http::Request<Body>| {
        let call = counter.fetch_add(1, SeqCst);
        async move {
            assert!(call > 0, "on purpose");
            Ok::<_, ApiError>(http::Response::new(Body::empty()))
        }
    });
    let client = ApiClient::builder("hook").base_url("http://hook.test").build(service).unwrap();
    let watched = watch(Notify::webhook(client, "/alerts"));
    watched.level.0.store(2, SeqCst);
    watched.until("the panic is counted", |watched| watched.count("failed") == 1).await;
    watched.level.0.store(0, SeqCst);
    watched.until("the next is heard", |_| calls.load(SeqCst) == 2).await;
}
