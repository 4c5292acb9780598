#[cfg(feature = "generate")]
pub(crate) mod names;
mod page;
#[cfg(feature = "dashboard")]
mod route;
mod translate;

use std::{collections::HashMap, fmt};

use buttress_core::Value;
use foldhash::fast::RandomState;

use self::page::{Kind, Page};
#[cfg(feature = "dashboard")]
pub use self::route::prometheus_route;
use crate::{Handle, Label, Registry, latencies, naming, process};

impl Registry {
    /// All that is known now, as a page in Prometheus' text format 0.0.4.
    ///
    /// Names and labels are those that OpenTelemetry's translation makes of the instruments of an export by OTLP:
    /// `buttress_circuit_breaker_rejections_total{buttress_name="orders",buttress_reason="circuit_open"}`. The latencies of
    /// telemetry layers are histograms, and the process's memory, processor time and open files are there under the names
    /// that Prometheus' own clients give them. The families are sorted.
    ///
    /// The bounds of a histogram's buckets are those of a [`Sketch`](crate::Sketch)'s which are nearest to what OpenTelemetry
    /// advises: 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5 and 10 seconds, each within
    /// 2.2 %. So every count is exact.
    ///
    /// Values of labels are escaped and at most 256 bytes long. Where two figures would get one name and the same labels, or
    /// one name and two types, the first one stays: Prometheus refuses a page that has both. A counter begins at zero again
    /// when its layer is dropped and another one made under the name; `rate` and `increase` know that.
    #[must_use]
    pub fn prometheus(&self) -> String {
        self.page().to_string()
    }

    /// Writes what [`prometheus`](Self::prometheus) returns.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write_prometheus(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "{}", self.page())
    }

    fn page(&self) -> Page {
        let mut page = Page::default();
        let handles = self.handles();
        let mut names = Names::default();
        handles.iter().for_each(|handle| add_layer(&mut page, &mut names, handle));
        for (metric, unit, kind, count) in [
            ("layers", "{layer}", Kind::Gauge, handles.len() as f64),
            ("slow_calls", "{call}", Kind::Counter, self.slow_calls_total() as f64),
        ] {
            let name = names.get("", metric, unit, kind);
            page.add(name, || naming::description("", metric), kind, &[], count);
        }
        for distribution in latencies::read(self) {
            let name = translate::name(distribution.metric, "s", Kind::Histogram);
            let labels: Vec<_> = distribution
                .attributes
                .iter()
                .map(|(key, label)| match label {
                    Label::Text(text) => (*key, text.to_string()),
                    Label::Number(number) => (*key, number.to_string()),
                })
                .collect();
            let labels: Vec<_> = labels.iter().map(|(key, value)| (*key, &**value)).collect();
            page.add_histogram(&name, "How long calls took.", &labels, &distribution.latencies);
        }
        add_process(&mut page);
        page
    }
}

fn add_layer(page: &mut Page, names: &mut Names, handle: &Handle) {
    let origin = handle.observe.origin();
    let name = naming::value(origin.name());
    let stack = match &*handle.stacks {
        [stack] => Some(naming::value(stack)),
        _ => None,
    };
    for metric in handle.figures() {
        let label = metric.label.map(|(key, value)| (format!("buttress.{key}"), naming::value(value)));
        let mut labels = vec![("buttress.name", &*name)];
        labels.extend(stack.as_ref().map(|stack| ("buttress.stack", &**stack)));
        labels.extend(label.as_ref().map(|(key, value)| (&**key, &**value)));
        let (kind, value) = match metric.value {
            Value::Counter(count) => (Kind::Counter, count as f64),
            Value::Gauge(gauge) => (Kind::Gauge, gauge),
            _ => continue,
        };
        let name = names.get(origin.layer(), metric.name, naming::unit(&metric), kind);
        page.add(name, || naming::description(origin.layer(), metric.name), kind, &labels, value);
    }
}

/// What the figures of a kind of layer are called, for it is the same for all of that kind.
#[derive(Default)]
struct Names(HashMap<(&'static str, &'static str, &'static str, Kind), String, RandomState>);

impl Names {
    fn get(&mut self, layer: &'static str, metric: &'static str, unit: &'static str, kind: Kind) -> &str {
        self.0
            .entry((layer, metric, unit, kind))
            .or_insert_with(|| translate::name(&naming::instrument(layer, metric), unit, kind))
    }
}

fn add_process(page: &mut Page) {
    let process = process::read();
    let figures = [
        (
            "process_resident_memory_bytes",
            "Resident memory in bytes.",
            Kind::Gauge,
            process.memory_bytes.map(|it| it as f64),
        ),
        ("process_cpu_seconds_total", "Processor time in seconds.", Kind::Counter, process.cpu_seconds),
        ("process_open_fds", "Open files and sockets.", Kind::Gauge, process.open_files.map(|it| it as f64)),
    ];
    for (name, help, kind, value) in figures {
        if let Some(value) = value {
            page.add(name, || help.to_owned(), kind, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latencies::tests::Fixed;

    #[test]
    fn latencies_are_histograms_of_each_layer() {
        let registry = Registry::new();
        let _one = Fixed::register(&registry, "page-a", &[500_000_000, 2_000_000_000]);
        let _other = Fixed::register(&registry, "page-b", &[1]);
        let page = registry.prometheus();
        let labels = "buttress_name=\"page-a\",http_response_status_code=\"200\",http_route=\"/a\\\"\\n\"";
        for line in [
            format!("http_client_request_duration_seconds_bucket{{{labels},le=\"0.5\"}} 2\n"),
            format!("http_client_request_duration_seconds_bucket{{{labels},le=\"1\"}} 2\n"),
            format!("http_client_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4\n"),
            format!("http_client_request_duration_seconds_sum{{{labels}}} 5\n"),
            format!("http_client_request_duration_seconds_count{{{labels}}} 4\n"),
        ] {
            assert!(page.contains(&line), "no {line} in {page}");
        }
        assert_eq!(page.matches("# TYPE http_client_request_duration_seconds histogram\n").count(), 1);
        assert_eq!(page.matches("duration_seconds_count{").count(), 2);
    }
}
