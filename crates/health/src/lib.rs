#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod attempt;
mod board;
mod builder;
mod cause;
mod health;
mod history;
mod hub;
#[cfg(feature = "axum")]
mod json;
mod knobs;
mod machine;
mod observe;
mod part;
mod probe;
mod report;
#[cfg(feature = "axum")]
mod router;
mod rules;
mod signal;
mod state;
mod wall;
mod watch;

pub use self::{
    builder::{HealthBuilder, InvalidConfig},
    cause::Cause,
    health::Health,
    history::{Change, Event},
    part::Part,
    probe::Probe,
    report::{PartReport, Report},
    signal::Signal,
    state::{Overall, State, Status},
    watch::{NotReady, Watch},
};
