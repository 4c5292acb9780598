//! Whatever goes wrong, as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection},
    response::{IntoResponse, Response},
};
use buttress_core::{Rejectable, Rejected};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// An answer to a request that could not be served.
#[derive(Debug)]
pub(super) enum Problem {
    /// A layer refused the call or gave it up: it knows the status, and when to come back.
    Rejected(Rejected),
    Status {
        status: StatusCode,
        detail: String,
        retry_after: Option<u32>,
    },
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::Status { status, detail: detail.into(), retry_after: None }
    }

    /// A backend failed; the cause is for the log, not for the client.
    fn unavailable(error: &dyn std::fmt::Display, detail: &str) -> Self {
        tracing::warn!(%error, detail);
        Self::Status { status: StatusCode::SERVICE_UNAVAILABLE, detail: detail.into(), retry_after: Some(1) }
    }

    fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be served")
    }
}

impl From<buttress_postgres::Error> for Problem {
    fn from(error: buttress_postgres::Error) -> Self {
        use buttress_postgres::{Error, tokio_postgres::error::SqlState};
        if let Some(rejected) = error.rejected() {
            return Self::Rejected(*rejected);
        }
        match &error {
            Error::Connect { .. } | Error::Lost { .. } => Self::unavailable(&error, "the database is away"),
            _ if error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Self::new(StatusCode::CONFLICT, "there is a user with this e-mail address")
            }
            // Shutting down, crashing, starting up, or out of something: it will pass.
            _ if error
                .sqlstate()
                .is_some_and(|state| matches!(state.code().get(..2), Some("57" | "53" | "58"))) =>
            {
                Self::unavailable(&error, "the database is busy with itself")
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<buttress_http::Error> for Problem {
    fn from(error: buttress_http::Error) -> Self {
        match error.rejected() {
            Some(rejected) => Self::Rejected(*rejected),
            None => Self::unavailable(&error, "the profile service is away"),
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        // Also for JSON of the wrong shape or without its content type: the client has to change the request.
        let status = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "a user's id is a whole number")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, detail, retry_after) = match self {
            Self::Rejected(rejected) => return buttress_core::problem(rejected),
            Self::Status { status, detail, retry_after } => (status, detail, retry_after),
        };
        let title = status.canonical_reason().unwrap_or_default();
        let body =
            json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
