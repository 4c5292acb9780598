use std::{error::Error, fmt, io, num::NonZeroU64, time::Duration};

use crate::{Origin, Outcome};

/// The error type of tower's own layers.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a layer refused or gave up a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A circuit breaker is open.
    CircuitOpen,
    /// A rate limit is used up.
    RateLimited,
    /// Too many calls are in flight or waiting.
    Overloaded,
    /// No answer came within the layer's own time limit.
    TimedOut,
    /// The caller's [`Deadline`](crate::Deadline) has passed, or would pass before the call could be made.
    DeadlineExceeded,
    /// The batch that carried this call failed as a whole.
    BatchFailed,
    /// The layer has been shut down.
    Closed,
    /// Another caller's load of the same key failed, and this one waited for it.
    LoadFailed,
    /// A load balancer has no endpoint.
    NoEndpoint,
}

impl Reason {
    pub(crate) const ALL: [Self; 9] = [
        Self::CircuitOpen,
        Self::RateLimited,
        Self::Overloaded,
        Self::TimedOut,
        Self::DeadlineExceeded,
        Self::BatchFailed,
        Self::Closed,
        Self::LoadFailed,
        Self::NoEndpoint,
    ];

    /// The reason as a stable word for labels: `circuit_open`, `rate_limited`, ...
    pub const fn as_str(self) -> &'static str {
        self.words().0
    }

    pub(crate) const fn sentence(self) -> &'static str {
        self.words().1
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::CircuitOpen => ("circuit_open", "the circuit is open"),
            Self::RateLimited => ("rate_limited", "the rate limit is reached"),
            Self::Overloaded => ("overloaded", "too many calls are in flight"),
            Self::TimedOut => ("timed_out", "no answer came within the time limit"),
            Self::DeadlineExceeded => ("deadline_exceeded", "the deadline leaves no time for an answer"),
            Self::BatchFailed => ("batch_failed", "the batch with this call failed"),
            Self::Closed => ("closed", "it has been shut down"),
            Self::LoadFailed => ("load_failed", "the load that this call waited for failed"),
            Self::NoEndpoint => ("no_endpoint", "there is no endpoint to send it to"),
        }
    }
}

/// The one error that a Buttress layer raises by itself.
///
/// It is 24 bytes, has no heap allocation and is `Copy`. Layers hand it to the service's own error type by
/// `From<Rejected>`, so errors stay flat however deep the stack is.
///
/// A layer makes one with [`Origin::reject`], which counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    origin: Origin,
    /// Zero is stored as one.
    retry_after_nanos: Option<NonZeroU64>,
    reason: Reason,
    sent: bool,
    one_of_several: bool,
}

impl Rejected {
    pub(crate) const fn new(origin: Origin, reason: Reason) -> Self {
        Self { origin, retry_after_nanos: None, reason, sent: false, one_of_several: false }
    }

    /// The same, with the time after which the call has a chance: at least a nanosecond, at most 584 years.
    #[must_use]
    #[inline]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        let nanos = after.as_secs().saturating_mul(1_000_000_000).saturating_add(after.subsec_nanos().into());
        self.retry_after_nanos = NonZeroU64::new(nanos.max(1));
        self
    }

    /// The same, saying that the call may have reached the backend.
    #[must_use]
    pub const fn after_sending(mut self) -> Self {
        self.sent = true;
        self
    }

    /// The same, saying that only one of several endpoints refused: a load balancer's word about what is inside of it.
    #[must_use]
    pub const fn by_one_of_several(mut self) -> Self {
        self.one_of_several = true;
        self
    }

    /// The kind of layer that refused: `circuit-breaker`, `timeout`, ...
    pub fn layer(&self) -> &'static str {
        self.origin.layer()
    }

    /// The instance's name, as its user gave it.
    pub fn name(&self) -> &'static str {
        self.origin.name()
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the call may have reached the wire. Where it is `false`, repeating the call cannot do anything twice.
    pub const fn sent(&self) -> bool {
        self.sent
    }

    /// Whether another attempt may go to another endpoint, which need not refuse: [`retry_after`](Self::retry_after) is this
    /// one's alone.
    pub const fn is_by_one_of_several(&self) -> bool {
        self.one_of_several
    }

    /// When a new call has a chance, if the layer knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_nanos.map(|nanos| Duration::from_nanos(nanos.get()))
    }

    /// What this tells about the backend: a call that timed out, or was sent and failed with its batch or load, is a
    /// [`Failure`](Outcome::Failure); whatever was refused on this side is [`Ignored`](Outcome::Ignored).
    ///
    /// A [`DeadlineExceeded`](Reason::DeadlineExceeded) that was sent is a failure too, since a deadline does not say
    /// whose it is. A layer for which the caller's own deadline has passed knows better: it tells how patient he was.
    pub fn outcome(&self) -> Outcome {
        match self.reason {
            Reason::TimedOut => Outcome::Failure,
            Reason::DeadlineExceeded | Reason::BatchFailed | Reason::LoadFailed if self.sent => {
                Outcome::Failure
            }
            _ => Outcome::Ignored,
        }
    }

    /// Looks for a rejection in an error and its sources, also inside [`io::Error`], whose `source` skips what it
    /// holds. At most 64 links are followed.
    pub fn in_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut link: Option<&'a (dyn Error + 'static)> = Some(error);
        for _ in 0..64 {
            let error = link?;
            if let Some(rejected) = error.downcast_ref() {
                return Some(rejected);
            }
            link = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(held) => Some(held),
                None => error.source(),
            };
        }
        None
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.layer(), self.name(), self.reason.sentence())?;
        f.write_str(if self.sent {
            "; the call may have been carried out"
        } else {
            "; the call was not sent"
        })?;
        match self.retry_after() {
            Some(after) => write!(f, "; try again in {after:.1?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejected({:?}: {:?}, sent: {}, ", self.origin, self.reason, self.sent)?;
        write!(f, "retry after: {:?})", self.retry_after())
    }
}

impl Error for Rejected {}

/// An error type that a layer can put its [`Rejected`] into, and that generic code can look into again.
///
/// A user's own enum implements it in five lines:
///
/// ```
/// use buttress_core::{Rejectable, Rejected};
///
/// enum OrderError {
///     Rejected(Rejected),
///     NotFound,
/// }
///
/// impl From<Rejected> for OrderError {
///     fn from(rejected: Rejected) -> Self {
///         Self::Rejected(rejected)
///     }
/// }
///
/// impl Rejectable for OrderError {
///     fn rejected(&self) -> Option<&Rejected> {
///         if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no room for a rejection, or does not give it back",
    note = "an error type for layers implements `From<Rejected>` and `Rejectable`",
    note = "for layers over an infallible service, such as an axum `Router`: `buttress_core::Respond::new(layer)`"
)]
pub trait Rejectable: From<Rejected> {
    /// The rejection that this error is or carries.
    fn rejected(&self) -> Option<&Rejected>;

    /// Whether the call may have reached the backend. By default a rejection speaks for itself, and any other error may
    /// have; an error that knows better says so.
    fn sent(&self) -> bool {
        self.rejected().is_none_or(Rejected::sent)
    }
}

impl Rejectable for Rejected {
    fn rejected(&self) -> Option<&Rejected> {
        Some(self)
    }
}

impl Rejectable for BoxError {
    fn rejected(&self) -> Option<&Rejected> {
        Rejected::in_error(&**self)
    }
}

impl From<Rejected> for io::Error {
    fn from(rejected: Rejected) -> Self {
        let kind = match rejected.reason {
            Reason::TimedOut | Reason::DeadlineExceeded => io::ErrorKind::TimedOut,
            Reason::Closed => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, rejected)
    }
}

impl Rejectable for io::Error {
    fn rejected(&self) -> Option<&Rejected> {
        Rejected::in_error(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(BoxError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    fn rejected() -> Rejected {
        Origin::new("circuit-breaker", "orders-db").reject(Reason::CircuitOpen)
    }

    #[test]
    fn is_small() {
        assert_eq!(size_of::<Rejected>(), 24);
    }

    #[test]
    fn says_what_happened_to_whom_and_what_to_do() {
        let error = rejected().with_retry_after(Duration::from_millis(2100));
        assert_eq!(
            error.to_string(),
            "circuit-breaker `orders-db`: the circuit is open; the call was not sent; try again in 2.1s"
        );
        assert!(rejected().after_sending().to_string().ends_with("; the call may have been carried out"));
    }

    #[test]
    fn is_found_through_boxes_io_errors_and_sources() {
        let deep: BoxError = Box::new(Outer(Box::new(io::Error::from(rejected()))));
        assert_eq!(deep.rejected(), Some(&rejected()));
        assert_eq!(io::Error::other(Outer(rejected().into())).rejected(), Some(&rejected()));
        assert_eq!(io::Error::other("else").rejected(), None);
    }

    #[test]
    fn a_circular_chain_of_sources_ends() {
        #[derive(Debug)]
        struct Ouroboros;
        impl fmt::Display for Ouroboros {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("round")
            }
        }
        impl Error for Ouroboros {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        assert_eq!(Rejected::in_error(&Ouroboros), None);
    }

    #[test]
    fn only_what_timed_out_or_was_sent_tells_of_the_backend() {
        let origin = Origin::new("timeout", "only_what_was_sent");
        for reason in Reason::ALL {
            let expected = if reason == Reason::TimedOut { Outcome::Failure } else { Outcome::Ignored };
            assert_eq!(origin.reject(reason).outcome(), expected);
        }
        for reason in [Reason::TimedOut, Reason::DeadlineExceeded, Reason::BatchFailed, Reason::LoadFailed] {
            assert_eq!(origin.reject(reason).after_sending().outcome(), Outcome::Failure);
        }
        assert_eq!(origin.reject(Reason::Closed).after_sending().outcome(), Outcome::Ignored);
    }
}
