use std::{
    collections::{BTreeMap, HashSet},
    fmt::{self, Write as _},
};

use foldhash::fast::RandomState;

use super::translate;
use crate::{Sketch, sketch::BOUNDS};

/// A page of families of samples.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: Kind,
    /// Each a line.
    samples: String,
    /// The labels of those that are there.
    known: HashSet<String, RandomState>,
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Page {
    pub(super) fn add(
        &mut self,
        name: &str,
        help: impl FnOnce() -> String,
        kind: Kind,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let Some((family, labels)) = self.open(name, help, kind, labels) else { return };
        sample(&mut family.samples, name, "", &labels, None, value);
    }

    pub(super) fn add_histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        latencies: &Sketch,
    ) {
        let help = || help.to_owned();
        let Some((family, labels)) = self.open(name, help, Kind::Histogram, labels) else { return };
        for (bound, count) in BOUNDS.into_iter().zip(latencies.within()) {
            sample(&mut family.samples, name, "_bucket", &labels, Some(bound.seconds()), count as f64);
        }
        let all = latencies.count() as f64;
        sample(&mut family.samples, name, "_bucket", &labels, Some(f64::INFINITY), all);
        sample(&mut family.samples, name, "_sum", &labels, None, latencies.sum());
        sample(&mut family.samples, name, "_count", &labels, None, all);
    }

    /// The family, and the labels as they are written; none if there is such a sample, or the family is of another type.
    fn open(
        &mut self,
        name: &str,
        help: impl FnOnce() -> String,
        kind: Kind,
        labels: &[(&str, &str)],
    ) -> Option<(&mut Family, String)> {
        if !self.families.contains_key(name) {
            let fresh = Family { help: help(), kind, samples: String::new(), known: HashSet::default() };
            self.families.insert(name.to_owned(), fresh);
        }
        let family = self.families.get_mut(name)?;
        let labels = translate::labels(labels);
        let is_new = family.kind == kind && family.known.insert(labels.clone());
        is_new.then_some((family, labels))
    }
}

fn sample(to: &mut String, name: &str, suffix: &str, labels: &str, le: Option<f64>, value: f64) {
    to.push_str(name);
    to.push_str(suffix);
    if le.is_some() || !labels.is_empty() {
        to.push('{');
        to.push_str(labels);
        if let Some(le) = le {
            to.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
            number(to, le);
            to.push('"');
        }
        to.push('}');
    }
    to.push(' ');
    number(to, value);
    to.push('\n');
}

fn number(to: &mut String, number: f64) {
    if number == f64::INFINITY {
        to.push_str("+Inf");
    } else if number == f64::NEG_INFINITY {
        to.push_str("-Inf");
    } else {
        // A `String` does not fail.
        _ = write!(to, "{number}");
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, family) in &self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
            writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
            f.write_str(&family.samples)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_lies_on_a_bound_is_below_it_and_a_nanosecond_more_is_not() {
        let mut sketch = Sketch::default();
        for nanos in [0, 500_000_000, 500_000_001, 1_000_000_000, 600_000_000_000] {
            sketch.record(Duration::from_nanos(nanos));
        }
        let mut page = Page::default();
        page.add_histogram("h_seconds", "x", &[("a", "b")], &sketch);
        let page = page.to_string();
        for line in [
            "h_seconds_bucket{a=\"b\",le=\"0.5\"} 2\n",
            "h_seconds_bucket{a=\"b\",le=\"1\"} 4\n",
            "h_seconds_bucket{a=\"b\",le=\"+Inf\"} 5\n",
            "h_seconds_count{a=\"b\"} 5\n",
            "h_seconds_sum{a=\"b\"} 602.000000001\n",
        ] {
            assert!(page.contains(line), "no {line} in {page}");
        }
        assert_eq!(page.matches("le=\"").count(), BOUNDS.len() + 1);
    }

    #[test]
    fn a_sample_is_there_once_and_a_family_is_of_one_type() {
        let mut page = Page::default();
        let help = || "a \\ b\nc".to_owned();
        page.add("b", help, Kind::Gauge, &[], f64::NAN);
        page.add("b", help, Kind::Gauge, &[], 1.0);
        page.add("b", help, Kind::Counter, &[("x", "y")], 1.0);
        page.add("a", help, Kind::Gauge, &[], f64::NEG_INFINITY);
        let expected =
            "# HELP a a \\\\ b\\nc\n# TYPE a gauge\na -Inf\n# HELP b a \\\\ b\\nc\n# TYPE b gauge\nb NaN\n";
        assert_eq!(page.to_string(), expected);
    }
}
