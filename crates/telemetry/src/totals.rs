use std::collections::HashMap;

use buttress_core::{Metric, Origin};
use foldhash::fast::RandomState;

/// Counts that never go backwards, though a layer is dropped and made again under its name.
///
/// One that is smaller than when it was last read has begun anew. That is all there is to see: the counts of rejections
/// belong to the name and go on, others begin at zero. One that has overtaken its predecessor between two passes is taken
/// for its continuation.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    all: HashMap<Series, Total, RandomState>,
    pass: u64,
}

type Series = (&'static str, &'static str, &'static str, Option<(&'static str, &'static str)>);

#[derive(Debug, Default)]
struct Total {
    /// What all predecessors came to.
    before: u64,
    last: u64,
    pass: u64,
}

impl Totals {
    /// When there are more, those of layers that are gone are forgotten.
    const MAX: usize = 65_536;

    pub(crate) fn begin(&mut self) {
        self.pass += 1;
    }

    /// What it comes to, together with its predecessors. None of a series that this pass has had already: taken for a
    /// successor it would count on with every pass.
    pub(crate) fn add(&mut self, origin: Origin, metric: &Metric, count: u64) -> Option<u64> {
        let series = (origin.layer(), origin.name(), metric.name, metric.label);
        let total = self.all.entry(series).or_default();
        if total.pass == self.pass {
            return None;
        }
        if count < total.last {
            total.before = total.before.saturating_add(total.last);
        }
        total.last = count;
        total.pass = self.pass;
        Some(total.before.saturating_add(count))
    }

    pub(crate) fn end(&mut self) {
        if self.all.len() > Self::MAX {
            self.all.retain(|_, total| total.pass == self.pass);
        }
    }
}

#[cfg(test)]
mod tests {
    use buttress_core::Value;

    use super::*;

    fn metric() -> Metric {
        Metric::new("calls", Value::Counter(0))
    }

    #[test]
    fn a_successor_counts_on() {
        let (mut totals, origin) = (Totals::default(), Origin::new("test", "a_successor_counts_on"));
        let counts = [5, 9, 2, 2, 7, 0, 1];
        let got = counts.map(|count| {
            totals.begin();
            totals.add(origin, &metric(), count).unwrap()
        });
        assert_eq!(got, [5, 9, 11, 11, 16, 16, 17]);
        assert_eq!(totals.add(origin, &metric(), 1), None, "twice in one pass");
        let label = metric().with_label("reason", "closed");
        assert_eq!(totals.add(origin, &label, 3), Some(3), "another series");
    }

    #[test]
    fn the_gone_are_remembered_until_there_are_too_many() {
        let mut totals = Totals::default();
        let gone = Origin::new("test", "the_gone");
        totals.begin();
        totals.add(gone, &metric(), 5);
        totals.end();
        for batch in 0..2_usize {
            totals.begin();
            let labels: Vec<&'static str> =
                (0..Totals::MAX / 2 + 1).map(|at| &*format!("{batch}-{at}").leak()).collect();
            for value in labels {
                totals.add(Origin::new("test", "many"), &metric().with_label("key", value), 1);
            }
            totals.end();
            let is_known = totals.all.keys().any(|series| series.1 == "the_gone");
            assert_eq!(is_known, batch == 0);
        }
        assert_eq!(totals.all.len(), Totals::MAX / 2 + 1);
    }
}
