use std::{sync::Arc, time::Duration};

/// Something that happened in a simulation: see [`Simulation::on_event`](crate::Simulation::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The virtual time since the beginning.
    pub at: Duration,
    /// What happened.
    pub what: What,
}

/// What happened.
///
/// Calls are numbered by arrival, from 0 on. Attempts are numbered by arrival at their backend, and backends in the order
/// in which the [`World`](crate::World) made them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A call began; or a try of it, counted from 0 on.
    Called {
        /// The call.
        call: u64,
        /// The try.
        attempt: u32,
    },
    /// A call was answered in time.
    Answered {
        /// The call.
        call: u64,
    },
    /// A try of a call failed, or ran out of patience.
    Failed {
        /// The call.
        call: u64,
        /// The kind of failure.
        kind: Arc<str>,
    },
    /// An attempt came to a backend.
    Arrived {
        /// The backend.
        backend: usize,
        /// The attempt.
        attempt: u64,
    },
    /// A backend refused an attempt at the door, or lost it in an outage.
    Refused {
        /// The backend.
        backend: usize,
        /// The attempt.
        attempt: u64,
    },
    /// A worker began to serve an attempt.
    Started {
        /// The backend.
        backend: usize,
        /// The attempt.
        attempt: u64,
    },
    /// A worker has served an attempt.
    Served {
        /// The backend.
        backend: usize,
        /// The attempt.
        attempt: u64,
        /// Whether nobody was left to hear the answer.
        wasted: bool,
    },
    /// The caller of an attempt left before its end.
    Left {
        /// The backend.
        backend: usize,
        /// The attempt.
        attempt: u64,
    },
}

impl What {
    /// The event as words, for a fingerprint.
    pub(crate) fn words(&self) -> [u64; 3] {
        match self {
            Self::Called { call, attempt } => [1, *call, (*attempt).into()],
            Self::Answered { call } => [2, *call, 0],
            Self::Failed { call, kind } => {
                [3, *call, kind.bytes().fold(0, |hash, byte| fold(hash, byte.into()))]
            }
            Self::Arrived { backend, attempt } => [4, *backend as u64, *attempt],
            Self::Refused { backend, attempt } => [5, *backend as u64, *attempt],
            Self::Started { backend, attempt } => [6, *backend as u64, *attempt],
            Self::Served { backend, attempt, wasted } => [7 + u64::from(*wasted), *backend as u64, *attempt],
            Self::Left { backend, attempt } => [9, *backend as u64, *attempt],
        }
    }
}

/// One step of a multiplicative hash.
pub(crate) fn fold(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}
