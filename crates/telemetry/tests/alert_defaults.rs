//! The default rules of real layers: they are made from what those are set to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_batch::BatchLayer;
use buttress_bulkhead::{BulkheadLayer, Limit as Places, Queue};
use buttress_cache::Cache;
use buttress_core::BoxError;
use buttress_http::{Body, HttpClient};
use buttress_rate_limit::{Limit, Rate, RateLimiter};
use buttress_telemetry::{Alert, Alerts, Change, Cleared, Notify, Registry, Rule, default_rules};
use tokio::time::sleep;

fn names(rules: &[Rule]) -> Vec<&str> {
    rules.iter().map(Rule::name).collect()
}

#[tokio::test]
async fn queues_and_pools_of_real_layers_have_rules_of_their_own_bounds() {
    let registry = Registry::new();
    let echo = tower::service_fn(async |all: Vec<u32>| {
        Ok::<Vec<Result<u32, BoxError>>, BoxError>(all.into_iter().map(Ok).collect())
    });
    let batch = tower::Layer::layer(&BatchLayer::new("d-batch").max_waiting(10), echo);
    let bulkhead = BulkheadLayer::builder("d-bulkhead", Places::fixed(1).unwrap())
        .queue(Queue::try_new(5, Duration::from_secs(1)).unwrap())
        .build();
    let http = HttpClient::builder().name("d-http").max_connections(2).max_waiting(20);
    let http = http.build::<Body>().unwrap();
    let cache: Cache<u32, String> = Cache::builder("d-cache").build();
    registry.register(&batch.batch()).unwrap();
    registry.register(&bulkhead.limiter()).unwrap();
    registry.register(&http.connections()).unwrap();
    registry.register(&cache).unwrap();
    let rules = default_rules(&registry);
    // The cache has no store that could fail.
    assert_eq!(
        names(&rules),
        [
            "batch d-batch waiting",
            "bulkhead d-bulkhead waiting",
            "bulkhead d-bulkhead rejections",
            "http d-http calls_waiting",
            "http d-http max_waiting",
        ]
    );
    let written = format!("{rules:?}");
    for threshold in ["8 of 10 places", "4 of 5 places", "16 of 20 places"] {
        assert!(written.contains(threshold), "no {threshold} in {written}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limiter_that_refuses_much_fires_and_clears_when_less_is_asked_of_it() {
    let registry = Registry::new();
    let limiter = RateLimiter::new("d-rate", Limit::sliding_window(Rate::per_second(10)));
    registry.register(&limiter).unwrap();
    let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
    let telling = Arc::clone(&changes);
    let rules = default_rules(&registry);
    assert_eq!(names(&rules), ["rate-limit d-rate rejections"]);
    let _alerts = Alerts::builder(&registry)
        .rules(rules)
        .notify(Notify::async_function(move |alert: Alert| {
            telling.lock().unwrap().push(alert.change);
            async {}
        }))
        .build()
        .unwrap();
    let ask = async |per_second: u32, minutes: u32| {
        for _ in 0..minutes * 60 * per_second {
            _ = limiter.try_acquire(1);
            sleep(Duration::from_secs(1) / per_second).await;
        }
    };
    let changes = || changes.lock().unwrap().clone();
    ask(5, 15).await;
    assert_eq!(changes(), []);
    // Twice as many as it lets through: ten a second are refused, and one is a tenth of its rate.
    ask(20, 4).await;
    assert_eq!(changes(), [], "not yet for long enough");
    ask(20, 8).await;
    assert_eq!(changes(), [Change::Fired]);
    ask(5, 6).await;
    assert_eq!(changes(), [Change::Fired, Change::Cleared(Cleared::Recovered)]);
}
