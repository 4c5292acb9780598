//! Whatever goes wrong, as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection},
    response::{IntoResponse, Response},
};
use buttress::{Error, http::ApiError, postgres::tokio_postgres::error::SqlState};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{NO_DATABASE, NO_QUEUE};

/// An answer to a request that could not be served.
#[derive(Debug)]
pub(super) enum Problem {
    /// What this program has to say.
    Said(StatusCode, String),
    /// The rest is the system's.
    Failed(Error),
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::Said(status, detail.into())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) if error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Self::new(StatusCode::CONFLICT, "there is a user with this e-mail address")
            }
            // The only one that this program does not make by itself.
            Error::Database(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_TABLE) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, NO_QUEUE)
            }
            Error::Http(ApiError::Status(error)) => {
                let detail = format!("the profile service answered {}", error.status().as_u16());
                Self::new(StatusCode::BAD_GATEWAY, detail)
            }
            // All the rest is there in any case.
            Error::NotConfigured(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, NO_DATABASE),
            error => Self::Failed(error),
        }
    }
}

impl From<ApiError> for Problem {
    fn from(error: ApiError) -> Self {
        Error::from(error).into()
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
        let (status, detail) = match self {
            Self::Failed(error) => return error.into_response(),
            Self::Said(status, detail) => (status, detail),
        };
        let title = status.canonical_reason().unwrap_or_default();
        let body =
            json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        let mut response = (status, Json(body)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
