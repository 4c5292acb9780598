use std::sync::Arc;

use crate::{
    Error, QueryError, Transaction, connection::Connection, gate::Borrowed, lease::Lease, postgres::Shared,
    progress::Unfinished,
};

/// What keeps a stream's connection from others. Dropped, it says that the rows were not read to their end: a statement
/// is left unfinished.
pub(super) enum Hold<'a> {
    // Boxed, as what moves about with the stream should be small.
    Pool(Box<OwnedLease>),
    Transaction(Streaming<'a>),
}

impl Hold<'_> {
    pub(super) fn connection(&self) -> &Connection {
        match self {
            Self::Pool(lease) => lease.object.as_ref().expect("it is only taken where the lease ends"),
            Self::Transaction(streaming) => streaming.transaction.lease.connection(),
        }
    }

    /// Nothing is unfinished any more.
    pub(super) fn settle(self, error: Option<&Error>) {
        match self {
            Self::Pool(lease) => lease.settle(error.is_none_or(|error| !error.breaks_connection())),
            Self::Transaction(streaming) => streaming.settle(error),
        }
    }
}

/// An occupied [`Lease`] that keeps alive what it is of.
pub(super) struct OwnedLease {
    object: Option<Borrowed>,
    shared: Arc<Shared>,
}

impl OwnedLease {
    pub(super) fn new(lease: Lease<'_>, shared: Arc<Shared>) -> Self {
        Self { object: Some(lease.into_object()), shared }
    }

    fn settle(mut self, fit: bool) {
        if let Some(object) = self.object.take() {
            Lease::new(object, &self.shared).settle(fit);
        }
    }
}

impl Drop for OwnedLease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            Lease::new(object, &self.shared).occupy();
        }
    }
}

/// While it lives, the transaction refuses other statements. Dropped unfinished, the transaction is abandoned.
pub(super) struct Streaming<'a> {
    transaction: &'a Transaction<'a>,
    unfinished: Unfinished<'a>,
}

impl<'a> Streaming<'a> {
    /// # Errors
    /// If it has a stream already, or another statement runs.
    pub(super) fn begin(transaction: &'a Transaction<'a>) -> Result<Self, QueryError> {
        Ok(Self { transaction, unfinished: transaction.progress.start_stream(transaction.depth)? })
    }

    pub(super) fn settle(self, error: Option<&Error>) {
        self.unfinished.finish();
        if let Some(error) = error {
            self.transaction.progress.note(error);
        }
    }
}
