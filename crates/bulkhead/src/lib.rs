#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod adaptive;
mod config;
mod criticality;
mod future;
#[cfg(feature = "keyed")]
mod keyed;
#[cfg(feature = "keyed")]
mod keyed_service;
mod layer;
mod limiter;
mod loan;
mod permit;
mod permits;
mod service;
#[cfg(any(feature = "keyed", all(test, buttress_loom)))]
mod steering;
mod sync;
mod ticket;
mod waiters;
mod when_full;

pub use self::{
    adaptive::Adaptive,
    config::{InvalidLimit, InvalidQueue, Limit, Queue},
    criticality::{ByTask, Criticality, Prioritize, Scoped},
    future::ResponseFuture,
    layer::{Builder, BulkheadLayer, PerService},
    limiter::{Limiter, Permit, Snapshot},
    service::Bulkhead,
    when_full::{Reject, Waiting, WhenFull},
};
#[cfg(feature = "keyed")]
pub use self::{
    keyed::{Key, Limiters},
    keyed_service::{KeyedBulkhead, KeyedLayer},
};
