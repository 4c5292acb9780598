//! What is said of a collector that comes and goes. The exporter has a thread of its own, so the subscriber is the
//! process's, and this a file of its own.
#![cfg(feature = "otlp")]

#[path = "support/received.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several tests")]
mod received;

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_telemetry::{Flush, Telemetry};
use buttress_testkit::{Answer, Collector};
use received::Received;
use tonic::Code;
use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

/// All warnings, and how much else there was. It wants to hear everything.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(Vec<String>, usize)>>);

impl<S: Subscriber> Layer<S> for Heard {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut heard = self.0.lock().unwrap();
        if *event.metadata().level() > Level::WARN {
            heard.1 += 1;
            return;
        }
        let mut words = event.metadata().target().to_owned();
        event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
            _ = write!(words, " {field}={value:?}");
        });
        heard.0.push(words);
    }
}

impl Heard {
    /// So many warnings, and no more for a while.
    async fn warnings(&self, count: usize) -> Vec<String> {
        for _ in 0..1000 {
            if self.0.lock().unwrap().0.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let warnings = self.0.lock().unwrap().0.clone();
        assert_eq!(warnings.len(), count, "{warnings:#?}");
        warnings
    }
}

/// A batch is sent when there are so many.
fn batch(name: &str) {
    for _ in 0..512 {
        tracing::info_span!("work", otel.name = name).in_scope(|| ());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_once_that_it_fails_and_once_that_it_works_again() {
    let (collector, heard) = (Collector::start().await, Heard::default());
    let telemetry = Telemetry::builder("shop").otlp(&collector.url()).sample(1.0).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(heard.clone()).with(telemetry.tracing_layer());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    batch("first");
    collector.requests(1).await;
    heard.warnings(0).await;

    // It is not tried again after that code, so it is quick.
    collector.answer(Answer::Status(Code::Unauthenticated));
    for count in 2..6 {
        batch("lost");
        collector.requests(count).await;
    }
    let [fails] = &*heard.warnings(1).await else { unreachable!() };
    assert!(fails.contains("does not take") && fails.contains("signal=\"spans\""), "{fails}");
    assert!(fails.contains(&collector.url()) && fails.contains("lost=512"), "{fails}");
    // Nothing of what the collector says is repeated.
    assert!(!fails.contains("as it was told") && !fails.contains('\u{1b}'), "{fails}");
    assert_eq!(telemetry.spans_lost(), 4 * 512);

    collector.answer(Answer::Ok);
    batch("second");
    let [_, works] = &*heard.warnings(2).await else { unreachable!() };
    assert!(works.contains("again") && works.contains("lost=2048"), "{works}");

    assert_eq!(telemetry.shutdown(Duration::from_secs(10)).await.spans, Flush::Sent);
    // The exporter's own HTTP/2 talks of itself, and none of it is exported.
    assert!(heard.0.lock().unwrap().1 > 100, "nothing was heard of HTTP/2");
    let spans = collector.spans();
    assert_eq!(spans.len(), 2 * 512);
    assert!(spans.iter().all(|span| span.name == "first" || span.name == "second"));
    assert!(spans.iter().all(|span| span.events.is_empty()));
    heard.warnings(2).await;
}
