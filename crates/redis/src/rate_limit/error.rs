use std::{error::Error as StdError, fmt};

use buttress_core::{Rejectable, Rejected};

use crate::Error;

/// Why the store could not decide an ask. It never shows keys.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StoreError {
    /// Redis did not answer, or with an error. Units may have been taken, see [`Error::sent`].
    Redis(Error),
    /// One of the limits' keys holds something that was not written by this store. Nothing was taken.
    Foreign,
    /// The answer is not one that can be given. Units may have been taken.
    Nonsense,
    /// The ask has no limits, and would be admitted whatever it asks for. It was not sent.
    NoLimits,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(error) => error.fmt(f),
            Self::Foreign => f.write_str(
                "redis: a rate limit's key holds what was not written for it; give the store a prefix of its own",
            ),
            Self::Nonsense => f.write_str("redis: the answer is not one that the rate limit's script gives"),
            Self::NoLimits => f.write_str("redis: a rate limit was asked for without limits"),
        }
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
