//! `Respond` in a real axum router.
#![cfg(feature = "http")]

use std::task::{Context, Poll};

use axum::{Router, body::Body, routing::get};
use buttress_core::{Origin, Reason, Rejected, Respond, problem};
use http::Request;
use tower::{Layer, Service, ServiceExt, layer::layer_fn};

/// Refuses in `call` or already when it is asked whether it is ready.
#[derive(Clone)]
struct Refusing<S> {
    inner: S,
    when_ready: bool,
}

impl<S, Req> Service<Req> for Refusing<S>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::future::Ready<Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.when_ready {
            return Poll::Ready(Err(Origin::new("test", "ready").reject(Reason::RateLimited).into()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, _: Req) -> Self::Future {
        std::future::ready(Err(Origin::new("test", "call").reject(Reason::CircuitOpen).into()))
    }
}

async fn status<L>(layer: L) -> u16
where
    L: Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service:
        Service<axum::extract::Request, Error = std::convert::Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<axum::extract::Request>>::Response: axum::response::IntoResponse,
    <L::Service as Service<axum::extract::Request>>::Future: Send,
{
    let app: Router = Router::new().route("/", get(async || "hello")).layer(layer);
    app.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn rejections_become_responses() {
    let refusing = |when_ready| layer_fn(move |inner| Refusing { inner, when_ready });
    assert_eq!(status(Respond::new(refusing(false))).await, 503);
    assert_eq!(status(Respond::new(refusing(true))).await, 429);
    assert_eq!(status(Respond::with(refusing(true), problem)).await, 429);
    assert_eq!(status(Respond::new(tower::layer::util::Identity::new())).await, 200);
}
