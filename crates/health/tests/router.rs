//! The routes, as an orchestrator asks them.
#![cfg(feature = "axum")]

use std::{
    future::{pending, ready},
    time::Duration,
};

use axum::{Router, body::Body};
use buttress_health::{Health, Part, Probe, Status};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);

async fn ask(router: &Router, method: Method, path: &str) -> (StatusCode, String, Response<()>) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap(), Response::from_parts(head, ()))
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let (status, body, _) = ask(router, Method::GET, path).await;
    (status, body)
}

async fn document(router: &Router, path: &str) -> (StatusCode, Value) {
    let (status, body, response) = ask(router, Method::GET, path).await;
    assert_eq!(response.headers()["content-type"], "application/health+json");
    (status, serde_json::from_str(&body).unwrap())
}

fn says(status: Status) -> Probe {
    Probe::from_fn(move || ready(status.clone()))
}

#[tokio::test(start_paused = true)]
async fn each_path_answers_its_own_question() {
    let health = Health::builder()
        .part(Part::new("db", says(Status::Well)).critical())
        .part(Part::new("cache", says(Status::down("gone"))))
        .start()
        .unwrap();
    let router = health.router();
    assert_eq!(get(&router, "/livez").await, (StatusCode::OK, "ok\n".into()));
    for path in ["/readyz", "/startupz", "/healthz"] {
        assert_eq!(
            get(&router, path).await,
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n".into()),
            "{path}"
        );
    }
    health.wait_ready(SECOND).await.unwrap();
    for path in ["/livez", "/readyz", "/startupz", "/healthz"] {
        assert_eq!(get(&router, path).await.0, StatusCode::OK, "{path}");
    }
    health.begin_shutdown();
    assert_eq!(get(&router, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&router, "/healthz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&router, "/livez").await.0, StatusCode::OK);
    health.declare_dead("stuck");
    assert_eq!(get(&router, "/livez").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&router, "/nowhere").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn head_works_and_nothing_is_cached() {
    let health = Health::builder().start().unwrap();
    let router = health.verbose_router();
    for path in ["/livez", "/readyz?verbose", "/startupz", "/healthz?other=1"] {
        for method in [Method::GET, Method::HEAD] {
            let (status, body, response) = ask(&router, method.clone(), path).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(body.is_empty(), method == Method::HEAD, "{path}");
        }
    }
    assert_eq!(ask(&router, Method::POST, "/livez").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn details_are_for_the_verbose_router_alone() {
    let health = Health::builder()
        .part(Part::new("db", says(Status::down("no connection to db-7.internal"))).critical())
        .start()
        .unwrap();
    health.wait_ready(SECOND).await.unwrap_err();
    let (public, internal) = (health.router(), health.verbose_router());
    for query in ["?verbose", "?verbose=1", "?a=b&verbose", "?verbose&verbose=true"] {
        let path = format!("/readyz{query}");
        assert_eq!(get(&public, &path).await.1, "unavailable\n", "{path}");
        assert_eq!(document(&internal, &path).await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
    for query in ["", "?verbose=0", "?verbose=false", "?verbosely", "?a=verbose", "?%00=%ff&&=&"] {
        let path = format!("/readyz{query}");
        assert_eq!(get(&internal, &path).await.1, "unavailable\n", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_is_health_json() {
    let slow = Probe::from_fn(|| async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        Status::degraded("a replica is missing")
    });
    let health = Health::builder()
        .part(Part::new("db", slow).critical())
        .part(Part::new("worker", says(Status::Well)).liveness())
        .part(Part::new("hangs", Probe::from_fn(pending::<Status>)))
        .part(Part::passive_only("queue", || Status::Well))
        .start()
        .unwrap();
    health.wait_ready(SECOND).await.unwrap();
    let router = health.verbose_router();

    let (status, whole) = document(&router, "/healthz?verbose").await;
    assert_eq!((status, &whole["status"]), (StatusCode::OK, &"warn".into()));
    assert_eq!(whole.get("output"), None, "it is ready");
    let checks = whole["checks"].as_object().unwrap();
    let keys: Vec<_> = checks.keys().map(String::as_str).collect();
    assert_eq!(keys, ["db:responseTime", "hangs", "queue", "worker:responseTime"]);
    let db = &checks["db:responseTime"][0];
    assert_eq!(db["status"], "warn");
    assert_eq!(db["state"], "degraded");
    assert_eq!(db["output"], "a replica is missing");
    assert_eq!(db["componentType"], "component");
    assert_eq!(db["observedUnit"], "ms");
    assert_eq!(db["observedValue"], 250.0);
    assert_eq!(db["critical"], true);
    let time = db["time"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 20, "{time}");
    assert_eq!(checks["hangs"][0]["state"], "unknown");
    assert_eq!(checks["queue"][0]["status"], "pass");
    assert_eq!(checks["worker:responseTime"][0].get("output"), None);

    let (_, live) = document(&router, "/livez?verbose").await;
    assert_eq!(live["status"], "pass");
    assert_eq!(live["checks"].as_object().unwrap().len(), 1, "what it is about, and no more");
    let (_, startup) = document(&router, "/startupz?verbose").await;
    assert_eq!(startup["checks"].as_object().unwrap().len(), 1);

    health.begin_maintenance("moving house");
    let (status, ready) = document(&router, "/readyz?verbose").await;
    assert_eq!((status, &ready["status"]), (StatusCode::SERVICE_UNAVAILABLE, &"fail".into()));
    assert_eq!(ready["output"], "maintenance: moving house");
}

#[tokio::test(start_paused = true)]
async fn a_question_never_waits_for_a_probe() {
    let probe = Probe::from_fn(pending::<Status>);
    let health = Health::builder().part(Part::new("hangs", probe).critical()).start().unwrap();
    let router = health.verbose_router();
    let begun = tokio::time::Instant::now();
    assert_eq!(document(&router, "/readyz?verbose").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_hostile_cause_does_not_break_the_document() {
    let hostile = format!("\"}}],\"status\":\"pass\"\r\nINFO ready\x1b[2J\u{202e}\0{}", "x".repeat(10_000));
    let probe = Probe::from_fn(move || ready(Err::<(), _>(hostile.clone())));
    let health = Health::builder().part(Part::new("db", probe).critical()).start().unwrap();
    health.wait_ready(SECOND).await.unwrap_err();

    let (_, ready) = document(&health.verbose_router(), "/readyz?verbose").await;
    let db = &ready["checks"]["db:responseTime"][0];
    assert_eq!(db["status"], "fail");
    for output in [&db["output"], &ready["output"]] {
        let output = output.as_str().unwrap();
        assert!(output.contains(r#""}],"status":"pass"\r\nINFO ready\u{1b}[2J\u{202e}\u{0}xxx"#), "{output}");
        assert!(output.chars().count() <= 256);
    }
}
