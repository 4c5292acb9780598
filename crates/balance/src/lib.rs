#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod admitted;
mod balancer;
mod builder;
mod config;
mod discover;
#[cfg(feature = "dns")]
mod dns;
mod driver;
mod elsewhere;
mod endpoint;
mod event;
mod future;
mod gate;
mod load;
mod member;
mod members;
mod pick;
mod pool;
mod rotation;
mod service;
mod shown;
mod sticky;
mod sync;
mod verdicts;
mod waiting;

#[cfg(feature = "dns")]
pub use self::dns::{Dns, DnsEndpoints, DnsError, InvalidDns, Resolution};
pub use self::{
    balancer::{Balancer, EndpointSnapshot, Snapshot, State},
    builder::Builder,
    config::{Ejection, InvalidBalance},
    endpoint::{Change, Endpoint, InvalidWeight},
    future::ResponseFuture,
    members::Members,
    service::Balance,
    sticky::{LeastLoaded, Policy, Sticky},
};
