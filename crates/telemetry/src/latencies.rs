//! The latencies of all telemetry layers, as those need them who export them.

use std::{collections::HashMap, time::SystemTime};

use foldhash::fast::RandomState;

use crate::{Label, Registry, Sketch, naming, source::Exemplar};

/// One combination of attributes of one metric.
#[derive(Debug)]
pub(crate) struct Distribution {
    pub(crate) metric: &'static str,
    /// Sorted by their keys, of which each is there once; `buttress.name` is among them.
    pub(crate) attributes: Attributes,
    pub(crate) latencies: Sketch,
    pub(crate) exemplars: Vec<Exemplar>,
    pub(crate) since: SystemTime,
}

type Attributes = Vec<(&'static str, Label)>;

/// More exemplars of one combination are not exported.
const MAX_EXEMPLARS: usize = 16;

/// All that is known now. What differs in nothing that is exported is one: neither OTLP nor Prometheus takes it twice.
pub(crate) fn read(registry: &Registry) -> Vec<Distribution> {
    let mut all: Vec<Distribution> = Vec::new();
    let mut index: HashMap<(&'static str, Attributes), usize, RandomState> = HashMap::default();
    for source in registry.sources() {
        let name = source.origin().name();
        source.series(&mut |series| {
            let attributes = attributes(name, series.attributes);
            let at = *index.entry((series.metric, attributes)).or_insert_with_key(|(metric, attributes)| {
                all.push(Distribution {
                    metric,
                    attributes: attributes.clone(),
                    latencies: Sketch::default(),
                    exemplars: Vec::new(),
                    since: series.since,
                });
                all.len() - 1
            });
            let known = &mut all[at];
            known.latencies.merge(&series.latencies);
            known.since = known.since.min(series.since);
            let room = MAX_EXEMPLARS.saturating_sub(known.exemplars.len());
            known.exemplars.extend(series.exemplars.into_iter().take(room));
        });
    }
    all
}

/// With the layer's name: of two layers with the same metric, each has series of its own.
fn attributes(name: &'static str, own: &[(&'static str, Label)]) -> Attributes {
    let own = own.iter().map(|(key, label)| (*key, bounded(label)));
    let mut all: Attributes = own.collect();
    if all.iter().all(|(key, _)| *key != "buttress.name") {
        all.push(("buttress.name", Label::Text(naming::value(name))));
    }
    all.sort_by_key(|(key, _)| *key);
    all.dedup_by_key(|(key, _)| *key);
    all
}

fn bounded(label: &Label) -> Label {
    match label {
        Label::Text(text) => Label::Text(naming::value(text).into_owned().into()),
        Label::Number(number) => Label::Number(*number),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use buttress_core::Origin;

    use super::*;
    use crate::source::{End, Series, Source};

    /// Of each call to `/a` the latencies, one with an exemplar; the same once more of calls that ended otherwise.
    pub(crate) struct Fixed {
        pub(crate) name: &'static str,
        pub(crate) nanos: Vec<u64>,
    }

    impl Fixed {
        pub(crate) fn register(registry: &Registry, name: &'static str, nanos: &[u64]) -> Arc<Self> {
            let fixed = Arc::new(Self { name, nanos: nanos.to_vec() });
            let source: Arc<dyn Source> = fixed.clone();
            registry.add_source(&source).unwrap();
            fixed
        }
    }

    impl Source for Fixed {
        fn origin(&self) -> Origin {
            Origin::new("telemetry", self.name)
        }
        #[cfg(feature = "generate")]
        fn metric(&self) -> &'static str {
            "latencies.test"
        }
        fn in_flight(&self) -> u64 {
            0
        }
        fn number(&self) -> u64 {
            0
        }
        fn series(&self, visit: &mut dyn FnMut(Series<'_>)) {
            let mut latencies = Sketch::default();
            self.nanos.iter().for_each(|nanos| latencies.record(Duration::from_nanos(*nanos)));
            for end in [End::Success, End::Cancelled] {
                visit(Series {
                    metric: "http.client.request.duration",
                    attributes: &[
                        ("http.route", Label::Text("/a\"\n".into())),
                        ("http.response.status_code", Label::Number(200)),
                    ],
                    operation: "GET /a",
                    end,
                    error: None,
                    latencies: latencies.clone(),
                    exemplars: vec![Exemplar {
                        seconds: 0.25,
                        at: UNIX_EPOCH + Duration::from_secs(9),
                        trace_id: [1; 16],
                        span_id: [2; 8],
                    }],
                    since: UNIX_EPOCH + Duration::from_secs(7),
                });
            }
        }
    }

    #[test]
    fn what_differs_in_nothing_that_is_exported_is_one_and_each_layer_has_its_own() {
        let registry = Registry::new();
        let _a = Fixed::register(&registry, "latencies-a", &[1000, 2000]);
        let b = Fixed::register(&registry, "latencies-b", &[3000]);
        let all = read(&registry);
        let counts: Vec<u64> = all.iter().map(|one| one.latencies.count()).collect();
        assert_eq!(counts, [4, 2]);
        assert_eq!(all[0].exemplars.len(), 2);
        let keys: Vec<&str> = all[0].attributes.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["buttress.name", "http.response.status_code", "http.route"]);
        drop(b);
        assert_eq!(read(&registry).len(), 1);
    }
}
