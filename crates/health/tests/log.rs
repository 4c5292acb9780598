//! What is logged. In a file of its own: tracing remembers for each event whether anybody listens, and asks the thread that
//! comes by first. Every test here listens.

use std::{
    future::ready,
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_health::{Health, Part, Probe, State, Status};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(100);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hostile_cause_is_one_line() {
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let hostile = format!("gone\r\nINFO ready\x1b[2J\u{202e}\0{}", "x".repeat(10_000));
    let probe = Probe::from_fn(move || ready(Err::<(), _>(hostile.clone())));
    let health = Health::builder().name("shop").part(Part::new("db", probe).critical()).start().unwrap();
    health.wait_ready(LONG).await.unwrap_err();

    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    for word in ["WARN", "a part is down", "health=\"shop\"", "part=\"db\"", "gone"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(!log.contains('\x1b') && !log.contains('\u{202e}') && log.len() < 1000, "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_panics_ends_no_loop() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || -> io::Sink {
        count.fetch_add(1, SeqCst);
        panic!("the disk is full")
    });
    let _guard = tracing::subscriber::set_default(subscriber.finish());

    let gone = Arc::new(AtomicBool::new(false));
    let (asked, read) = (gone.clone(), gone.clone());
    let probe = Probe::from_fn(move || ready(Status::down_if(asked.load(SeqCst), "gone")));
    let health = Health::builder()
        .part(Part::new("db", probe).critical())
        .part(Part::passive_only("queue", move || Status::down_if(read.load(SeqCst), "full")))
        .start()
        .unwrap();
    let mut watch = health.watch();
    for is_gone in [false, true, false, true] {
        gone.store(is_gone, SeqCst);
        let expected = if is_gone { State::Down } else { State::Up };
        timeout(LONG, async {
            while watch.report().parts().iter().any(|part| part.state != expected) {
                watch.changed().await.expect("the health runs");
            }
        })
        .await
        .expect("both loops go on");
    }
    assert!(written.load(SeqCst) > 4);
}
