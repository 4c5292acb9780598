#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod future;
mod layer;
mod retrier;
mod rules;
mod service;

pub use buttress_budget::{Budget, InvalidBudget};
pub use buttress_core::{CloneRequest, ReplayRequest};

pub use self::{future::ResponseFuture, layer::RetryLayer, retrier::Retrier, service::Retry};
