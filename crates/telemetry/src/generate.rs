//! What Prometheus and Grafana are told, from the rules and the layers that the program has.

mod dashboard;
mod promql;
mod rules;

pub use self::{dashboard::grafana_dashboard, rules::prometheus_rules};
