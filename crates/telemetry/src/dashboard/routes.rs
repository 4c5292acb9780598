use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tracing::warn;

use super::{
    Dashboard, act,
    feed::{Feed, Refused},
    page,
};

pub(super) fn router(dashboard: &Dashboard) -> Router {
    // It is plain ASCII; if ever it were not, the page would run nothing.
    let policy = HeaderValue::from_str(&page::content_security_policy())
        .unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let page = move || async move {
        let mut response = plain(HeaderValue::from_static("text/html; charset=utf-8"), page::PAGE);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    };
    let router = Router::new()
        .route("/", get(page))
        .route("/snapshot.json", get(snapshot))
        .route("/events", get(events))
        .with_state(Arc::clone(&dashboard.feed));
    match &dashboard.guard {
        Some(guard) => {
            let act = Router::new().route("/act", post(act::act)).with_state(Arc::clone(&dashboard.feed));
            router.merge(guard(act))
        }
        None => router,
    }
}

async fn snapshot(State(feed): State<Arc<Feed>>) -> Response {
    // Handles and alerts are other people's code. Unanswered, all requests of the connection would be lost.
    if let Ok(json) = catch_unwind(AssertUnwindSafe(|| feed.snapshot())) {
        return plain(HeaderValue::from_static("application/json"), json);
    }
    warn!("the dashboard could not read the figures: a layer's handle or an alert panicked");
    let why = "a layer's handle or an alert panicked";
    let mut response = plain(HeaderValue::from_static("text/plain; charset=utf-8"), why);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

async fn events(State(feed): State<Arc<Feed>>) -> Response {
    match feed.view() {
        Ok(viewer) => {
            let events = Body::from_stream(viewer.events());
            let mut response = plain(HeaderValue::from_static("text/event-stream"), events);
            // A proxy in between is not to wait for more.
            response
                .headers_mut()
                .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
            response
        }
        Err(refused) => {
            let why = match refused {
                Refused::Full(viewers) => {
                    format!("{viewers} look at this dashboard already, and no more may: close one of them")
                }
                Refused::Closed => "the program is shutting down".to_owned(),
            };
            let mut response = plain(HeaderValue::from_static("text/plain; charset=utf-8"), why);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    }
}

/// A response that nobody keeps, frames, or takes for something else.
pub(super) fn plain(content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    (headers, body.into()).into_response()
}
