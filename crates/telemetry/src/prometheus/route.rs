use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;

use crate::Registry;

/// `GET /metrics` with the [page of Prometheus](Registry::prometheus), to be merged into a router.
///
/// It tells the names of all layers and how busy they are: serve it where the world does not look.
pub fn prometheus_route(registry: &Registry) -> Router {
    let registry = registry.clone();
    let page = move || async move {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], registry.prometheus())
    };
    Router::new().route("/metrics", get(page))
}
