use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use crate::span::Fixed;

/// A part of a trace does as the trace does, and of the first ones a share is sampled: OpenTelemetry's `ParentBased` over
/// `TraceIdRatioBased`. But where a call has been decided about, it stays so.
#[derive(Debug, Clone)]
pub(super) struct Keeping(Sampler);

impl Keeping {
    pub(super) fn new(ratio: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
    }
}

impl ShouldSample for Keeping {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let around = parent.map(|parent| (parent.get::<Fixed>(), parent.span().span_context().clone()));
        let (fixed, around) = around.unzip();
        let is_fixed = match fixed.flatten() {
            Some(Fixed::Kept) => true,
            // A context keeps its values for the spans below it, and whoever continues a trace from outside in it has a parent.
            Some(Fixed::First) => !around.as_ref().is_some_and(|around| around.is_valid()),
            None => false,
        };
        if is_fixed {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: around.map(|around| around.trace_state().clone()).unwrap_or_default(),
            };
        }
        self.0.should_sample(parent, trace, name, kind, attributes, links)
    }
}
