use std::sync::atomic::Ordering::Relaxed;

use buttress_core::{Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};

use crate::{Health, State, board::Fixed};

/// `live`, `ready`, and for each part, by its name as the label `part`: `up`, `degraded`; and where it is probed `probes`,
/// `probe_failures`, `probe_timeouts`, `probe_duration` (the last one's, in seconds).
impl Observe for Health {
    fn origin(&self) -> Origin {
        self.hub().origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
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
                let took = Value::Gauge(figures.took().as_secs_f64());
                visit(Metric::new("probe_duration", took).with_unit("s").with_label("part", slot.fixed.name));
            }
        }
    }

    /// Of each part, after its name and a dot: `db.interval`. `Off` is what a part without a probe has no use for.
    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        for slot in &self.hub().slots {
            let Fixed { critical, liveness, is_probed, rules, knobs, .. } = &slot.fixed;
            let on = |is_set: bool| if is_set { SettingValue::Word("on") } else { SettingValue::Off };
            let of_probe = |value| if *is_probed { value } else { SettingValue::Off };
            let values = [
                on(*critical),
                on(*liveness),
                SettingValue::Duration(rules.interval),
                of_probe(SettingValue::Duration(rules.timeout)),
                of_probe(SettingValue::Count(rules.down.into())),
                of_probe(SettingValue::Count(rules.up.into())),
            ];
            knobs.iter().zip(values).for_each(|(name, value)| visit(Setting::new(name, value)));
        }
    }
}
