//! Finding one's way in what was received.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;

/// A metric, and what it came with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReceivedMetric {
    /// The attributes of the resource.
    pub resource: Vec<KeyValue>,
    /// Who measured.
    pub scope: InstrumentationScope,
    /// The metric.
    pub metric: Metric,
}

/// The metric of that name in the last export that has it.
pub(super) fn latest(exports: &[ExportMetricsServiceRequest], name: &str) -> Option<ReceivedMetric> {
    exports.iter().rev().flat_map(all).find(|received| received.metric.name == name)
}

pub(super) fn names(exports: &[ExportMetricsServiceRequest]) -> Vec<String> {
    let names: BTreeSet<String> = exports.iter().flat_map(all).map(|received| received.metric.name).collect();
    names.into_iter().collect()
}

pub(super) fn spans(exports: &[ExportTraceServiceRequest]) -> Vec<Span> {
    let resources = exports.iter().flat_map(|export| &export.resource_spans);
    resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
}

fn all(export: &ExportMetricsServiceRequest) -> impl Iterator<Item = ReceivedMetric> + '_ {
    export.resource_metrics.iter().flat_map(|resource| {
        let attributes = resource.resource.as_ref().map(|resource| resource.attributes.clone());
        let attributes = attributes.unwrap_or_default();
        resource.scope_metrics.iter().flat_map(move |scope| {
            let (attributes, owner) = (attributes.clone(), scope.scope.clone().unwrap_or_default());
            scope.metrics.iter().map(move |metric| ReceivedMetric {
                resource: attributes.clone(),
                scope: owner.clone(),
                metric: metric.clone(),
            })
        })
    })
}
