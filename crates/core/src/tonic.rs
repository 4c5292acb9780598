use std::{error::Error, sync::Arc};

use ::tonic::{Code, Status};

use crate::{Reason, Rejectable, Rejected};

/// `RESOURCE_EXHAUSTED` for a rate limit, `DEADLINE_EXCEEDED` for a missed deadline or timeout, else `UNAVAILABLE`; with
/// `grpc-retry-pushback-ms` (gRPC proposal A6) where the layer knows when to come back.
impl From<Rejected> for Status {
    fn from(rejected: Rejected) -> Self {
        let code = match rejected.reason() {
            Reason::RateLimited => Code::ResourceExhausted,
            Reason::TimedOut | Reason::DeadlineExceeded => Code::DeadlineExceeded,
            Reason::CircuitOpen
            | Reason::Overloaded
            | Reason::BatchFailed
            | Reason::Closed
            | Reason::LoadFailed
            | Reason::NoEndpoint => Code::Unavailable,
        };
        let mut status = Self::new(code, rejected.reason().sentence());
        if let Some(after) = rejected.retry_after() {
            // Rounded up: a client that comes back a little early is refused again.
            let millis = after.as_nanos().div_ceil(1_000_000);
            status
                .metadata_mut()
                .insert("grpc-retry-pushback-ms", u64::try_from(millis).unwrap_or(u64::MAX).into());
        }
        status.set_source(Arc::new(rejected));
        status
    }
}

impl Rejectable for Status {
    fn rejected(&self) -> Option<&Rejected> {
        self.source().and_then(Rejected::in_error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Origin;

    #[test]
    fn a_status_keeps_the_rejection() {
        let rejected = Origin::new("rate-limit", "grpc").reject(Reason::RateLimited);
        let status = Status::from(rejected.with_retry_after(Duration::from_micros(1001)));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "2");
        assert_eq!(status.rejected().map(Rejected::reason), Some(Reason::RateLimited));
        assert_eq!(Status::internal("else").rejected(), None);
    }
}
