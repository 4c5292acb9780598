use buttress_core::{Classify, Outcome, Rejectable, Rejected};
use buttress_postgres::{Error, SqlStateClassifier};

/// What ended a transaction: the database or a layer, or the caller's own closure.
pub(crate) enum Ended<E> {
    Ours(Error),
    Theirs(E),
}

impl<E> Ended<E> {
    /// As the caller's own error, by way of `V`.
    pub(crate) fn into_theirs<V>(self) -> E
    where
        V: From<Error>,
        E: From<V>,
    {
        match self {
            Self::Ours(error) => V::from(error).into(),
            Self::Theirs(error) => error,
        }
    }
}

impl<E> From<Error> for Ended<E> {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl<E> From<Rejected> for Ended<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Ours(rejected.into())
    }
}

impl<E> Rejectable for Ended<E> {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Ours(error) => error.rejected(),
            Self::Theirs(_) => None,
        }
    }
}

/// What the closure says says nothing about the database: it may have found that there is too little money.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfTransaction;

impl<T, E> Classify<T, Ended<E>> for OfTransaction {
    fn classify(&self, result: &Result<T, Ended<E>>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(Ended::Ours(error)) => SqlStateClassifier::outcome(error),
            Err(Ended::Theirs(_)) => Outcome::Ignored,
        }
    }
}
