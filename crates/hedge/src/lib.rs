#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod delay;
mod estimator;
mod future;
mod hedger;
mod histogram;
mod layer;
mod loan;
mod race;
mod service;
mod sync;
mod watch;

pub use buttress_budget::{Budget, InvalidBudget};
pub use buttress_core::{CloneRequest, ReplayRequest};

pub use self::{
    delay::{HedgeDelay, InvalidPercentile, Percentile},
    future::ResponseFuture,
    hedger::Hedger,
    layer::HedgeLayer,
    service::Hedge,
};
