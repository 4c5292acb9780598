//! An adaptive limit finds what a backend can take, and what matters less is shed first: `cargo run --example bulkhead`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_bulkhead::{Adaptive, BulkheadLayer, Criticality, Limit, Queue};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Ten workers take 10 ms for each call: a thousand calls a second. More callers only wait in its own queue, which
    // nobody sees but by the latency.
    let workers = Arc::new(Semaphore::new(10));
    let backend = service_fn(move |_: u32| {
        let workers = Arc::clone(&workers);
        async move {
            let _worker = workers.acquire().await.map_err(io::Error::other)?;
            sleep(10 * MS).await;
            Ok::<_, io::Error>(())
        }
    });
    let layer = BulkheadLayer::builder("search", Limit::adaptive(Adaptive::gradient2()))
        .queue(Queue::try_new(50, 50 * MS)?)
        .build();
    let limiter = layer.limiter();
    let search = ServiceBuilder::new().layer(layer).service(backend);

    let counts: Arc<[[AtomicU32; 2]; 2]> = Arc::default();
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..100 {
        let (search, counts) = (search.clone(), Arc::clone(&counts));
        // One in five is somebody who waits at a screen.
        let urgent = caller % 5 == 0;
        let level = if urgent { Criticality::CriticalPlus } else { Criticality::Sheddable };
        callers.spawn(level.scope(async move {
            while start.elapsed() < Duration::from_secs(5) {
                let served = search.clone().oneshot(caller).await.is_ok();
                counts[usize::from(urgent)][usize::from(served)].fetch_add(1, Relaxed);
                sleep(if served { MS } else { 20 * MS }).await;
            }
        }));
    }
    println!("second | limit | in flight | urgent served, refused | others served, refused");
    for second in 1..=5 {
        sleep(Duration::from_secs(1)).await;
        let now = limiter.snapshot();
        let [others, urgent] = &*counts;
        let of = |counts: &[AtomicU32; 2]| {
            format!("{:5}, {:5}", counts[1].swap(0, Relaxed), counts[0].swap(0, Relaxed))
        };
        println!(
            "{second:6} | {:5} | {:9} | {:>22} | {:>22}",
            now.limit,
            now.in_flight,
            of(urgent),
            of(others)
        );
    }
    while callers.join_next().await.is_some() {}
    Ok(())
}
