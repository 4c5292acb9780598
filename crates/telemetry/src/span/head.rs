//! Head sampling that keeps what went wrong or was slow: a call that was not sampled gets a span after the fact.

use std::cell::Cell;

use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceId, Tracer},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer};
use tracing::{Subscriber, dispatcher};
use tracing_subscriber::Layer;

use super::{SpanEnd, SpanSettings, TraceIds, attributes::pair, call::name};
use crate::Side;

/// Stands beside the layer of `tracing-opentelemetry` in a subscriber, where the spans of calls find it. So every
/// subscriber has its own, and nothing is global.
#[derive(Debug)]
pub(crate) struct Head {
    /// The share of traces that are sampled, from 0 to 1.
    pub(crate) ratio: f64,
    pub(crate) tracer: SdkTracer,
}

impl<S: Subscriber> Layer<S> for Head {}

/// In the context in which a span begins: that the sampler has no choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// The first span of a trace, which has been sampled.
    First,
    /// Made after the fact.
    Kept,
}

/// Whether the trace that begins here is sampled, if it is ours to say.
#[inline]
pub(super) fn decides() -> Option<bool> {
    dispatcher::get_default(|dispatch| {
        let head = dispatch.downcast_ref::<Head>()?;
        Some(fastrand::f64() < head.ratio)
    })
}

/// Makes and ends the span of a call that ended now. `ids` are those that the call went by, where it began the trace.
#[cold]
pub(super) fn keep(
    parent: &Context,
    ids: Option<&SpanContext>,
    settings: &SpanSettings,
    end: &SpanEnd<'_>,
) -> Option<TraceIds> {
    dispatcher::get_default(|dispatch| {
        let head = dispatch.downcast_ref::<Head>()?;
        let now = opentelemetry::time::now();
        let mut attributes: Vec<_> = settings.common.iter().chain(end.attributes).map(pair).collect();
        attributes.push(KeyValue::new("buttress.name", settings.name));
        attributes.push(KeyValue::new("buttress.end", end.end.word()));
        // Whoever counts spans has to leave these out: they are no fair share.
        attributes.push(KeyValue::new("buttress.kept", true));
        let mut status = Status::Unset;
        if let Some(error) = end.error_type() {
            status = Status::error("");
            attributes.push(KeyValue::new("error.type", error.to_owned()));
        }
        let builder = SpanBuilder::from_name(name(settings, end.operation).to_owned())
            .with_kind(match settings.side {
                Side::Client => SpanKind::Client,
                Side::Server => SpanKind::Server,
                Side::Internal => SpanKind::Internal,
            })
            .with_start_time(now.checked_sub(end.latency).unwrap_or(now))
            .with_attributes(attributes)
            .with_events(end.events(now).collect());
        let mut span =
            Ids::use_next(ids, || head.tracer.build_with_context(builder, &parent.with_value(Fixed::Kept)));
        span.set_status(status);
        span.end_with_timestamp(now);
        TraceIds::of(span.span_context())
    })
}

/// Gives random ids, but to a span that is made after the fact those under which its call was known to others.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

thread_local! {
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

impl Ids {
    fn use_next<R>(ids: Option<&SpanContext>, f: impl FnOnce() -> R) -> R {
        NEXT.set(ids.map(|ids| (ids.trace_id(), ids.span_id())));
        let made = f();
        NEXT.set(None);
        made
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}
