//! What is told to `tracing`.

use std::{
    fmt::{self, Write},
    sync::{Arc, Mutex},
};

use buttress_circuit_breaker::{CircuitBreakerLayer, State, Trip};
use buttress_core::Outcome;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Keeps every event as a line, or panics.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    panics: bool,
}

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
        assert!(!self.panics, "a subscriber that panics");
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
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
async fn a_warning_when_it_opens_an_information_otherwise() {
    let lines = Lines::default();
    let _heard = tracing::subscriber::set_default(lines.clone());
    let breaker =
        CircuitBreakerLayer::builder("orders").trip(Trip::consecutive(2).unwrap()).build().breaker();
    (0..2).for_each(|_| breaker.acquire().unwrap().finish(Outcome::Failure));
    breaker.reset();
    breaker.reset();
    let lines = lines.lines.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("WARN ") && lines[1].starts_with("INFO "), "{lines:?}");
    for said in
        [r#"name="orders""#, r#"from="closed""#, r#"to="open""#, "consecutive_failures=2", "open_for="]
    {
        assert!(lines[0].contains(said), "{said}: {lines:?}");
    }
    assert!(lines[1].contains(r#"from="open" to="closed""#) && !lines[0].contains("key="), "{lines:?}");
}

#[cfg(feature = "keyed")]
#[tokio::test(start_paused = true)]
async fn a_key_is_named_by_its_first_64_characters() {
    let lines = Lines::default();
    let _heard = tracing::subscriber::set_default(lines.clone());
    let breakers = CircuitBreakerLayer::builder("hosts").keyed(|host: &String| host.clone()).breakers();
    for host in ["short".to_owned(), "\u{e4}".repeat(100)] {
        breakers.breaker(&host).force_open();
    }
    let lines = lines.lines.lock().unwrap();
    assert!(lines[0].contains(r#" key="\"short\"""#), "{lines:?}");
    let name = lines[1].split(" key=").nth(1).unwrap().split(" from=").next().unwrap();
    assert_eq!(name.chars().filter(|c| *c == '\u{e4}').count(), 63, "and the quote: {name}");
}

#[test]
fn a_subscriber_that_panics_changes_nothing_in_the_breaker() {
    let breaker = CircuitBreakerLayer::builder("told").trip(Trip::consecutive(1).unwrap()).build().breaker();
    let subscriber = Lines { panics: true, ..Lines::default() };
    let panics = |f: &dyn Fn()| {
        tracing::subscriber::with_default(subscriber.clone(), || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
        })
    };
    let permit = std::cell::Cell::new(Some(breaker.acquire().unwrap()));
    assert!(panics(&|| permit.take().unwrap().finish(Outcome::Failure)));
    assert_eq!(breaker.state(), State::Open);
    breaker.isolate(std::time::Duration::ZERO);
    // Half-open by a call that panics before it is made: each of three probes gives its slot back.
    assert!(panics(&|| drop(breaker.acquire())));
    for _ in 0..10 {
        drop(breaker.acquire().unwrap());
    }
    (0..3).for_each(|_| breaker.acquire().unwrap().finish(Outcome::Success));
    assert_eq!(breaker.state(), State::Recovering);
}
