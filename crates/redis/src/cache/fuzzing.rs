//! See `crate::fuzzing`.

use std::str::FromStr;

use bytes::Bytes;
use fred::types::Value;

pub(crate) use super::body::{read, write};
use super::{
    StoreError,
    answer::{Answer, Entered},
    keys::{Keys, Meaning},
};
use crate::fuzzing::Found;

pub(crate) fn entered(answer: Value) -> Result<Option<Found>, StoreError> {
    Ok(match Answer::read(answer)?.entered()? {
        Entered::Found(found) => Some(Found {
            fresh_for: found.fresh_for,
            stale_for: found.stale_for,
            body: found.body,
            tags: found.tags,
        }),
        Entered::Vacant { .. } | Entered::Busy => None,
    })
}

pub(crate) fn key<K: FromStr + ToString>(store: &str, told: &[u8]) -> Option<(K, Option<Bytes>)> {
    let keys = Keys::new(store);
    match keys.meaning::<K>(told) {
        Meaning::Entry(key) => {
            let named = keys.of(&key.to_string()).map(|named| named.entry);
            Some((key, named))
        }
        _ => None,
    }
}
