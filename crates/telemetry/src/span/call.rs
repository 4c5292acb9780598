use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, TraceContextExt},
};
use tracing::{Level, Span, dispatcher, field::Empty, level_filters::LevelFilter, subscriber::NoSubscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;

#[cfg(feature = "otlp")]
use super::head::{self, Fixed};
use super::{
    SpanEnd, SpanSettings, TraceIds,
    attributes::{DECISION, DECISION_TARGET, bounded, kind_word, milliseconds, pair},
};
use crate::{Label, source::End};

/// The span of a call that is on its way, or what is needed to make it after the fact.
#[derive(Debug, Default)]
pub(crate) struct CallSpan(State);

#[derive(Debug, Default)]
enum State {
    /// Nobody wants to know.
    #[default]
    Off,
    /// A trace that is not recorded, of which this call is a part.
    #[cfg(feature = "otlp")]
    Child(Context),
    /// A trace that is not recorded, which this call begins. Its ids go to whatever is called, so that no other service
    /// begins one of its own, and so that what is kept after the fact fits together.
    #[cfg(feature = "otlp")]
    Root(Context),
    Sampled(Box<Sampled>),
}

#[derive(Debug)]
struct Sampled {
    span: Span,
    /// What is known since the beginning: the SDK would send a key that is set twice two times.
    known: Vec<&'static str>,
}

/// Where a call stands.
enum Place {
    /// In no trace.
    First,
    /// In one that is sampled.
    Part,
    Unseen(State),
}

impl CallSpan {
    /// Whether anybody may want one at all.
    #[inline]
    pub(crate) fn is_wanted() -> bool {
        LevelFilter::current() >= LevelFilter::INFO
    }

    /// Decides whether the call is sampled, and begins its span if so: a part of a trace does as the trace does, and for
    /// the first of a trace the share decides.
    #[inline]
    pub(crate) fn begin(
        settings: &SpanSettings,
        operation: &str,
        attributes: &[(&'static str, Label)],
    ) -> Self {
        if !Self::is_wanted() {
            return Self(State::Off);
        }
        Self(State::begin(settings, operation, attributes))
    }

    /// Runs `f`, a `call` or a poll, inside the span.
    #[inline]
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            State::Off => f(),
            #[cfg(feature = "otlp")]
            State::Child(_) => f(),
            #[cfg(feature = "otlp")]
            State::Root(context) => {
                let _guard = context.clone().attach();
                f()
            }
            State::Sampled(sampled) => sampled.span.in_scope(f),
        }
    }

    /// Whether `end` wants to be told: the call was sampled, or it is such that its span is made after the fact.
    #[inline]
    pub(crate) fn wants_end(&self, end: End, is_slow: bool) -> bool {
        matches!(self.0, State::Sampled(_)) || (!matches!(self.0, State::Off) && (is_slow || end.is_bad()))
    }

    /// Ends it. Where the call was not sampled but went wrong or was slow, a span is made after the fact.
    pub(crate) fn end(self, settings: &SpanSettings, end: &SpanEnd<'_>) -> Option<TraceIds> {
        // Without the feature `otlp` the tracer of what is kept is not known.
        _ = settings;
        match self.0 {
            State::Off => None,
            State::Sampled(sampled) => sampled.end(end),
            #[cfg(feature = "otlp")]
            State::Child(_) | State::Root(_) if !(end.is_slow || end.end.is_bad()) => None,
            #[cfg(feature = "otlp")]
            State::Child(around) => head::keep(&around, None, settings, end),
            #[cfg(feature = "otlp")]
            State::Root(context) => {
                head::keep(&Context::new(), Some(context.span().span_context()), settings, end)
            }
        }
    }
}

impl State {
    fn begin(settings: &SpanSettings, operation: &str, attributes: &[(&'static str, Label)]) -> Self {
        let place = Context::map_current(|context| {
            let span = context.span();
            match span.span_context() {
                // It is the exporter's own call.
                _ if context.is_telemetry_suppressed() => Place::Unseen(Self::Off),
                around if !around.is_valid() => Place::First,
                around if around.is_sampled() => Place::Part,
                #[cfg(feature = "otlp")]
                _ => Place::Unseen(Self::Child(context.clone())),
                #[cfg(not(feature = "otlp"))]
                _ => Place::Unseen(Self::Off),
            }
        });
        // Outside of that closure, which borrows what a new span needs.
        match place {
            Place::Unseen(state) => state,
            Place::Part => Self::sampled(settings, operation, attributes, None),
            Place::First => Self::first(settings, operation, attributes),
        }
    }

    /// Without a share of ours the sampler of the user's own tracer decides.
    #[cfg(not(feature = "otlp"))]
    fn first(settings: &SpanSettings, operation: &str, attributes: &[(&'static str, Label)]) -> Self {
        Self::sampled(settings, operation, attributes, None)
    }

    #[cfg(feature = "otlp")]
    fn first(settings: &SpanSettings, operation: &str, attributes: &[(&'static str, Label)]) -> Self {
        match head::decides() {
            None => Self::sampled(settings, operation, attributes, None),
            Some(true) => {
                let fixed = Context::map_current(|context| context.with_value(Fixed::First));
                Self::sampled(settings, operation, attributes, Some(fixed))
            }
            Some(false) => {
                Self::Root(Context::map_current(|context| context.with_remote_span_context(unsampled())))
            }
        }
    }

    fn sampled(
        settings: &SpanSettings,
        operation: &str,
        attributes: &[(&'static str, Label)],
        parent: Option<Context>,
    ) -> Self {
        // The subscriber may be another thread's. What listens to nothing would take the span nevertheless.
        if dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>()) {
            return Self::Off;
        }
        let span = tracing::info_span!(
            target: "buttress",
            "call",
            otel.name = name(settings, operation),
            otel.kind = kind_word(settings.side),
            otel.status_code = Empty,
            error.type = Empty,
        );
        if span.is_disabled() {
            return Self::Off;
        }
        if let Some(parent) = parent {
            // Where no layer takes it, there is none that samples.
            _ = span.set_parent(parent);
        }
        span.set_attribute("buttress.name", settings.name);
        for (key, label) in settings.common.iter().chain(attributes) {
            span.set_attribute(*key, super::attributes::value(label));
        }
        let known = settings.common.iter().chain(attributes).map(|(key, _)| *key).collect();
        Self::Sampled(Box::new(Sampled { span, known }))
    }
}

impl Sampled {
    fn end(self, end: &SpanEnd<'_>) -> Option<TraceIds> {
        let Self { span, known } = self;
        // Inside: a span ends when it is left for the last time, and one whose call was dropped ends now.
        span.in_scope(|| {
            if let Some(error) = end.error_type() {
                span.record("error.type", error);
                span.record("otel.status_code", "error");
            }
            let context = span.context();
            let recorded = context.span();
            let ids = TraceIds::of(recorded.span_context())?;
            for attribute in end.attributes.iter().filter(|(key, _)| !known.contains(key)) {
                recorded.set_attribute(pair(attribute));
            }
            recorded.set_attribute(KeyValue::new("buttress.end", end.end.word()));
            for event in end.events(opentelemetry::time::now()) {
                recorded.add_event_with_timestamp(event.name, event.timestamp, event.attributes);
            }
            Some(ids)
        })
        .or_else(|| {
            log(&span, end);
            None
        })
    }
}

/// For a subscriber that knows no OpenTelemetry, or one whose sampler dropped the span.
fn log(span: &Span, end: &SpanEnd<'_>) {
    for (decision, after) in end.decisions() {
        tracing::event!(
            name: DECISION,
            target: DECISION_TARGET,
            parent: span,
            Level::INFO,
            layer = decision.origin.layer(),
            name = decision.origin.name(),
            what = decision.what,
            why = bounded(&decision.why),
            after_ms = milliseconds(after),
        );
    }
}

impl TraceIds {
    /// Of a span that is recorded.
    pub(super) fn of(context: &SpanContext) -> Option<Self> {
        (context.is_valid() && context.is_sampled())
            .then(|| Self { trace: context.trace_id().to_bytes(), span: context.span_id().to_bytes() })
    }
}

pub(super) fn name<'a>(settings: &SpanSettings, operation: &'a str) -> &'a str {
    match operation {
        "" => settings.name,
        operation => bounded(operation),
    }
}

/// New ids. They are no secret.
#[cfg(feature = "otlp")]
fn unsampled() -> SpanContext {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
    SpanContext::new(
        TraceId::from(fastrand::u128(1..)),
        SpanId::from(fastrand::u64(1..)),
        TraceFlags::NOT_SAMPLED,
        false,
        TraceState::NONE,
    )
}
