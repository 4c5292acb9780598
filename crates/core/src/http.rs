use ::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{Reason, Rejected};

/// 429 for a rate limit, 504 for a missed deadline or timeout, else 503; with `Retry-After` (whole seconds, rounded up)
/// where the layer knows it, and a `RateLimit` field for a rate limit (draft-ietf-httpapi-ratelimit-headers). The body is
/// the default one; [`problem`] writes one.
impl<B: Default> From<Rejected> for Response<B> {
    fn from(rejected: Rejected) -> Self {
        with_head(&rejected, B::default())
    }
}

/// Answers a rejection as `application/problem+json` (RFC 9457), for [`Respond::with`](crate::Respond::with).
///
/// Status and headers are those of `From<Rejected>`. The text names neither the layer nor its instance: they are no
/// business of a client outside.
pub fn problem<B: From<String>>(rejected: Rejected) -> Response<B> {
    let status = status(rejected.reason());
    let body = format!(
        r#"{{"type":"about:blank","title":"{}","status":{},"detail":"{}"}}"#,
        status.canonical_reason().unwrap_or_default(),
        status.as_u16(),
        rejected.reason().sentence(),
    );
    let mut response = with_head(&rejected, B::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn with_head<B>(rejected: &Rejected, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status(rejected.reason());
    set_hints(rejected, response.headers_mut());
    response
}

const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::TimedOut | Reason::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Reason::CircuitOpen
        | Reason::Overloaded
        | Reason::BatchFailed
        | Reason::Closed
        | Reason::LoadFailed
        | Reason::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn set_hints(rejected: &Rejected, headers: &mut HeaderMap) {
    let Some(after) = rejected.retry_after() else { return };
    let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
    headers.insert(header::RETRY_AFTER, seconds.into());
    // A structured-field string is printable ASCII; a name that is not is left out rather than mangled.
    let name = rejected.name();
    if rejected.reason() == Reason::RateLimited
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
        && let Ok(value) = HeaderValue::try_from(format!(r#""{name}";r=0;t={seconds}"#))
    {
        headers.insert("ratelimit", value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Origin;

    #[test]
    fn a_rate_limit_says_when_to_come_back() {
        let rejected = Origin::new("rate-limit", "per-client").reject(Reason::RateLimited);
        let response = Response::<String>::from(rejected.with_retry_after(Duration::from_millis(1200)));
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["ratelimit"], r#""per-client";r=0;t=2"#);
    }

    #[test]
    fn names_cannot_break_a_header() {
        let rejected = Origin::new("rate-limit", "a\"b\r\nc").reject(Reason::RateLimited);
        let response = Response::<String>::from(rejected.with_retry_after(Duration::MAX));
        assert!(response.headers().get("ratelimit").is_none());
        assert_eq!(response.headers()["retry-after"], "18446744074");
    }

    #[test]
    fn a_problem_is_json_that_keeps_names_inside() {
        let rejected = Origin::new("circuit-breaker", "secret-db").reject(Reason::CircuitOpen);
        let response: Response<String> = problem(rejected);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(
            response.body(),
            r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the circuit is open"}"#
        );
    }
}
