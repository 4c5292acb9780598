//! A layer with an action, and what a client asks a dashboard's router.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::{Router, body::Body};
use buttress_core::{Metric, Observe, Origin, UnknownAction, Value, WeakObserve};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value as Json;
use tower::ServiceExt;

/// A layer that counts how often it was forced.
#[derive(Clone)]
pub(crate) struct Lever {
    pub(crate) name: &'static str,
    pub(crate) forced: Arc<AtomicU64>,
}

impl Lever {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, forced: Arc::default() }
    }

    pub(crate) fn forced(&self) -> u64 {
        self.forced.load(Relaxed)
    }
}

impl Observe for Lever {
    fn origin(&self) -> Origin {
        Origin::new("lever", self.name)
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("forced", Value::Counter(self.forced())));
        visit(Metric::new("idle", Value::Counter(0)));
        visit(Metric::new("level", Value::Gauge(0.0)).with_label("tank", "left"));
    }
    fn downgrade(&self) -> WeakObserve {
        let name = self.name;
        WeakObserve::of(&self.forced, move |forced| Self { name, forced })
    }
    fn actions(&self) -> &'static [&'static str] {
        &["force", "break"]
    }
    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        match action {
            "force" => self.forced.fetch_add(1, Relaxed),
            "break" => panic!("on purpose"),
            _ => return Err(UnknownAction),
        };
        Ok(())
    }
}

pub(crate) async fn ask(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn get(router: &Router, path: &str) -> (StatusCode, HeaderMap, String) {
    let (head, body) = ask(router, Request::get(path).body(Body::empty()).unwrap()).await.into_parts();
    (head.status, head.headers, text(body).await)
}

pub(crate) async fn text(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(crate) fn act(action: &str) -> Request<Body> {
    let body = format!(r#"{{"layer":"lever","name":"one","action":"{action}"}}"#);
    Request::post("/act").header("x-buttress-act", "1").header("host", "ops.test").body(body.into()).unwrap()
}

/// A stream of events that is read one by one.
pub(crate) struct Events(Body);

impl Events {
    pub(crate) async fn open(router: &Router) -> Self {
        let response = ask(router, Request::get("/events").body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body())
    }

    /// The next event as it is sent; none at the end.
    pub(crate) async fn raw(&mut self) -> Option<String> {
        let frame = self.0.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// The next event's data.
    pub(crate) async fn next(&mut self) -> Json {
        let event = self.raw().await.expect("the stream goes on");
        assert!(event.ends_with("\n\n"), "{event}");
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str(data).unwrap()
    }
}
