//! A store for caches that several processes share: see the crate's documentation.

mod answer;
mod ask;
mod body;
mod eras;
mod error;
mod extent;
#[cfg(feature = "_fuzzing")]
pub(crate) mod fuzzing;
mod keeper;
mod keys;
mod lease;
mod link;
mod request;
mod script;
mod stats;
mod store;
mod telling;
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
