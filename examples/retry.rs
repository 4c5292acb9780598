//! A backend that is down for a while: retries bridge a short trouble, and the budget keeps a long one from becoming a
//! storm. A second part repeats a function that is no `Service`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Backoff, Observe};
use buttress_retry::{Budget, RetryLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Fails twice at the beginning, and from the tenth call on.
async fn backend(order: u32) -> io::Result<u32> {
    match CALLS.fetch_add(1, Relaxed) {
        0 | 1 | 10.. => Err(io::ErrorKind::ConnectionRefused.into()),
        _ => Ok(order),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer = RetryLayer::new("orders")
        .backoff(Backoff::exponential(Duration::from_millis(5), Duration::from_millis(100))?)
        .budget(Budget::try_new(0.2, 1, Duration::from_secs(10))?);
    let mut orders = layer.layer(service_fn(backend));

    let mut failed = 0;
    for order in 0..100 {
        failed += u32::from(orders.ready().await?.call(order).await.is_err());
    }
    println!("100 orders: {failed} failed, {} calls to the backend", CALLS.load(Relaxed));

    let retrier = layer.retrier();
    retrier.observe(&mut |metric| println!("  {}: {:?}", metric.name, metric.value));

    let attempts = AtomicU32::new(0);
    let price = RetryLayer::new("prices")
        .retrier()
        .call(async || match attempts.fetch_add(1, Relaxed) {
            0 => Err(io::Error::other("not yet")),
            _ => Ok(42),
        })
        .await?;
    println!("a price of {price} at attempt {attempts:?}");
    Ok(())
}
