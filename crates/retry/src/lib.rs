#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod budget;
mod future;
mod layer;
mod ledger;
mod requests;
mod retrier;
mod rules;
mod service;
mod sync;
mod thread;

pub use self::{
    budget::{Budget, InvalidBudget},
    future::ResponseFuture,
    layer::RetryLayer,
    requests::{CloneRequest, ReplayRequest},
    retrier::Retrier,
    service::Retry,
};
