#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod future;
mod layer;
mod service;

pub use self::{future::ResponseFuture, layer::TimeoutLayer, service::Timeout};
