//! What a limiter shows.

use buttress_core::{Metric, Observe, Value};

/// The gauge of that name.
pub(crate) fn gauge(limiter: &impl Observe, name: &str) -> f64 {
    let mut found = None;
    limiter.observe(&mut |metric: Metric| {
        if let Value::Gauge(value) = metric.value
            && metric.name == name
        {
            found = Some(value);
        }
    });
    found.unwrap()
}
