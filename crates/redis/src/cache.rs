//! A store for caches that several processes share: see the crate's documentation.

mod answer;
mod ask;
mod body;
mod error;
mod keeper;
mod keys;
mod lease;
mod link;
mod request;
mod script;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod waiters;
mod write;

pub use self::{
    error::StoreError,
    lease::Lease,
    stats::{StoreStats, StoreWatch},
    store::RedisStore,
};
