//! The dashboard's routes, without a browser.

#![cfg(feature = "dashboard")]

#[path = "dashboard/world.rs"]
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use buttress_telemetry::{Dashboard, InvalidDashboard, Registry};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use self::world::{Events, Lever, act, ask, get, text};

fn registry() -> (Registry, Lever) {
    let (registry, lever) = (Registry::new(), Lever::new("one"));
    registry.stack("orders").layer(&lever).register().unwrap();
    (registry, lever)
}

/// A dashboard whose alerts count how often it was asked for them: once for each frame.
fn counted(registry: &Registry, max_viewers: usize) -> (Dashboard, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let alerts = move || json!([{ "name": "Asked", "message": counter.fetch_add(1, Relaxed) }]);
    let dashboard =
        Dashboard::builder(registry).max_viewers(max_viewers).alerts_from(alerts).build().unwrap();
    (dashboard, asked)
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_nothing_else() {
    let (registry, _lever) = registry();
    let router = Dashboard::builder(&registry).build().unwrap().router();
    let (status, headers, page) = get(&router, "/").await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap())
    );
    let policy = headers["content-security-policy"].to_str().unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-frame-options"], "DENY");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(page.starts_with("<!doctype html>"));
    // The one address in it is the name of SVG.
    assert!(
        !page.contains("https://")
            && page.matches("http://").count() == page.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(headers.get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn the_snapshot_is_all_that_is_known() {
    let (registry, _lever) = registry();
    let (dashboard, _) = counted(&registry, 1);
    // Nested under any path, and behind whatever the application puts before it.
    let app = Router::new().nest("/ops/dash", dashboard.router());
    let (status, headers, body) = get(&app, "/ops/dash/snapshot.json").await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"application/json".parse().unwrap()));
    let all: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(all["now"]["stacks"], json!([{ "name": "orders", "layers": [0] }]));
    assert_eq!(all["now"]["layers"][0]["actions"], json!(["force", "break"]));
    assert_eq!(all["alerts"][0]["name"], "Asked");
    assert_eq!(all["slow_calls"], json!([]));
    assert_eq!(get(&app, "/ops/dash").await.0, StatusCode::OK, "the page");
    assert_eq!(get(&app, "/ops/dash/nothing").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_frame_says_what_happened_since_the_one_before() {
    let (registry, lever) = registry();
    let router = Dashboard::builder(&registry).build().unwrap().router();
    let mut events = Events::open(&router).await;
    let first = events.raw().await.unwrap();
    assert!(first.starts_with("retry: 1000\nevent: history\ndata: []"), "{first}");
    let frame = events.next().await;
    assert_eq!((&frame["since"], &frame["recent"]), (&Value::Null, &Value::Null));
    assert_eq!((&frame["every"], &frame["control"]), (&json!(1.0), &json!(false)));

    lever.forced.fetch_add(3, Relaxed);
    let frame = events.next().await;
    assert_eq!(frame["now"]["layers"][0]["figures"][0]["value"], 3.0);
    assert_eq!(frame["since"]["seconds"], 1.0);
    let point = json!({ "layer": "lever", "name": "one", "figures": { "forced": 3.0, "level|left": 0.0 } });
    assert_eq!(frame["since"]["layers"], json!([point]), "counters that stood still are left out");
    lever.forced.fetch_add(2, Relaxed);
    let frame = events.next().await;
    assert_eq!(frame["now"]["layers"][0]["figures"][0]["value"], 5.0);
    assert_eq!(frame["since"]["layers"][0]["figures"]["forced"], 2.0);

    // Whoever comes later has the charts of what was before, and the latest frame, at once.
    let mut later = Events::open(&router).await;
    let history = later.next().await;
    let forced: Vec<_> =
        history.as_array().unwrap().iter().map(|it| it["layers"][0]["figures"]["forced"].clone()).collect();
    assert_eq!(forced, [3.0, 2.0]);
    assert_eq!(later.next().await["now"]["layers"][0]["figures"][0]["value"], 5.0);
    for _ in 0..20 {
        let seconds = events.next().await["recent"]["seconds"].as_f64().unwrap();
        assert!(seconds <= 10.0, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_sampler_serves_all_and_ends_with_the_last_of_them() {
    let (registry, _lever) = registry();
    let (dashboard, asked) = counted(&registry, 8);
    let router = dashboard.router();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(asked.load(Relaxed), 0, "nobody looks, nothing runs");
    let mut viewers = Vec::new();
    for _ in 0..8 {
        viewers.push(Events::open(&router).await);
    }
    sleep(Duration::from_millis(9500)).await;
    assert_eq!(asked.load(Relaxed), 10, "one a second, for eight viewers");

    // Who has not read meanwhile gets the latest frame alone.
    let slow = &mut viewers[0];
    slow.next().await;
    assert_eq!(slow.next().await["alerts"][0]["message"], 9);
    assert_eq!(slow.next().await["alerts"][0]["message"], 10);

    viewers.truncate(1);
    let before = asked.load(Relaxed);
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(asked.load(Relaxed), before + 3, "one is left");
    viewers.clear();
    let before = asked.load(Relaxed);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(asked.load(Relaxed), before);

    let mut again = Events::open(&router).await;
    let history = again.next().await;
    assert!(history.as_array().unwrap().len() > 5, "a page that is loaded again keeps its charts");
    assert_eq!(again.next().await["alerts"][0]["message"], before, "not an old frame");
    drop(again);
    advance(Duration::from_secs(61)).await;
    assert_eq!(Events::open(&router).await.next().await, json!([]), "no longer than a minute");
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_keeps_no_place_and_nothing_running() {
    let (registry, _lever) = registry();
    let (dashboard, asked) = counted(&registry, 2);
    let router = dashboard.router();
    // What is between holds the connection open and takes nothing, as a suspended computer does.
    let (mut silent, mut reading) = (Events::open(&router).await, Events::open(&router).await);
    for _ in 0..130 {
        reading.next().await;
    }
    let third = Events::open(&router).await;
    assert_eq!(get(&router, "/events").await.0, StatusCode::SERVICE_UNAVAILABLE, "who reads has a place");
    while silent.raw().await.is_some() {}
    drop((reading, third));
    let _silent = Events::open(&router).await;
    sleep(Duration::from_secs(130)).await;
    let before = asked.load(Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(asked.load(Relaxed), before, "nobody looks");
}

#[tokio::test]
async fn an_alert_that_panics_is_an_answer_where_all_is_asked_for() {
    let (registry, _lever) = registry();
    let dashboard = Dashboard::builder(&registry).alerts_from(|| panic!("on purpose, with a secret"));
    let (status, _, text) = get(&dashboard.build().unwrap().router(), "/snapshot.json").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn viewers_are_bounded() {
    let (registry, _lever) = registry();
    let router = counted(&registry, 2).0.router();
    let (first, second) = (Events::open(&router).await, Events::open(&router).await);
    let (status, headers, why) = get(&router, "/events").await;
    assert_eq!((status, &headers["retry-after"]), (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap()));
    assert!(why.contains("2 look at this dashboard already"), "{why}");
    drop(first);
    let mut third = Events::open(&router).await;
    third.next().await;
    drop((second, third));
    let _both = (Events::open(&router).await, Events::open(&router).await);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_panics_costs_a_frame_and_no_more() {
    let (registry, _lever) = registry();
    let asked = AtomicUsize::new(0);
    let alerts = move || {
        let asked = asked.fetch_add(1, Relaxed);
        assert!(asked != 1, "on purpose");
        json!(asked)
    };
    let router = Dashboard::builder(&registry).alerts_from(alerts).build().unwrap().router();
    let mut events = Events::open(&router).await;
    events.next().await;
    assert_eq!(events.next().await["alerts"], 0);
    assert_eq!(events.next().await["alerts"], 2);
}

#[tokio::test(start_paused = true)]
async fn closed_it_lets_a_graceful_shutdown_end() {
    let (registry, _lever) = registry();
    let (dashboard, asked) = counted(&registry, 2);
    let router = dashboard.router();
    let mut events = Events::open(&router).await;
    events.next().await;
    events.next().await;
    dashboard.close();
    assert_eq!(events.raw().await, None);
    assert_eq!(get(&router, "/events").await.0, StatusCode::SERVICE_UNAVAILABLE);
    let before = asked.load(Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(asked.load(Relaxed), before);
}

#[tokio::test]
async fn without_an_authorisation_nobody_can_act() {
    let (registry, lever) = registry();
    let router = Dashboard::builder(&registry).build().unwrap().router();
    assert_eq!(ask(&router, act("force")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(lever.forced(), 0);
}

/// Lets through whoever says the word.
fn guarded(registry: &Registry) -> Router {
    let authorised = from_fn(|request: Request, next: Next| async move {
        if request.headers().get("authorization").is_some_and(|word| word == "Bearer open-sesame") {
            return next.run(request).await;
        }
        StatusCode::UNAUTHORIZED.into_response()
    });
    Dashboard::builder(registry).allow_control(authorised).build().unwrap().router()
}

fn with(mut request: http::Request<Body>, headers: &[(&'static str, &str)]) -> http::Request<Body> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

const WORD: (&str, &str) = ("authorization", "Bearer open-sesame");

#[tokio::test]
async fn who_is_authorised_acts() {
    let (registry, lever) = registry();
    let router = guarded(&registry);
    assert_eq!(ask(&router, act("force")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(lever.forced(), 0);
    assert_eq!(get(&router, "/snapshot.json").await.0, StatusCode::OK, "the guard is of the one route alone");
    let mut events = Events::open(&router).await;
    events.next().await;
    assert_eq!(events.next().await["control"], true);

    let done = ask(&router, with(act("force"), &[WORD])).await;
    assert_eq!((done.status(), text(done.into_body()).await.as_str()), (StatusCode::OK, "done"));
    assert_eq!(lever.forced(), 1);
    for (action, status) in
        [("fly", StatusCode::UNPROCESSABLE_ENTITY), ("break", StatusCode::INTERNAL_SERVER_ERROR)]
    {
        assert_eq!(ask(&router, with(act(action), &[WORD])).await.status(), status, "{action}");
    }
    let too_long = "x".repeat(5000);
    for (body, status) in [
        (r#"{"layer":"lever","name":"two","action":"force"}"#, StatusCode::NOT_FOUND),
        (r#"{"layer":"lever","name":"one"}"#, StatusCode::BAD_REQUEST),
        (r#"{"layer":"lever","name":"one","action":"force","and":1}"#, StatusCode::BAD_REQUEST),
        ("\u{0}", StatusCode::BAD_REQUEST),
        (too_long.as_str(), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let mut request = with(act("force"), &[WORD]);
        *request.body_mut() = Body::from(body.to_owned());
        assert_eq!(ask(&router, request).await.status(), status, "{body:.60}");
    }
    let look = with(http::Request::get("/act").body(Body::empty()).unwrap(), &[WORD]);
    assert_eq!(ask(&router, look).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(lever.forced(), 1);
}

#[tokio::test]
async fn another_site_cannot_act_with_the_rights_of_its_visitor() {
    let (registry, lever) = registry();
    let router = guarded(&registry);
    let refused: [&[(&str, &str)]; 7] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://ops.test")],
        &[("origin", "http://evil.test")],
        &[("origin", "null")],
        &[("origin", "http://ops.test.evil.test")],
    ];
    for headers in refused {
        let answer = ask(&router, with(with(act("force"), &[WORD]), headers)).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{headers:?}");
    }
    // What a form, or a script without leave of the server, can send.
    let mut form = with(act("force"), &[WORD, ("content-type", "text/plain")]);
    form.headers_mut().remove("x-buttress-act");
    assert_eq!(ask(&router, form).await.status(), StatusCode::FORBIDDEN);
    // And that leave is not given.
    let preflight =
        http::Request::builder().method("OPTIONS").uri("/act").header("origin", "http://evil.test");
    let answer = ask(&router, with(preflight.body(Body::empty()).unwrap(), &[WORD])).await;
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control")), "{answer:?}");
    assert_eq!(lever.forced(), 0);

    let allowed: [&[(&str, &str)]; 4] = [
        &[("sec-fetch-site", "same-origin"), ("origin", "http://ops.test")],
        // Behind a proxy that changes the host.
        &[("sec-fetch-site", "same-origin"), ("origin", "https://outside.test")],
        &[("origin", "http://OPS.test")],
        &[],
    ];
    for headers in allowed {
        let answer = ask(&router, with(with(act("force"), &[WORD]), headers)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{headers:?}");
    }
    assert_eq!(lever.forced(), 4);
}

#[tokio::test]
async fn what_cannot_be_is_not_built() {
    let registry = Registry::new();
    let every = |millis| Dashboard::builder(&registry).every(Duration::from_millis(millis)).build();
    assert_eq!(every(99).unwrap_err(), InvalidDashboard::Every(Duration::from_millis(99)));
    assert_eq!(every(30_001).unwrap_err(), InvalidDashboard::Every(Duration::from_millis(30_001)));
    assert!(every(100).is_ok() && every(30_000).is_ok());
    let nobody = Dashboard::builder(&registry).max_viewers(0).build();
    assert_eq!(nobody.unwrap_err().to_string(), "1 to 10000 viewers may look at a dashboard, not 0");
}
