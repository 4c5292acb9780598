#![doc = include_str!("../README.md")]

mod builder;
mod cache;
mod clock;
mod config;
mod flight;
mod future;
mod inner;
mod layer;
mod lead;
mod load;
mod memory;
mod refresh;
mod service;
mod slot;
mod stats;
mod store;
mod sync;
mod tags;
mod tier;

pub use builder::CacheBuilder;
pub use cache::Cache;
pub use flight::{Flights, Follower, Joined, Landed, Leader};
pub use future::ResponseFuture;
pub use layer::CacheLayer;
pub use memory::Memory;
pub use refresh::{Background, Foreground, Refresh};
pub use service::Cached;
pub use stats::Stats;
pub use store::{Entry, Invalidations, Store, Stored, Want};
