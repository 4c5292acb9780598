use buttress_core::{BoxError, Classify, Outcome, Rejectable, Rejected, retry_after};
use http::{Method, Response, StatusCode, header};

use crate::error::Error;

/// Tells from an answer's status, or from the [`Error`], how the backend is.
///
/// | result | outcome |
/// |---|---|
/// | 1xx, 2xx, 3xx | `Success` |
/// | 408 | `Failure`: the server waited for a request in vain |
/// | 425, 429, and 503 with `Retry-After` | `Throttled`, with that time where it can be known |
/// | 501, 505 | `Ignored`: it will never be able to |
/// | other 4xx | `Ignored`: the caller's mistake |
/// | other 5xx | `Failure` |
/// | [`Error::Rejected`] | its own, [`Rejected::outcome`] |
/// | [`Error::Invalid`], [`Error::Aborted`] | `Ignored`: this side's mistake |
/// | [`Error::BodyTooLarge`] | `Ignored`: the server works, and would send as much again |
/// | other errors, timeouts among them | `Failure` |
///
/// It says whether a call failed, not whether it may be repeated: that is for [`Error::sent`] and [`is_idempotent`].
#[derive(Debug, Clone, Copy, Default)]
pub struct StatusClassifier;

impl<B> Classify<Response<B>, Error> for StatusClassifier {
    fn classify(&self, result: &Result<Response<B>, Error>) -> Outcome {
        match result {
            Ok(response) => of_response(response),
            Err(error) => of_error(error),
        }
    }
}

impl<B> Classify<Response<B>, BoxError> for StatusClassifier {
    fn classify(&self, result: &Result<Response<B>, BoxError>) -> Outcome {
        match result {
            Ok(response) => of_response(response),
            Err(error) => match error.downcast_ref() {
                Some(error) => of_error(error),
                None => error.rejected().map_or(Outcome::Failure, Rejected::outcome),
            },
        }
    }
}

/// For layers on a server, inside [`Respond`](buttress_core::Respond), where the only error there is is a layer's.
impl<B> Classify<Response<B>, Rejected> for StatusClassifier {
    fn classify(&self, result: &Result<Response<B>, Rejected>) -> Outcome {
        match result {
            Ok(response) => of_response(response),
            Err(rejected) => rejected.outcome(),
        }
    }
}

fn of_response<B>(response: &Response<B>) -> Outcome {
    let headers = response.headers();
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => Outcome::Throttled(retry_after(headers)),
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(header::RETRY_AFTER) => {
            Outcome::Throttled(retry_after(headers))
        }
        StatusCode::REQUEST_TIMEOUT => Outcome::Failure,
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Outcome::Ignored,
        status if status.is_client_error() => Outcome::Ignored,
        status if status.as_u16() >= 500 => Outcome::Failure,
        _ => Outcome::Success,
    }
}

fn of_error(error: &Error) -> Outcome {
    match error {
        Error::Rejected(rejected) => rejected.outcome(),
        Error::Invalid { .. } | Error::Aborted { .. } | Error::BodyTooLarge { .. } => Outcome::Ignored,
        _ => Outcome::Failure,
    }
}

/// Whether a request of this method may be sent again though the first may have been carried out (RFC 9110, 9.2.2):
/// `GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT` and `DELETE`.
///
/// A retry is safe where this holds, or where the call was not [`sent`](Error::sent). Any other method needs the
/// server's promise, such as an idempotency key.
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use buttress_core::{Origin, Reason};
    use proptest::prelude::*;

    use super::*;

    fn judge(status: u16, retry_after: Option<&str>) -> Outcome {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header(header::RETRY_AFTER, value);
        }
        StatusClassifier.classify(&Ok::<_, Error>(response.body(()).unwrap()))
    }

    #[test]
    fn each_status_of_the_table_is_judged_as_it_says() {
        for (status, outcome) in [
            (101, Outcome::Success),
            (200, Outcome::Success),
            (304, Outcome::Success),
            (400, Outcome::Ignored),
            (404, Outcome::Ignored),
            (408, Outcome::Failure),
            (425, Outcome::Throttled(None)),
            (429, Outcome::Throttled(None)),
            (500, Outcome::Failure),
            (501, Outcome::Ignored),
            (503, Outcome::Failure),
            (505, Outcome::Ignored),
            (504, Outcome::Failure),
            (599, Outcome::Failure),
        ] {
            assert_eq!(judge(status, None), outcome, "{status}");
        }
        let three = Outcome::Throttled(Some(Duration::from_secs(3)));
        assert_eq!((judge(429, Some("3")), judge(503, Some("3"))), (three, three));
        assert_eq!(judge(503, Some("soon")), Outcome::Throttled(None));
        assert_eq!(
            judge(500, Some("3")),
            Outcome::Failure,
            "it does not make an error of the server's less of one"
        );
    }

    #[test]
    fn a_rejection_speaks_for_itself_in_both_error_types() {
        let origin = Origin::new("timeout", "speaks_for_itself");
        let sent = origin.reject(Reason::TimedOut).after_sending();
        let refused = origin.reject(Reason::Overloaded);
        for (rejected, outcome) in [(sent, Outcome::Failure), (refused, Outcome::Ignored)] {
            let boxed: BoxError = Error::from(rejected).into();
            assert_eq!(StatusClassifier.classify(&Err::<Response<()>, _>(boxed)), outcome);
            let bare: BoxError = rejected.into();
            assert_eq!(StatusClassifier.classify(&Err::<Response<()>, _>(bare)), outcome);
            assert_eq!(StatusClassifier.classify(&Err::<Response<()>, Error>(rejected.into())), outcome);
        }
        assert_eq!(
            StatusClassifier.classify(&Err::<Response<()>, BoxError>("else".into())),
            Outcome::Failure
        );
    }

    #[test]
    fn methods_are_those_of_the_rfc() {
        let repeated =
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
        assert!(repeated.iter().all(is_idempotent));
        let once = [Method::POST, Method::PATCH, Method::CONNECT, Method::from_bytes(b"PURGE").unwrap()];
        assert!(!once.iter().any(is_idempotent));
    }

    proptest! {
        #[test]
        fn every_status_has_an_outcome_and_none_below_400_is_held_against_the_backend(status in 100..1000_u16) {
            let outcome = judge(status, None);
            prop_assert_eq!(outcome == Outcome::Success, status < 400);
        }
    }
}
