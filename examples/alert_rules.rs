//! Rules for Prometheus and a dashboard for Grafana, made from what a stack's layers are set to.
//!
//! ```sh
//! cargo run --example alert_rules [-- DIRECTORY]
//! ```
//!
//! It writes `buttress.rules.yml` and `buttress.dashboard.json` there, into the working directory by default. The stack is one
//! as `examples/gateway` has before its upstream. A program that serves its own figures writes these files at its start, or
//! in its build, from its own registry.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{env, error::Error, fs, path::PathBuf, time::Duration};

use buttress_bulkhead::{BulkheadLayer, Limit, Queue};
use buttress_circuit_breaker::{CircuitBreakerLayer, Trip};
use buttress_core::Backoff;
use buttress_http::{Body, HttpClient, StatusClassifier};
use buttress_rate_limit::{Limit as RateOf, Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{
    HttpClient as HttpConvention, Registry, Rule, Slo, TelemetryLayer, default_rules, grafana_dashboard,
    prometheus_rules,
};
use buttress_timeout::TimeoutLayer;
use tower::ServiceBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _within = runtime.enter();

    let registry = Registry::new();
    let telemetry = TelemetryLayer::builder("profiles", &registry)
        .convention(HttpConvention)
        .classify(StatusClassifier)
        .build()?;
    let total = TimeoutLayer::new(Duration::from_secs(2)).name("profiles total");
    let rate = RateLimitLayer::new("profiles", RateOf::sliding_window(Rate::per_second(200)));
    let retry = RetryLayer::new("profiles").classify(StatusClassifier);
    let breaker = CircuitBreakerLayer::builder("profiles")
        .trip(Trip::default().with_consecutive(5)?)
        .open_for(Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30))?)
        .classify(StatusClassifier)
        .build();
    let bulkhead = BulkheadLayer::builder("profiles", Limit::fixed(32)?)
        .queue(Queue::try_new(64, Duration::from_millis(500))?)
        .build();
    let attempt = TimeoutLayer::new(Duration::from_millis(800)).name("profiles attempt");
    let client = HttpClient::builder().name("profiles").build::<Body>()?;
    let (retrier, connections) = (retry.retrier(), client.connections());
    registry
        .stack("profiles")
        .layer(&telemetry)
        .layer(&total)
        .layer(&rate.limiter())
        .layer(&retrier)
        .layer(&breaker.breaker())
        .layer(&bulkhead.limiter())
        .layer(&attempt)
        .layer(&connections)
        .register()?;
    let _stack = ServiceBuilder::new()
        .layer(telemetry)
        .layer(total)
        .layer(rate)
        .layer(retry)
        .layer(breaker)
        .layer(bulkhead)
        .layer(attempt)
        .service(client);

    let mut rules = default_rules(&registry);
    rules.push(
        Rule::burn_rate("profiles availability", Slo::new("profiles", 0.999).rejected_are_bad())
            .summary("the error budget of profiles burns too fast"),
    );

    fs::create_dir_all(&directory)?;
    let (yaml, json) = (directory.join("buttress.rules.yml"), directory.join("buttress.dashboard.json"));
    fs::write(&yaml, prometheus_rules(&registry, &rules))?;
    let dashboard = grafana_dashboard(&registry, "profiles", &rules);
    fs::write(&json, serde_json::to_string_pretty(&dashboard)?)?;
    println!("{} rules in {}", rules.len(), yaml.display());
    println!("the dashboard is {}", json.display());
    println!("try: promtool check rules {}", yaml.display());
    Ok(())
}
