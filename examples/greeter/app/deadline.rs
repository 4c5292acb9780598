//! The caller's deadline on its way: from the ambient [`Deadline`] into `grpc-timeout`, and on the other side back again.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Deadline, Origin, Reason, Scope, Scoped};
use futures_util::future::Either;
use http::{HeaderMap, Request};
use tonic::{Code, Status};
use tower::{Layer, Service};

/// A message with the time that is left for its answer, as `grpc-timeout`.
pub(super) fn with_deadline<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(deadline) = Deadline::current() {
        request.set_timeout(deadline.remaining());
    }
    request
}

/// tonic, on either side, calls it `CANCELLED` where it is the one that notices that the `grpc-timeout` is up. Said as a
/// rejection, the timeout around knows whether its own limit was up or the caller's deadline.
pub(super) fn missed(origin: Origin, status: Status) -> Status {
    if status.code() == Code::Cancelled && Deadline::has_expired() {
        return origin.reject(Reason::DeadlineExceeded).after_sending().into();
    }
    status
}

/// Sets the caller's `grpc-timeout` as the [`Deadline`] of whatever is inside: layers, handlers, and what they call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallersDeadline;

impl<S> Layer<S> for CallersDeadline {
    type Service = UnderDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UnderDeadline(inner)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct UnderDeadline<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for UnderDeadline<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Scoped<S::Future>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(limit) = grpc_timeout(request.headers()) else {
            return Either::Right(self.0.call(request));
        };
        let deadline = Deadline::after(limit);
        let future = Scope::until(deadline).enter(|| self.0.call(request));
        Either::Left(deadline.scope(future))
    }
}

/// At most eight digits and a unit. What is none of that is no deadline, as for tonic itself.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_timeout_is_none() {
        let read = |text: &'static str| {
            grpc_timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for wrong in ["", "m", "5", "-5m", "+5m", "1.5S", "123456789m", "5s", "5 m", "5mm"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
