//! What lives on.

use std::time::Duration;

use buttress::{Config, Error, System, config, core::Reason};
use buttress_testkit::{Reply, Upstream};
use tokio::time::Instant;

use super::{of_x, reason, x};

/// An API that answers 500, and its system: without retries, and with what `set` says.
async fn failing(set: impl FnOnce(&mut config::Http)) -> (Upstream, Config, System) {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::status(500));
    upstream.on("/well", Reply::ok("1"));
    let mut config = of_x(config::Http::new(upstream.url()));
    x(&mut config).retry.retries = 0;
    set(x(&mut config));
    let system = System::start(config.clone()).await.unwrap();
    (upstream, config, system)
}

async fn ask(system: &System) -> Result<u16, Error> {
    Ok(system.http("x")?.get("/").send().await?.status().as_u16())
}

fn figure(system: &System, layer: &str, name: &str) -> Option<f64> {
    system.registry().snapshot().layer(layer, "http.x")?.figure(name, None)
}

#[tokio::test]
async fn the_failures_in_a_row_and_the_open_breaker() {
    let (upstream, mut config, system) = failing(|_| {}).await;
    for _ in 0..4 {
        assert_eq!(ask(&system).await.unwrap(), 500);
    }
    x(&mut config).timeout = Duration::from_secs(7);
    x(&mut config).circuit_breaker.open_for = Duration::from_secs(50);
    system.reload(config.clone()).unwrap();
    assert_eq!(ask(&system).await.unwrap(), 500, "the fifth");
    assert_eq!(reason(ask(&system).await), Reason::CircuitOpen);

    x(&mut config).circuit_breaker.failures = 50;
    x(&mut config).base_url = upstream.url() + "/";
    system.reload(config).unwrap();
    assert_eq!(reason(ask(&system).await), Reason::CircuitOpen, "it is still open");
    assert_eq!(upstream.requests().len(), 5);
    assert_eq!(figure(&system, "circuit-breaker", "opened"), Some(1.0));
}

#[tokio::test]
async fn the_window_of_the_failure_rate() {
    let (upstream, mut config, system) = failing(|x| {
        x.circuit_breaker.failures = 1000;
        x.circuit_breaker.failure_rate = Some(0.9);
    })
    .await;
    for _ in 0..15 {
        assert_eq!(ask(&system).await.unwrap(), 500);
    }
    x(&mut config).circuit_breaker.failure_rate = Some(0.5);
    system.reload(config).unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&system).await.unwrap(), 500);
    }
    assert_eq!(reason(ask(&system).await), Reason::CircuitOpen, "20 calls have failed");
    assert_eq!(upstream.requests().len(), 20);
}

#[tokio::test]
async fn the_budget_of_the_retries() {
    let (upstream, mut config, system) = failing(|x| {
        x.circuit_breaker.enabled = false;
        (x.retry.retries, x.retry.delay) = (3, Duration::from_millis(1));
    })
    .await;
    // Until it is spent.
    let mut before = 0;
    for call in 0.. {
        assert!(call < 200, "the budget has no end");
        ask(&system).await.unwrap();
        let all = upstream.requests().len();
        if all == before + 1 {
            break;
        }
        before = all;
    }
    x(&mut config).retry.retries = 2;
    x(&mut config).retry.delay = Duration::from_millis(2);
    let before = upstream.requests().len();
    system.reload(config).unwrap();
    ask(&system).await.unwrap();
    assert_eq!(upstream.requests().len(), before + 1, "a new budget would repeat it");
}

#[tokio::test]
async fn totals_go_on() {
    let (_upstream, mut config, system) = failing(|x| x.circuit_breaker.failures = 100).await;
    let calls = || system.registry().snapshot().calls("http.x").unwrap().total.count();
    for number in 1..=9_u64 {
        ask(&system).await.unwrap();
        assert_eq!(calls(), number);
        x(&mut config).timeout += Duration::from_secs(1);
        x(&mut config).circuit_breaker.failures += 1;
        system.reload(config.clone()).unwrap();
        assert_eq!(calls(), number);
    }
}

#[tokio::test]
async fn the_counts_of_the_rate_limit() {
    let limited = |limit: u32, per: u64| {
        let mut rate_limit = config::RateLimit::default();
        (rate_limit.limit, rate_limit.per) = (limit, Duration::from_secs(per));
        Some(rate_limit)
    };
    let (upstream, mut config, system) = failing(|x| {
        x.circuit_breaker.enabled = false;
        x.rate_limit = limited(10, 60);
    })
    .await;
    let mut allowed = 0;
    for (limit, per, all) in
        [(10, 60, 10), (10, 60, 10), (12, 60, 12), (5, 60, 12), (20, 120, 20), (4, 60, 20)]
    {
        x(&mut config).rate_limit = limited(limit, per);
        system.reload(config.clone()).unwrap();
        while allowed < all {
            ask(&system).await.unwrap();
            allowed += 1;
        }
        assert_eq!(reason(ask(&system).await), Reason::RateLimited, "{limit} in {per} s");
        assert_eq!(upstream.requests().len(), all, "{limit} in {per} s");
    }
}

#[tokio::test]
async fn the_wait_of_the_rate_limit_changes_too() {
    let mut rate_limit = config::RateLimit::default();
    (rate_limit.limit, rate_limit.per) = (3, Duration::from_millis(400));
    let (_upstream, mut config, system) = failing(|x| {
        x.circuit_breaker.enabled = false;
        x.rate_limit = Some(rate_limit.clone());
    })
    .await;
    for _ in 0..3 {
        ask(&system).await.unwrap();
    }
    assert_eq!(reason(ask(&system).await), Reason::RateLimited);
    rate_limit.max_wait = Duration::from_secs(5);
    x(&mut config).rate_limit = Some(rate_limit);
    system.reload(config).unwrap();
    let began = Instant::now();
    for _ in 0..4 {
        ask(&system).await.expect("it waits for its turn");
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Calls inside count for the new limit, too.
#[tokio::test]
async fn the_places_of_the_bulkhead() {
    let (upstream, mut config, system) = failing(|x| x.bulkhead = Some(config::Bulkhead::new(4))).await;
    upstream.on("/", Reply::ok("1").after(Duration::from_millis(300)));
    let inside: Vec<_> = (0..4)
        .map(|_| {
            let system = system.clone();
            tokio::spawn(async move { ask(&system).await })
        })
        .collect();
    while upstream.requests().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    x(&mut config).bulkhead = Some(config::Bulkhead::new(3));
    system.reload(config.clone()).unwrap();
    assert_eq!(reason(ask(&system).await), Reason::Overloaded);
    // A place to wait, too, and still three calls at once.
    let mut queued = config::Bulkhead::new(3);
    queued.queue = 1;
    x(&mut config).bulkhead = Some(queued);
    system.reload(config).unwrap();
    assert_eq!(ask(&system).await.unwrap(), 200);
    for call in inside {
        assert_eq!(call.await.unwrap().unwrap(), 200);
    }
}
