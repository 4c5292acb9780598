//! A backend with a long tail: hedges cut it off for a few percent of load, and the budget keeps a backend that is slow for
//! good from being asked twice. A second part hedges a function that is no `Service`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_core::Observe;
use buttress_hedge::{Budget, CloneRequest, HedgeLayer};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// 2 ms, but 300 ms for one call in 50; and 100 ms for all of them from the 600th call on.
async fn backend(order: u32) -> io::Result<u32> {
    let takes = match CALLS.fetch_add(1, Relaxed) {
        600.. => 100,
        call if call % 50 == 49 => 300,
        _ => 2,
    };
    sleep(Duration::from_millis(takes)).await;
    Ok(order)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer =
        HedgeLayer::new("orders", CloneRequest).budget(Budget::try_new(0.05, 0, Duration::from_secs(10))?);
    let mut orders = layer.layer(service_fn(backend));

    for (part, range) in [("to measure", 0..150), ("a long tail", 150..580), ("slow for good", 580..640)] {
        let mut times = Vec::new();
        let before = CALLS.load(Relaxed);
        for order in range.clone() {
            let start = Instant::now();
            orders.ready().await?.call(order).await?;
            times.push(start.elapsed());
        }
        let calls = CALLS.load(Relaxed) - before;
        let slowest = times.iter().max().expect("there were calls");
        println!("{part}: {} orders, {calls} calls to the backend, the slowest {slowest:.0?}", range.len());
    }
    layer.hedger().observe(&mut |metric| println!("  {}: {:?}", metric.name, metric.value));

    let attempts = AtomicU32::new(0);
    let hedger = HedgeLayer::new("prices", CloneRequest).delay(Duration::from_millis(20)).hedger();
    let price = hedger
        .call(async || {
            if attempts.fetch_add(1, Relaxed) == 0 {
                sleep(Duration::from_secs(10)).await;
            }
            Ok::<_, io::Error>(42)
        })
        .await?;
    println!("a price of {price} at attempt {attempts:?}");
    Ok(())
}
