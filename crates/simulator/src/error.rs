use std::{error::Error, fmt, time::Duration};

use buttress_core::{Rejectable, Rejected};

/// What a backend fails with; it has room for the rejections of the layers of Buttress too.
///
/// A stack with tower's own layers, which want `BoxError`, takes it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend served the call and failed.
    Failed,
    /// The backend is not there: it refused the call, or went away with it.
    Refused,
    /// The backend's queue is full.
    QueueFull,
    /// A layer refused the call.
    Rejected(Rejected),
}

impl BackendError {
    /// A stable word: `failed`, `refused`, `queue_full`, or that of the rejection's reason.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::QueueFull => "queue_full",
            Self::Rejected(rejected) => rejected.reason().as_str(),
        }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the backend failed",
            Self::Refused => "the backend refused the connection",
            Self::QueueFull => "the backend's queue is full",
            Self::Rejected(rejected) => return rejected.fmt(f),
        })
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

impl From<Rejected> for BackendError {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for BackendError {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

/// Why a simulation ended without a report: calls that nothing will ever end.
#[derive(Clone, PartialEq, Eq)]
pub struct Stalled {
    pub(crate) at: Duration,
    pub(crate) calls: usize,
    pub(crate) spinning: bool,
    pub(crate) replay: String,
}

impl Stalled {
    /// The virtual time at which the last thing happened.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// How many calls had not ended.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Whether tasks kept waking themselves without letting time pass.
    pub fn is_spinning(&self) -> bool {
        self.spinning
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, calls, spinning, replay } = self;
        if *spinning {
            write!(
                f,
                "the simulation spins at {at:.3?}: tasks wake themselves over and over, and no time passes"
            )?;
        } else {
            write!(
                f,
                "the simulation stands still since {at:.3?}: nobody is there to end the calls in flight"
            )?;
        }
        write!(f, "; {calls} calls have not ended; replay: {replay}")
    }
}

/// As [`Display`](fmt::Display), so that `unwrap` tells it well.
impl fmt::Debug for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Stalled {}
