//! Rules over what a registry knows, which fire and clear.

mod alert;
mod builder;
mod defaults;
mod history;
mod machine;
mod notify;
mod queue;
mod rule;
mod slo;
mod subject;
mod task;
#[cfg(feature = "webhook")]
mod webhook;

pub use self::{
    alert::{Alert, AlertState, AlertStatus, Change, Cleared},
    builder::{Alerts, AlertsBuilder, InvalidRules},
    defaults::default_rules,
    notify::Notify,
    rule::{Comparison, Rule, Severity},
    slo::{BurnWindow, Slo},
    subject::{CallsFigure, Subject},
};
#[cfg(feature = "generate")]
pub(crate) use self::{rule::Condition, subject::Of};
