//! What alerts tell `tracing`, in a process of its own.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use buttress_telemetry::{Alerts, Comparison, Notify, Registry, Rule, Severity, Subject};
use tokio::time::sleep;

#[derive(Clone, Default)]
struct Level(Arc<AtomicU64>);

impl Observe for Level {
    fn origin(&self) -> Origin {
        Origin::new("events-test", "level")
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("level", Value::Gauge(self.0.load(SeqCst) as f64)));
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn an_alert_is_told_once_when_it_fires_and_once_when_it_clears() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .init();
    let (registry, level) = (Registry::new(), Level::default());
    registry.register(&level).unwrap();
    let rule = |name, threshold| {
        let subject = Subject::figure("events-test", "level");
        Rule::threshold(name, subject, Comparison::Above, threshold)
    };
    let _alerts = Alerts::builder(&registry)
        .rule(rule("high", 1.0))
        .rule(rule("higher", 2.0).severity(Severity::Critical).summary("much too high"))
        .notify(Notify::function(|_| panic!("hunter2")))
        .build()
        .unwrap();
    let look = Duration::from_secs(6);
    level.0.store(2, SeqCst);
    sleep(look).await;
    sleep(10 * look).await;
    let told: Vec<String> = lines.take().into_iter().filter(|line| !line.contains("delivered")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in
        ["WARN", "alert fired: level of events-test > 1", "rule=high", "severity=\"warning\"", "value=2.0"]
    {
        assert!(told[0].contains(part), "no {part}: {told:?}");
    }
    level.0.store(3, SeqCst);
    sleep(look).await;
    let told = lines.take();
    assert!(
        told.iter().any(|line| line.contains("ERROR") && line.contains("alert fired: much too high")),
        "{told:?}"
    );
    // What somebody's function panics with is not ours to tell.
    let failures: Vec<_> = told.iter().filter(|line| line.contains("could not be delivered")).collect();
    assert_eq!(failures.len(), 1, "{told:?}");
    assert!(failures[0].contains("the function panicked") && !failures[0].contains("hunter2"));
    level.0.store(0, SeqCst);
    sleep(look).await;
    let told = lines.take();
    let cleared = told.iter().filter(|line| {
        line.contains("INFO") && line.contains("alert cleared") && line.contains("reason=\"recovered\"")
    });
    assert_eq!(cleared.count(), 2, "{told:?}");
}
