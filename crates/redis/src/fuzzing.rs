//! What the workspace's fuzzers reach into. No part of the interface.

use std::{str::FromStr, time::Duration};

use buttress_rate_limit::cluster::{Ask, Grant};
use bytes::Bytes;
use fred::types::Value;
use serde::{Serialize, de::DeserializeOwned};

use crate::{cache::fuzzing, rate_limit};

/// A value that the cache's script has found.
#[derive(Debug)]
pub struct Found {
    /// For how long it is fresh.
    pub fresh_for: Duration,
    /// For how long after that it may be served stale.
    pub stale_for: Duration,
    /// Its bytes.
    pub body: Bytes,
    /// Its tags; nothing, where they are no texts.
    pub tags: Option<Vec<String>>,
}

/// A value's bytes, if they are no more than `limit`.
pub fn write<V: Serialize>(value: &V, limit: usize) -> Option<Bytes> {
    fuzzing::write(value, limit)
}

/// The value of those bytes.
pub fn read<V: DeserializeOwned>(body: &[u8]) -> Option<V> {
    fuzzing::read(body)
}

/// What the cache's script has answered: an error, nothing found, or a value.
///
/// # Errors
/// Where it is none of its answers.
pub fn entered(answer: Value) -> Result<Option<Found>, crate::cache::StoreError> {
    fuzzing::entered(answer)
}

/// The key that an invalidation names in the store of that name, if it names one, and how that key is named.
pub fn key<K: FromStr + ToString>(store: &str, told: &[u8]) -> Option<(K, Option<Bytes>)> {
    fuzzing::key(store, told)
}

/// What the rate limit's script has answered to those asks. Nothing: it is none of its answers.
pub fn granted(answer: &Value, asks: &[&Ask]) -> Vec<Option<Grant>> {
    rate_limit::granted(answer, asks)
}
