use axum::response::{IntoResponse, Response};
use buttress_core::problem;
use http::{HeaderValue, StatusCode, header};

use super::Error;

/// `application/problem+json` (RFC 9457): for a rejection its status and when to come back; 503, to come back after a second,
/// where the database or the cache's store is away; 502 for what Redis or an API says, whatever its own status; 500 for all
/// that only the program can mend. What happened is not told: it goes to the log.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Rejected(rejected) => return problem(*rejected),
            Self::Cache(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(error) if is_away(error) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Redis(_) | Self::Http(_) => StatusCode::BAD_GATEWAY,
            Self::Database(_) | Self::Unfit(_) | Self::NotConfigured(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "a request could not be served");
        } else {
            // The breaker tells of it too, once.
            tracing::warn!(error = %self, status = status.as_u16(), "a request could not be served");
        }
        let title = status.canonical_reason().unwrap_or_default();
        let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{}}}"#, status.as_u16());
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The same call may do in a while.
fn is_away(error: &buttress_postgres::Error) -> bool {
    use buttress_core::Outcome;
    use buttress_postgres::SqlStateClassifier;

    matches!(SqlStateClassifier::outcome(error), Outcome::Failure | Outcome::Throttled(_))
}
