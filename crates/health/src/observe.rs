use std::sync::atomic::Ordering::Relaxed;

use buttress_core::{Metric, Observe, Origin, Value};

use crate::{Health, State};

/// `live`, `ready`, and for each part, by its name as the label `part`: `up`, `degraded`; and where it is probed `probes`,
/// `probe_failures`, `probe_timeouts`, `probe_duration` (the last one's, in seconds).
impl Observe for Health {
    fn origin(&self) -> Origin {
        self.hub().origin
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let gauge = |holds: bool| Value::Gauge(f64::from(u8::from(holds)));
        let report = self.report();
        visit(Metric::new("live", gauge(report.is_live())));
        visit(Metric::new("ready", gauge(report.is_ready())));
        for (part, slot) in report.parts().iter().zip(&self.hub().slots) {
            let mut of_part =
                |name, value| visit(Metric::new(name, value).with_label("part", slot.fixed.name));
            of_part("up", gauge(part.state.works()));
            of_part("degraded", gauge(part.state == State::Degraded));
            if slot.fixed.is_probed {
                let figures = &slot.figures;
                of_part("probes", Value::Counter(figures.probes.load(Relaxed)));
                of_part("probe_failures", Value::Counter(figures.failures.load(Relaxed)));
                of_part("probe_timeouts", Value::Counter(figures.timeouts.load(Relaxed)));
                of_part("probe_duration", Value::Gauge(figures.took().as_secs_f64()));
            }
        }
    }
}
