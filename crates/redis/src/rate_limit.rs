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

/// See `crate::fuzzing`.
#[cfg(feature = "_fuzzing")]
pub(crate) fn granted(
    answer: &crate::Value,
    asks: &[&buttress_rate_limit::cluster::Ask],
) -> Vec<Option<buttress_rate_limit::cluster::Grant>> {
    answer::read(answer, asks).into_iter().map(Result::ok).collect()
}
