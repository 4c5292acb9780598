use std::{fmt, time::Duration};

use buttress_core::{Decision, Origin};

/// What happens rarely, and is written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Ejected { cause: Cause, time: Duration },
    Returned,
    Marked,
    Restored,
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cause {
    Failures(u32),
    SuccessRate { rate: f64, mean: f64 },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(count) => write!(f, "{count} consecutive failures"),
            Self::SuccessRate { rate, mean } => {
                write!(f, "success rate {:.0} %, mean {:.0} %", rate * 100.0, mean * 100.0)
            }
        }
    }
}

impl Event {
    pub(crate) fn tell(&self, origin: Origin, endpoint: &str) {
        let name = origin.name();
        match self {
            Self::Ejected { cause, time } => {
                // Without its key: that may have come from a server.
                Decision::note(origin, "ejected", || format!("an endpoint, for {time:.1?}: {cause}"));
                tracing::warn!(name, endpoint, %cause, ?time, "balancer ejected an endpoint");
            }
            Self::Returned => {
                tracing::info!(name, endpoint, "an endpoint's ejection is over: it is on trial")
            }
            Self::Marked => {
                tracing::warn!(name, endpoint, "an endpoint was taken out of the rotation by hand")
            }
            Self::Restored => tracing::info!(name, endpoint, "an endpoint was restored by hand"),
        }
    }

    pub(crate) fn tell_panic(origin: Origin, begins: bool, in_rotation: usize, endpoints: usize) {
        let name = origin.name();
        if begins {
            Decision::note(origin, "panicked", || {
                format!("{in_rotation} of {endpoints} endpoints are in the rotation, so all are used")
            });
            tracing::warn!(
                name,
                in_rotation,
                endpoints,
                "balancer panics: less than half of its endpoints are in the rotation, so all are used"
            );
        } else {
            tracing::info!(name, in_rotation, endpoints, "balancer panics no more");
        }
    }
}
