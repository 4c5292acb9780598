//! What a gRPC status says about the server, and what it is called in metrics.

use std::time::Duration;

use buttress_core::{ByError, Classify, Outcome, Rejectable};
use buttress_telemetry::{Convention, Describe, Ended, Label, Operation, Side};
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status};

/// Judges how a call ended, for breaker and telemetry on the client's side.
///
/// A server that asks for time by `grpc-retry-pushback-ms` (gRPC proposal A6) gets it, and one that asks not to be tried
/// again is not. `RESOURCE_EXHAUSTED` without a time may as well be a message that is too long: it is not repeated.
/// `CANCELLED` is one of tonic's words for a connection or a server that went away.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByStatus;

impl<Res> Classify<Res, Status> for ByStatus {
    fn classify(&self, result: &Result<Res, Status>) -> Outcome {
        let Err(status) = result else { return Outcome::Success };
        if status.rejected().is_some() {
            return ByError.classify(result);
        }
        match (status.code(), pushback(status)) {
            (Code::Unavailable | Code::ResourceExhausted, Pushback::After(wait)) => {
                Outcome::Throttled(Some(wait))
            }
            (Code::Unavailable | Code::ResourceExhausted, Pushback::Never) => Outcome::Ignored,
            (
                Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Unknown
                | Code::Internal
                | Code::DataLoss,
                _,
            ) => Outcome::Failure,
            // The server is well: it was asked for what it cannot give.
            _ => Outcome::Ignored,
        }
    }
}

/// Judges what is worth a retry: the same, but for a call that the server has refused for want of time. The next attempt would
/// have less of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorthRepeating;

impl<Res> Classify<Res, Status> for WorthRepeating {
    fn classify(&self, result: &Result<Res, Status>) -> Outcome {
        match result {
            Err(status) if status.code() == Code::DeadlineExceeded && status.rejected().is_none() => {
                Outcome::Ignored
            }
            others => ByStatus.classify(others),
        }
    }
}

enum Pushback {
    Unsaid,
    After(Duration),
    Never,
}

/// Whatever is no time means: do not try again, as the proposal has it.
fn pushback(status: &Status) -> Pushback {
    let Some(value) = status.metadata().get("grpc-retry-pushback-ms") else { return Pushback::Unsaid };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(millis) => Pushback::After(Duration::from_millis(millis)),
        None => Pushback::Never,
    }
}

/// Calls of one method: the semantic conventions' `rpc.client.call.duration`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientCalls(pub(super) &'static str);

/// Calls from clients: `rpc.server.call.duration`. A client chooses the path, so the methods that there are have to be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerCalls(pub(super) &'static [&'static str]);

const METHOD: &str = "rpc.method";
const STATUS: &str = "rpc.response.status_code";

impl Convention for ClientCalls {
    fn metric(&self) -> &'static str {
        "rpc.client.call.duration"
    }

    fn side(&self) -> Side {
        Side::Client
    }

    fn common(&self) -> Vec<(&'static str, Label)> {
        vec![("rpc.system.name", Label::Text("grpc".into()))]
    }
}

impl<Req, Res> Describe<Req, Res, Status> for ClientCalls {
    fn operation<'a>(&'a self, _: &'a Req) -> Operation<'a> {
        Operation::new().named(METHOD, self.0)
    }

    fn end(result: &Result<Res, Status>) -> Ended<'_> {
        let Err(status) = result else { return Ended::new().with_status(STATUS, word(Code::Ok)) };
        match status.rejected() {
            Some(rejected) => Ended::rejected(rejected),
            None => Ended::new().with_error(word(status.code())),
        }
        .with_status(STATUS, word(status.code()))
    }
}

impl Convention for ServerCalls {
    fn metric(&self) -> &'static str {
        "rpc.server.call.duration"
    }

    fn side(&self) -> Side {
        Side::Server
    }

    fn common(&self) -> Vec<(&'static str, Label)> {
        vec![("rpc.system.name", Label::Text("grpc".into()))]
    }
}

impl<B, R, E> Describe<Request<B>, Response<R>, E> for ServerCalls {
    fn operation<'a>(&'a self, request: &'a Request<B>) -> Operation<'a> {
        let path = request.uri().path().trim_start_matches('/');
        let known = self.0.iter().find(|known| **known == path);
        Operation::new().named(METHOD, known.copied().unwrap_or("_OTHER"))
    }

    fn end(result: &Result<Response<R>, E>) -> Ended<'_> {
        let code = result.as_ref().map_or(Code::Unknown, |response| code(response.headers()));
        let ended = Ended::new().with_status(STATUS, word(code));
        if is_fault(code) { ended.with_error(word(code)) } else { ended }
    }
}

/// Judges what a server answered: the same that [`ServerCalls`] calls an error is a failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByAnswer;

impl<R, E> Classify<Response<R>, E> for ByAnswer {
    fn classify(&self, result: &Result<Response<R>, E>) -> Outcome {
        match result.as_ref().map_or(Code::Unknown, |response| code(response.headers())) {
            Code::Ok => Outcome::Success,
            Code::ResourceExhausted => Outcome::Throttled(None),
            code if is_fault(code) => Outcome::Failure,
            _ => Outcome::Ignored,
        }
    }
}

/// The status of an answer that has no messages. One with messages has it behind them, where the layers do not look: it
/// is taken to be well.
fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// What the conventions call an error of the server.
const fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

const fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_when_it_may_be_asked_again() {
        let judged = |code, pushback: Option<&'static str>| {
            let mut status = Status::new(code, "");
            if let Some(pushback) = pushback {
                status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
            }
            ByStatus.classify(&Err::<(), _>(status))
        };
        let soon = Outcome::Throttled(Some(Duration::from_millis(20)));
        assert_eq!(judged(Code::Unavailable, None), Outcome::Failure);
        assert_eq!(judged(Code::Unavailable, Some("20")), soon);
        assert_eq!(judged(Code::Unavailable, Some("-1")), Outcome::Ignored);
        assert_eq!(judged(Code::ResourceExhausted, None), Outcome::Ignored);
        assert_eq!(judged(Code::ResourceExhausted, Some("20")), soon);
        assert_eq!(judged(Code::NotFound, Some("20")), Outcome::Ignored);
    }

    #[test]
    fn a_refusal_for_want_of_time_is_not_repeated_but_an_attempt_that_timed_out_is() {
        use buttress_core::{Origin, Reason};
        let said = Err::<(), _>(Status::deadline_exceeded("too long"));
        assert_eq!(ByStatus.classify(&said), Outcome::Failure);
        assert_eq!(WorthRepeating.classify(&said), Outcome::Ignored);
        let timed_out = Origin::new("timeout", "attempt").reject(Reason::TimedOut).after_sending();
        assert_eq!(WorthRepeating.classify(&Err::<(), _>(Status::from(timed_out))), Outcome::Failure);
    }
}
