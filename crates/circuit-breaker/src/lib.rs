#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod breaker;
mod cell;
mod config;
mod future;
mod handle;
mod layer;
mod loan;
mod permit;
mod published;
mod service;
mod shared;
mod sync;
mod window;

pub use self::{
    breaker::State,
    config::{InvalidProbes, InvalidTrip, Probes, Trip, Window},
    future::ResponseFuture,
    handle::{Breaker, Permit, Snapshot},
    layer::{Builder, CircuitBreakerLayer, PerService},
    service::CircuitBreaker,
};
