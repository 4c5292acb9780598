//! A slow backend behind a cache: a burst of callers makes one call, and when the backend goes away its last answers are
//! served on.
//!
//! `cargo run --example cache`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_cache::Cache;
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::BoxError;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[derive(Default)]
struct Backend {
    calls: AtomicU32,
    is_away: AtomicBool,
}

impl Backend {
    async fn price(&self, item: u64) -> Result<Arc<str>, BoxError> {
        self.calls.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if self.is_away.load(Relaxed) {
            return Err("connection refused".into());
        }
        Ok(format!("item {item} costs {}", item * 3).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let prices: Cache<u64, Arc<str>> = Cache::builder("prices")
        .ttl(Duration::from_millis(200))
        .stale_while_revalidate(Duration::from_secs(1))
        .stale_if_error(Duration::from_secs(60))
        .build();
    let backend = Arc::new(Backend::default());
    let behind = backend.clone();
    let service = ServiceBuilder::new()
        .layer(prices.layer(|item: &u64| Some(*item)))
        .layer(CircuitBreakerLayer::new("prices"))
        .service(service_fn(move |item| {
            let backend = behind.clone();
            async move { backend.price(item).await }
        }));

    let start = Instant::now();
    let burst: Vec<_> = (0..1_000).map(|_| tokio::spawn(ask(service.clone(), 7))).collect();
    for call in burst {
        call.await??;
    }
    println!("1,000 callers at once: {} call, {:.0?}", backend.calls.load(Relaxed), start.elapsed());

    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    ask(service.clone(), 7).await?;
    println!("past its time: the old value after {:.0?}; it is loaded anew meanwhile", start.elapsed());

    backend.is_away.store(true, Relaxed);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    println!("the backend is away: {}", ask(service.clone(), 7).await?);
    let error = ask(service, 8).await.unwrap_err();
    println!("what was never asked for: {error}");
    println!("{:#?}", prices.stats());
    Ok(())
}

async fn ask<S>(service: S, item: u64) -> Result<Arc<str>, BoxError>
where
    S: Service<u64, Response = Arc<str>, Error = BoxError>,
{
    service.oneshot(item).await
}
