use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use axum::{
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use serde::Deserialize;
use tracing::warn;

use super::{feed::Feed, routes::plain};
use crate::Registry;

/// A header that a form cannot set, and a script of another site only where the server allows it, which this one does not.
const HEADER: &str = "x-buttress-act";
/// No layer has a name that long.
const MAX_BODY: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    layer: String,
    name: String,
    action: String,
}

/// Does to a layer what an operator asks for. Who that is has been asked by the layer around this route.
pub(super) async fn act(State(feed): State<Arc<Feed>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !is_from_the_page(&head.headers, &head.uri) {
        warn!("the dashboard refused an action: the request did not come from its page");
        return answer(StatusCode::FORBIDDEN, "this request does not come from the dashboard's page");
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "that is too long for an action");
    };
    let Ok(act) = parse(&body) else {
        return answer(
            StatusCode::BAD_REQUEST,
            "an action is {\"layer\": ..., \"name\": ..., \"action\": ...}",
        );
    };
    let (status, result) = run(feed.registry(), &act);
    // As `Debug` what was sent is escaped, and it is bounded by the body.
    warn!(
        layer = ?act.layer,
        name = ?act.name,
        action = ?act.action,
        status = status.as_u16(),
        result,
        "an operator acted on a layer through the dashboard"
    );
    answer(status, result)
}

fn parse(body: &Bytes) -> serde_json::Result<Act> {
    serde_json::from_slice(body)
}

fn run(registry: &Registry, act: &Act) -> (StatusCode, &'static str) {
    let handles = registry.handles();
    let handle = handles.iter().map(|handle| &handle.observe).find(|observe| {
        let origin = observe.origin();
        origin.layer() == act.layer && origin.name() == act.name
    });
    let Some(observe) = handle else {
        return (StatusCode::NOT_FOUND, "there is no such layer, or no longer");
    };
    // A handle is other people's code.
    match catch_unwind(AssertUnwindSafe(|| observe.act(&act.action))) {
        Ok(Ok(())) => (StatusCode::OK, "done"),
        Ok(Err(_)) => (StatusCode::UNPROCESSABLE_ENTITY, "the layer has no such action"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the layer panicked"),
    }
}

/// Whether a browser sent this from a page of this very origin, or something else that is no browser did.
///
/// `Sec-Fetch-Site`, where a browser sends it, cannot be forged by a page. Older ones send `Origin` with every POST. Neither
/// comes from what is no browser, which has no rights of anybody to abuse. Source: Filippo Valsorda, *Cross-Site Request
/// Forgery* (2025), as in Go's `http.CrossOriginProtection`. The header comes on top.
fn is_from_the_page(headers: &HeaderMap, uri: &Uri) -> bool {
    if headers.get(HEADER).is_none_or(|value| value != "1") {
        return false;
    }
    let text = |value: &HeaderValue| value.to_str().map(str::to_ascii_lowercase).ok();
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = match headers.get(header::HOST) {
        Some(host) => text(host),
        // HTTP/2 has it in the address.
        None => uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()),
    };
    let origin = text(origin);
    let origin = origin.as_deref().and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host)
}

fn answer(status: StatusCode, text: &'static str) -> Response {
    let mut response = plain(HeaderValue::from_static("text/plain; charset=utf-8"), text);
    *response.status_mut() = status;
    response
}
