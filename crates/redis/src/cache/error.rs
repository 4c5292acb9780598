use std::{error::Error as StdError, fmt};

use buttress_core::{Rejectable, Rejected};

use crate::Error;

/// Why the store has no answer. It never shows keys, tags or values.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StoreError {
    /// Redis did not answer, or with an error. What was to be written may have been, see [`Error::sent`].
    Redis(Error),
    /// The answer is not one of the store's script.
    Nonsense,
    /// There is no connection by which Redis would tell of what others write, or it was lost meanwhile.
    Untold,
    /// The text of the key, or the tag, is longer than 1,024 bytes. Nothing was sent.
    TooLong,
    /// Redis Cluster, which spreads over its nodes what belongs together.
    Cluster,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis(error) => return error.fmt(f),
            Self::Nonsense => "redis: the answer is not one that the cache's script gives",
            Self::Untold => "redis: there is no connection that would tell of what other processes write",
            Self::TooLong => "redis: a key or tag of the cache is longer than 1,024 bytes",
            Self::Cluster => {
                "redis: a cache's store is one server, or one that sentinels name; a cluster cannot hold it"
            }
        })
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Self::Redis(error) = self { Some(error) } else { None }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Redis(error)
    }
}

impl From<Rejected> for StoreError {
    fn from(rejected: Rejected) -> Self {
        Self::Redis(rejected.into())
    }
}

impl Rejectable for StoreError {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Redis(error) = self { error.rejected() } else { None }
    }
}
