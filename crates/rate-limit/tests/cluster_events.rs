//! What a cluster-wide limit tells to `tracing`.
#![cfg(feature = "cluster")]

mod cluster_support;

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_rate_limit::{Limit, Rate, cluster::ClusterLayer};
use cluster_support::{Fault, FaultyStore};
use tokio::time::sleep;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_warning_when_the_store_goes_and_an_information_when_it_is_back() {
    let lines = Lines::default();
    let _heard = tracing::subscriber::set_default(lines.clone());
    let store = FaultyStore::new();
    let limit = Limit::from(Rate::per_second(10));
    let limiter = ClusterLayer::builder("told", limit, store.clone()).build().limiter();
    for fault in [Fault::Fails, Fault::BlackHole] {
        store.set(fault);
        for _ in 0..50 {
            limiter.acquire_for(&"secret", 0).await.unwrap();
            let _ = limiter.acquire_for(&"secret", 1).await;
            sleep(Duration::from_millis(100)).await;
        }
        store.set(Fault::None);
        sleep(Duration::from_secs(1)).await;
        // It is looked for only while somebody calls.
        let _ = limiter.acquire_for(&"secret", 1).await;
        sleep(Duration::from_millis(100)).await;
    }
    let lines = lines.0.lock().unwrap();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let beginnings: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(beginnings, ["WARN", "INFO", "WARN", "INFO"]);
    for said in [r#"name="told""#, r#"error="it was told to fail""#, "policy=LocalShare"] {
        assert!(lines[0].contains(said), "{said}: {lines:?}");
    }
    assert!(lines[2].contains("it did not answer in time"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("secret")), "{lines:?}");
}
