//! What a stack does, seen from inside the program: statistics, slow calls with what the layers decided, and the page for
//! Prometheus.
//!
//! ```sh
//! cargo run --example telemetry
//! ```

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, Trip, Window};
use buttress_core::{Backoff, BoxError};
use buttress_retry::RetryLayer;
use buttress_telemetry::{Registry, Slow, TelemetryLayer};
use buttress_timeout::TimeoutLayer;
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// A price list that is quick, but for every tenth call, and away for the calls 60 to 79.
async fn price(call: u32) -> Result<u32, BoxError> {
    match call {
        60..80 => Err("the price list is away".into()),
        _ if call.is_multiple_of(10) => {
            sleep(Duration::from_millis(25)).await;
            Ok(call)
        }
        _ => Ok(call),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let registry = Registry::new();
    let telemetry =
        TelemetryLayer::builder("prices", &registry).slow(Slow::After(Duration::from_millis(20))).build()?;
    let timeout = TimeoutLayer::new(Duration::from_millis(500)).name("prices");
    let retry = RetryLayer::new("prices").backoff(Backoff::constant(Duration::from_millis(30)));
    let trip = Trip::failure_rate(0.5, Window::calls(20)?)?.with_min_calls(10)?;
    let breaker = CircuitBreakerLayer::builder("prices").trip(trip).build();
    // In the order in which a call passes them.
    registry
        .stack("prices")
        .layer(&telemetry)
        .layer(&timeout)
        .layer(&retry.retrier())
        .layer(&breaker.breaker())
        .register()?;
    let prices = ServiceBuilder::new()
        .layer(telemetry)
        .layer(timeout)
        .layer(retry)
        .layer(breaker)
        .service(service_fn(price));

    for call in 0..100 {
        _ = prices.clone().oneshot(call).await;
    }

    let stats = serde_json::to_string_pretty(&registry.snapshot().performance_stats())?;
    println!("Statistics:\n{stats}\n");
    println!("Slow calls:");
    for call in registry.slow_calls(3) {
        println!("  {} {} after {:.0} ms", call.name, call.end, call.seconds * 1e3);
        for decision in call.decisions {
            println!(
                "    {:>4.0} ms  {} {}: {}",
                decision.after_seconds * 1e3,
                decision.layer,
                decision.what,
                decision.why
            );
        }
    }
    println!("\nOf the page for Prometheus:");
    let page = registry.prometheus();
    page.lines()
        .filter(|line| line.starts_with("buttress_circuit_breaker"))
        .for_each(|line| println!("  {line}"));
    Ok(())
}
