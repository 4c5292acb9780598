use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use crate::Limit;

/// Where the limits of several processes are kept: Redis, for example.
///
/// The store's own clock decides, so that the nodes' need not agree.
pub trait Store: Send + Sync + 'static {
    /// Why the store could not answer. What it shows must not hold keys: they are what clients send.
    type Error: Error + Send + Sync + 'static;

    /// Decides each ask by itself, in their order, in as few round trips as it can: one answer for each. An ask that
    /// failed does not make the others fail.
    ///
    /// An ask is decided as a whole: the units are taken from all its limits, or from none. Dropping the future loses the
    /// answers; units that were taken stay taken.
    fn take(&self, asks: Vec<Ask>) -> impl Future<Output = Vec<Result<Grant, Self::Error>>> + Send;
}

/// What a node asks of the store, for one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// Whose limits these are.
    pub subject: Subject,
    /// All of them are asked for the same units.
    pub limits: Arc<[Limit]>,
    /// It gets at least so many units, or none. Zero gives units back, or looks.
    pub least: u32,
    /// It gets at most so many.
    pub most: u32,
    /// Units of earlier grants that were not used: they are given back before anything is taken. A limiter gives back only
    /// what was granted less than half of the shortest period ago, and nothing of a fixed window.
    pub returned: u32,
    /// Who asks, where the node is to be counted; it need not be told every time. A limiter tells it with its own subject,
    /// which has no key.
    pub node: Option<Node>,
}

impl Ask {
    /// For all of these units, or none.
    #[must_use]
    pub const fn exactly(subject: Subject, limits: Arc<[Limit]>, units: u32) -> Self {
        Self { subject, limits, least: units, most: units, returned: 0, node: None }
    }
}

/// Whose limits are asked for. The same words mean the same limits, on every node.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    name: Arc<str>,
    key: Option<Arc<[u8]>>,
}

impl Subject {
    /// That of a limiter without keys.
    #[must_use]
    pub const fn of(name: Arc<str>) -> Self {
        Self { name, key: None }
    }

    /// That of one key.
    #[must_use]
    pub const fn of_key(name: Arc<str>, key: Arc<[u8]>) -> Self {
        Self { name, key: Some(key) }
    }

    /// The limiter's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key, where the limiter has keys.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }
}

/// Without the key, which is what a client sent.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_some() { " of a key" } else { "" };
        write!(f, "Subject(`{}`{key})", self.name)
    }
}

/// A process that shares a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// A number that no other node has.
    pub id: u64,
    /// How long it counts as there, from now on.
    pub lease: Duration,
}

/// What the store gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Grant {
    /// Zero, or at least what was asked for and at most so.
    pub units: u32,
    /// Where there were none: when `least` units will be there, if nobody else takes them. `None` where it can never be
    /// so many.
    pub retry_after: Option<Duration>,
    /// Units that are left, of the limit that has the least.
    pub remaining: u32,
    /// How many nodes told of themselves with asks for this subject, and are there yet, where the ask told its own; else
    /// zero. (Redis counts by subjects, because the keys of one script must share a slot; a store may also count by the
    /// limiter's name. A limiter tells of itself with its own subject alone, so to it both are the same.)
    pub nodes: u32,
}

impl Grant {
    /// So many units.
    #[must_use]
    pub const fn of(units: u32, remaining: u32, nodes: u32) -> Self {
        Self { units, retry_after: None, remaining, nodes }
    }

    /// None, for that time.
    #[must_use]
    pub const fn none(retry_after: Option<Duration>, remaining: u32, nodes: u32) -> Self {
        Self { units: 0, retry_after, remaining, nodes }
    }
}
