use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_core::{Decision, Decisions, Origin};
use tracing::{
    Event, Id, Subscriber,
    field::Field,
    span::{Attributes, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    Side,
    source::End,
    span::{CallSpan, SpanEnd, SpanSettings},
};

/// A subscriber that knows no OpenTelemetry.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn add(&self, mut line: String, record: impl FnOnce(&mut dyn FnMut(&Field, &dyn Debug))) {
        record(&mut |field, value| _ = write!(line, " {field}={value:?}"));
        self.0.lock().unwrap().push(line);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.add("new".into(), |mut visit| attributes.record(&mut visit));
    }
    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.add("record".into(), |mut visit| values.record(&mut visit));
    }
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = context.event_span(event).map_or("none", |span| span.name());
        self.add(format!("{} in {span}:", event.metadata().target()), |mut visit| event.record(&mut visit));
    }
    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.add("close".into(), |_| {});
    }
}

#[test]
fn a_subscriber_without_opentelemetry_hears_of_the_call_and_of_what_was_decided() {
    let (lines, origin) = (Lines::default(), Origin::new("retry", "span_plain"));
    let _guard = tracing_subscriber::registry().with(lines.clone()).set_default();
    let settings = SpanSettings { name: "orders", side: Side::Server, common: Vec::new() };
    let (span, mut decisions) = (CallSpan::begin(&settings, "POST /orders", &[]), Decisions::new());
    span.enter(|| decisions.collect(|| Decision::note(origin, "gave_up", || "3 of 3 failed".into())));
    assert!(span.wants_end(End::Success, false));
    let end = SpanEnd {
        operation: "POST /orders",
        attributes: &[],
        end: End::Failure,
        error: Some("503"),
        latency: Duration::ZERO,
        is_slow: false,
        decisions: decisions.as_slice(),
    };
    assert_eq!(span.end(&settings, &end), None, "there is no trace");
    let lines = lines.0.lock().unwrap();
    assert_eq!(
        *lines,
        [
            r#"new otel.name="POST /orders" otel.kind="server""#,
            r#"record error.type="503""#,
            r#"record otel.status_code="error""#,
            "buttress::decision in call: layer=\"retry\" name=\"span_plain\" what=\"gave_up\" \
             why=\"3 of 3 failed\" after_ms=0.0",
            "close",
        ]
    );
}
