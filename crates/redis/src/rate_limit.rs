//! A store for rate limits that several processes share: see the crate's documentation.

mod answer;
mod error;
mod keys;
mod request;
mod script;
mod store;
#[cfg(test)]
mod tests;

pub use self::{error::StoreError, store::RedisStore};
