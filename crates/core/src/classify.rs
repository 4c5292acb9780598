use std::time::Duration;

use crate::Rejectable;

/// What a call's result says about the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// It does not work: counted by a breaker, worth a retry.
    Failure,
    /// It says nothing about the backend: the caller's own mistake, or a refusal on this side. Neither counted nor
    /// retried.
    Ignored,
    /// It works but asks for less, perhaps for some time: worth a retry, not before that time.
    Throttled(Option<Duration>),
}

/// Tells what a result says about the backend. Breaker, retry, balance and telemetry ask it.
///
/// Any function of the same shape is one:
///
/// ```
/// use buttress_core::{Classify, Outcome};
///
/// let by_status = |result: &Result<u16, std::io::Error>| match result {
///     Ok(500..) | Err(_) => Outcome::Failure,
///     Ok(429) => Outcome::Throttled(None),
///     Ok(400..) => Outcome::Ignored,
///     Ok(_) => Outcome::Success,
/// };
/// assert_eq!(by_status.classify(&Ok(404)), Outcome::Ignored);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge `Result<{Res}, {Err}>`",
    note = "`ByError`, the default, asks for `{Err}: Rejectable`; a closure takes `&Result<{Res}, {Err}>`, spelled out"
)]
pub trait Classify<Res, Err> {
    /// Judges one result. It runs once for each call of each layer that asks, so it should be cheap and must not block.
    fn classify(&self, result: &Result<Res, Err>) -> Outcome;
}

impl<F, Res, Err> Classify<Res, Err> for F
where
    F: Fn(&Result<Res, Err>) -> Outcome,
{
    fn classify(&self, result: &Result<Res, Err>) -> Outcome {
        self(result)
    }
}

/// The default: every answer is a success and every error a failure, except a [`Rejected`](crate::Rejected), which
/// speaks for itself ([`Rejected::outcome`](crate::Rejected::outcome)).
#[derive(Debug, Clone, Copy, Default)]
pub struct ByError;

impl<Res, Err: Rejectable> Classify<Res, Err> for ByError {
    fn classify(&self, result: &Result<Res, Err>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => error.rejected().map_or(Outcome::Failure, crate::Rejected::outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, Origin, Reason};

    #[test]
    fn a_refusal_of_our_own_is_no_failure_of_the_backend() {
        let origin = Origin::new("circuit-breaker", "a_refusal");
        let classify = |error: BoxError| ByError.classify(&Err::<(), _>(error));
        assert_eq!(ByError.classify(&Ok::<_, BoxError>(1)), Outcome::Success);
        assert_eq!(classify("no route".into()), Outcome::Failure);
        assert_eq!(classify(origin.reject(Reason::CircuitOpen).into()), Outcome::Ignored);
        assert_eq!(classify(origin.reject(Reason::TimedOut).after_sending().into()), Outcome::Failure);
    }
}
