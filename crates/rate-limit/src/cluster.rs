#![doc = include_str!("cluster/README.md")]

mod agenda;
mod callers;
mod desk;
mod dice;
mod future;
mod keys;
mod layer;
mod lease;
mod limiter;
mod local_share;
#[cfg(all(test, buttress_loom))]
mod loom_models;
mod memory;
mod purse;
mod queue;
mod roll;
mod round_trip;
mod select;
mod service;
mod shared;
mod store;
mod wait;
mod when_away;
mod worker;

pub use self::{
    future::ResponseFuture,
    layer::{ClusterBuilder, ClusterLayer},
    limiter::{ClusterLimiter, Snapshot},
    memory::MemoryStore,
    select::Select,
    service::Clustered,
    store::{Ask, Grant, Node, Store, Subject},
    when_away::WhenAway,
};
