//! A backend fails, the breaker opens, the backend comes back, the breaker closes: `cargo run --example circuit_breaker`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreakerLayer, Probes, Trip, Window};
use buttress_core::Backoff;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let layer = CircuitBreakerLayer::builder("inventory")
        .trip(Trip::failure_rate(0.5, Window::calls(10)?)?)
        .open_for(Backoff::constant(Duration::from_millis(300)))
        .probes(Probes::try_new(2, Duration::from_secs(1))?)
        .build();
    let breaker = layer.breaker();

    let works = Arc::new(AtomicBool::new(true));
    let backend = {
        let works = Arc::clone(&works);
        service_fn(move |item: u32| {
            let works = works.load(Relaxed);
            async move { if works { Ok(item * 2) } else { Err(BoxError::from("connection refused")) } }
        })
    };
    let mut inventory = ServiceBuilder::new().layer(layer).service(backend);

    for item in 0..40 {
        works.store(!(10..25).contains(&item), Relaxed);
        let line = match inventory.ready().await?.call(item).await {
            Ok(count) => format!("{count} in stock"),
            Err(error) => error.to_string(),
        };
        println!("item {item:2} | {:9} | {line}", breaker.state().as_str());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
