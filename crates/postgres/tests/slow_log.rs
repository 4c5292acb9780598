//! What is logged of slow statements. A process of its own: others would meet the event's place in the code at the same time
//! without a subscriber, and `tracing` remembers that nobody listens there.

mod support;

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_postgres::{Postgres, PostgresConfig, Query};
use buttress_testkit::TestDatabase;
use support::figure;
use tokio::time::Instant;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "buttress_postgres::slow_query"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, "{field}={value:?};").unwrap();
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn the_log_is_told_without_values_and_is_not_flooded() {
    let test = TestDatabase::new().await;
    let log = Log::default();
    let _logged = tracing::subscriber::set_default(log.clone());
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_name("slow-db");
    let db = Postgres::new(config.with_slow_query(Duration::ZERO)).unwrap();
    let start = Instant::now();
    for _ in 0..200 {
        let secret = Query::new("select :secret::text, 'hunter2'").bind("secret", "hunter3");
        db.query(secret).await.unwrap();
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    let lines = log.0.lock().unwrap().clone();
    assert!(lines.len() >= 10 && lines.len() <= 11 + seconds, "{}", lines.len());
    assert_eq!(figure(&db, "slow_queries"), 200.0);
    for part in [
        "instance=\"slow-db\"",
        "text=\"select :secret::text, ?\"",
        "duration=",
        "rows=1",
        "ending=\"finished\"",
    ] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
    assert!(!lines.concat().contains("hunter"));
}
