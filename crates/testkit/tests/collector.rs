//! The collector, asked by the clients that OTLP has.
#![cfg(feature = "otlp")]

use std::time::Duration;

use buttress_testkit::{Answer, Collector};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, trace_service_client::TraceServiceClient,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

const SOON: Duration = Duration::from_secs(10);

fn channel(collector: &Collector) -> Channel {
    Endpoint::from_shared(collector.url()).unwrap().connect_lazy()
}

fn metrics(name: &str) -> ExportMetricsServiceRequest {
    let metric = Metric { name: name.into(), unit: "s".into(), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource] }
}

fn traces(name: &str) -> ExportTraceServiceRequest {
    let span = Span { name: name.into(), ..Span::default() };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }
}

#[tokio::test]
async fn it_keeps_metrics_and_traces_and_their_metadata() {
    let collector = Collector::start().await;
    let mut request = Request::new(metrics("a"));
    request.metadata_mut().insert("authorization", "token".parse().unwrap());
    MetricsServiceClient::new(channel(&collector)).export(request).await.unwrap();
    assert_eq!(collector.metadata().unwrap().get("authorization").unwrap(), "token");
    TraceServiceClient::new(channel(&collector)).export(traces("b")).await.unwrap();
    assert_eq!(collector.metric("a", SOON).await.metric.unit, "s");
    assert_eq!(collector.span("b", SOON).await.name, "b");
    assert_eq!((collector.metrics().len(), collector.traces().len()), (1, 1));
    assert_eq!((collector.attempts(), collector.metric_names()), (2, vec!["a".to_owned()]));
    collector.clear();
    assert!(collector.metrics().is_empty() && collector.spans().is_empty());
}

#[tokio::test]
async fn one_may_wait_for_what_comes_later() {
    let collector = Collector::start().await;
    assert_eq!(collector.wait(Duration::from_millis(20), || collector.spans().pop()).await, None);
    let mut client = MetricsServiceClient::new(channel(&collector));
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.export(metrics("late")).await.map(drop)
    });
    assert_eq!(collector.metric("late", SOON).await.metric.name, "late");
    late.await.unwrap().unwrap();
}

#[tokio::test]
async fn it_answers_as_it_is_told() {
    let collector = Collector::start().await;
    let mut client = MetricsServiceClient::new(channel(&collector));
    collector.answer(Answer::Status(Code::Unavailable));
    assert_eq!(client.export(metrics("a")).await.unwrap_err().code(), Code::Unavailable);
    collector.answer(Answer::Never);
    let never = tokio::time::timeout(Duration::from_millis(100), client.export(metrics("a"))).await;
    assert!(never.is_err());
    assert_eq!((collector.attempts(), collector.metrics().len()), (2, 0));
    collector.answer(Answer::Partial(3));
    let answer = client.export(metrics("a")).await.unwrap().into_inner();
    assert_eq!(answer.partial_success.unwrap().rejected_data_points, 3);
    collector.answer(Answer::After(Duration::from_millis(50)));
    let began = tokio::time::Instant::now();
    client.export(metrics("a")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn stopped_it_is_gone_and_restarted_it_is_there_with_what_it_had() {
    let collector = Collector::start().await;
    let mut client = MetricsServiceClient::new(channel(&collector));
    client.export(metrics("a")).await.unwrap();
    collector.stop().await;
    assert!(client.export(metrics("b")).await.is_err());
    assert!(tokio::net::TcpStream::connect(collector.addr()).await.is_err());
    collector.restart().await;
    collector.restart().await;
    client.export(metrics("c")).await.unwrap();
    assert_eq!(collector.metric_names(), ["a", "c"]);
}

#[tokio::test]
async fn a_call_that_is_on_its_way_ends_when_it_stops() {
    let collector = Collector::start().await;
    collector.answer(Answer::Never);
    let mut client = MetricsServiceClient::new(channel(&collector));
    let call = tokio::spawn(async move { client.export(metrics("a")).await.map(drop) });
    collector.wait(SOON, || (collector.attempts() == 1).then_some(())).await.unwrap();
    collector.stop().await;
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn it_keeps_no_more_than_it_says() {
    let collector = Collector::start().await;
    let mut client = MetricsServiceClient::new(channel(&collector));
    for name in 0..Collector::MAX_KEPT + 2 {
        client.export(metrics(&name.to_string())).await.unwrap();
    }
    let kept = collector.metrics();
    assert_eq!(kept.len(), Collector::MAX_KEPT);
    assert_eq!(kept[0].resource_metrics[0].scope_metrics[0].metrics[0].name, "2");
}
