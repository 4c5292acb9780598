use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, metric::Data},
};
use prost::Message;

/// The same in requests of about so many bytes at most. A single data point that is larger goes alone.
pub(super) fn split(whole: ExportMetricsServiceRequest, limit: usize) -> Vec<ExportMetricsServiceRequest> {
    if whole.encoded_len() <= limit {
        return vec![whole];
    }
    let mut parts = Parts { done: Vec::new(), open: ExportMetricsServiceRequest::default(), size: 0, limit };
    for ResourceMetrics { resource, scope_metrics, schema_url } in whole.resource_metrics {
        let mut resource = ResourceMetrics { resource, scope_metrics: Vec::new(), schema_url };
        for ScopeMetrics { scope, metrics, schema_url } in scope_metrics {
            let mut scope = ScopeMetrics { scope, metrics: Vec::new(), schema_url };
            for metric in metrics.into_iter().flat_map(|metric| pieces(metric, limit)) {
                parts.add(&mut resource, &mut scope, metric);
            }
            parts.close_scope(&mut resource, &mut scope);
        }
        parts.close_resource(&mut resource);
    }
    parts.close();
    parts.done
}

struct Parts {
    done: Vec<ExportMetricsServiceRequest>,
    open: ExportMetricsServiceRequest,
    /// Of all that is to go into the open one.
    size: usize,
    limit: usize,
}

impl Parts {
    fn add(&mut self, resource: &mut ResourceMetrics, scope: &mut ScopeMetrics, metric: Metric) {
        let size = metric.encoded_len();
        if self.size > 0 && self.size + size > self.limit {
            self.close_scope(resource, scope);
            self.close_resource(resource);
            self.close();
        }
        self.size += size;
        scope.metrics.push(metric);
    }

    /// What is in it goes into the resource; it stays to be filled again.
    fn close_scope(&mut self, resource: &mut ResourceMetrics, scope: &mut ScopeMetrics) {
        let metrics = std::mem::take(&mut scope.metrics);
        if !metrics.is_empty() {
            resource.scope_metrics.push(ScopeMetrics { metrics, ..scope.clone() });
        }
    }

    fn close_resource(&mut self, resource: &mut ResourceMetrics) {
        let scope_metrics = std::mem::take(&mut resource.scope_metrics);
        if !scope_metrics.is_empty() {
            self.open.resource_metrics.push(ResourceMetrics { scope_metrics, ..resource.clone() });
        }
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if !open.resource_metrics.is_empty() {
            self.done.push(open);
        }
        self.size = 0;
    }
}

/// A metric that is too large, as several of its name with some of its data points each.
fn pieces(mut metric: Metric, limit: usize) -> Vec<Metric> {
    if metric.encoded_len() <= limit {
        return vec![metric];
    }
    let data = metric.data.take();
    let all = match data {
        Some(Data::Gauge(mut gauge)) => {
            chunks(std::mem::take(&mut gauge.data_points), limit, |data_points| {
                let mut part = gauge.clone();
                part.data_points = data_points;
                Data::Gauge(part)
            })
        }
        Some(Data::Sum(mut sum)) => chunks(std::mem::take(&mut sum.data_points), limit, |data_points| {
            let mut part = sum.clone();
            part.data_points = data_points;
            Data::Sum(part)
        }),
        Some(Data::Histogram(mut all)) => {
            chunks(std::mem::take(&mut all.data_points), limit, |data_points| {
                let mut part = all.clone();
                part.data_points = data_points;
                Data::Histogram(part)
            })
        }
        Some(Data::ExponentialHistogram(mut all)) => {
            chunks(std::mem::take(&mut all.data_points), limit, |data_points| {
                let mut part = all.clone();
                part.data_points = data_points;
                Data::ExponentialHistogram(part)
            })
        }
        Some(Data::Summary(mut all)) => chunks(std::mem::take(&mut all.data_points), limit, |data_points| {
            let mut part = all.clone();
            part.data_points = data_points;
            Data::Summary(part)
        }),
        None => Vec::new(),
    };
    all.into_iter().map(|data| Metric { data: Some(data), ..metric.clone() }).collect()
}

fn chunks<P: Message>(points: Vec<P>, limit: usize, data: impl Fn(Vec<P>) -> Data) -> Vec<Data> {
    let (mut all, mut open, mut size) = (Vec::new(), Vec::new(), 0);
    for point in points {
        // A tag and a length of its own.
        let own = point.encoded_len() + 5;
        if size > 0 && size + own > limit {
            all.push(data(std::mem::take(&mut open)));
            size = 0;
        }
        size += own;
        open.push(point);
    }
    if !open.is_empty() {
        all.push(data(open));
    }
    all
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        common::v1::InstrumentationScope,
        metrics::v1::{NumberDataPoint, Sum},
        resource::v1::Resource,
    };

    use super::*;

    fn metric(name: &str, points: u64) -> Metric {
        let points = (0..points).map(|at| NumberDataPoint { time_unix_nano: at + 1, ..Default::default() });
        let sum = Sum { data_points: points.collect(), aggregation_temporality: 2, is_monotonic: true };
        Metric { name: name.into(), data: Some(Data::Sum(sum)), ..Metric::default() }
    }

    fn request() -> ExportMetricsServiceRequest {
        let scope = |name: &str, metrics| ScopeMetrics {
            scope: Some(InstrumentationScope { name: name.into(), ..Default::default() }),
            metrics,
            ..ScopeMetrics::default()
        };
        let small: Vec<Metric> = (0..100).map(|at| metric(&format!("small{at}"), 1)).collect();
        let resource = |scope_metrics| ResourceMetrics {
            resource: Some(Resource::default()),
            scope_metrics,
            schema_url: "url".into(),
        };
        let scopes = vec![scope("a", small), scope("b", vec![metric("large", 1000), metric("last", 2)])];
        ExportMetricsServiceRequest { resource_metrics: vec![resource(scopes), resource(Vec::new())] }
    }

    /// Every data point, with all that it belongs to.
    fn points(requests: &[ExportMetricsServiceRequest]) -> Vec<(String, String, String, u64)> {
        let mut all = Vec::new();
        for resource in requests.iter().flat_map(|request| &request.resource_metrics) {
            for scope in &resource.scope_metrics {
                for metric in &scope.metrics {
                    let Some(Data::Sum(sum)) = &metric.data else { panic!("no sum") };
                    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                    let scope = &scope.scope.as_ref().unwrap().name;
                    for point in &sum.data_points {
                        let names = (resource.schema_url.clone(), scope.clone(), metric.name.clone());
                        all.push((names.0, names.1, names.2, point.time_unix_nano));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn nothing_is_lost_or_out_of_its_place_and_no_part_is_too_large() {
        let whole = request();
        for limit in [100, 500, 3000, 1 << 20] {
            let parts = split(whole.clone(), limit);
            assert_eq!(points(&parts), points(std::slice::from_ref(&whole)), "{limit}");
            // What surrounds the metrics comes on top.
            let largest = parts.iter().map(Message::encoded_len).max().unwrap();
            assert!(largest <= limit + limit / 2 + 100, "{largest} for {limit}");
            let fewest = whole.encoded_len() / limit + 1;
            assert!((fewest..=2 * fewest + 2).contains(&parts.len()), "{} parts for {limit}", parts.len());
        }
    }
}
