use std::{future::Future, sync::Arc, time::Duration};

use buttress_cache::{Follower, Landed};
use buttress_core::{Deadline, Rejected};
use http::HeaderValue;
use tokio::time::{Instant, timeout_at};

use crate::{key::Key, shelf::Entry};

/// Whose answers may do for each other. In a private cache, not those to another `Authorization`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    pub(crate) key: Key,
    pub(crate) principal: Vec<HeaderValue>,
}

/// What the one who asks brings to those who wait for the same address.
#[derive(Clone)]
pub(crate) enum Brought {
    /// A response that may do for them, too: each judges it for his own request.
    Entry(Arc<Entry>),
    /// The service failed.
    Failed(Rejected),
    /// It answered, and the answer means that it fails.
    Failing,
    /// An answer that is for nobody else.
    Apart,
}

/// How waiting ended.
pub(crate) enum Waited {
    Landed(Landed<FlightKey, Brought>),
    /// The caller's deadline passed.
    TooLate,
    /// He asks for himself.
    Impatient,
}

/// For so long a request waits for another's answer. A body of unknown length is for others when it is complete, and that
/// may be never.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits, until the deadline of the caller at most.
pub(crate) fn wait(follower: Follower<FlightKey, Brought>) -> impl Future<Output = Waited> {
    let patient = Instant::now() + PATIENCE;
    let deadline = Deadline::current().map(Deadline::instant).filter(|deadline| *deadline < patient);
    async move {
        match timeout_at(deadline.unwrap_or(patient), follower).await {
            Ok(landed) => Waited::Landed(landed),
            Err(_) if deadline.is_some() => Waited::TooLate,
            Err(_) => Waited::Impatient,
        }
    }
}
