//! A limit for the whole call and one for each attempt: a hung attempt is cut off and repeated, and the caller never
//! waits longer than the total.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Deadline, Rejectable};
use buttress_retry::RetryLayer;
use buttress_timeout::TimeoutLayer;
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Hangs at the first attempt, answers at the second, then hangs for good.
async fn backend(order: u32) -> io::Result<String> {
    if ATTEMPTS.fetch_add(1, Relaxed) != 1 {
        sleep(Duration::from_secs(60)).await;
    }
    let left = Deadline::current().expect("there is a timeout around").remaining();
    Ok(format!("order {order}, with {left:.0?} to spare"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut orders = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_millis(800)).name("orders total"))
        .layer(RetryLayer::new("orders"))
        .layer(TimeoutLayer::new(Duration::from_millis(300)).name("orders attempt"))
        .service(service_fn(backend));

    for order in [1, 2] {
        let start = Instant::now();
        let result = orders.ready().await?.call(order).await;
        let took = start.elapsed();
        match result {
            Ok(answer) => println!("after {took:.0?}: {answer}"),
            Err(error) => match error.rejected() {
                Some(rejected) => println!("after {took:.0?}: {rejected}"),
                None => return Err(error),
            },
        }
    }
    Ok(())
}
