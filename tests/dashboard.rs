//! The live page in headless Chromium: a real gateway whose upstream dies and comes back, names that want to be markup, an
//! operator who acts, a stream that is lost. What it looks like is in `target/screenshots` afterwards.

#[path = "../examples/gateway/app/mod.rs"]
#[expect(dead_code, reason = "the live page is one of this test's own")]
mod app;
#[path = "dashboard/browser.rs"]
mod browser;
#[path = "dashboard/frame.rs"]
mod frame;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::IntoResponse,
    routing::get,
};
use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, State};
use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use buttress_telemetry::{Alerts, Dashboard, DashboardBuilder, Registry, Rule, Serving, Severity, Subject};
use buttress_testkit::{Fault, FaultProxy, RedisServer, Reply, Screen, TestDatabase, Upstream};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::sleep;
use tower::ServiceExt;

use self::{
    app::{App, Settings},
    browser::{Browser, card, state_is},
    frame::frame_of,
};

const ANYWHERE: &str = "127.0.0.1:0";

async fn serve(builder: DashboardBuilder) -> Serving {
    let address: SocketAddr = ANYWHERE.parse().unwrap();
    builder.address(address).build().unwrap().serve().await.unwrap()
}

/// An alert for every breaker that is open, or that tries whether it should be, or is held open.
fn open_breakers(registry: &Registry) -> Alerts {
    let rule = Rule::between("BreakerOpen", Subject::figure("circuit-breaker", "state"), 1.0..=3.0);
    let rule = rule.severity(Severity::Critical).summary("it refuses calls");
    Alerts::builder(registry).rule(rule).every(Duration::from_millis(100)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_dies_and_comes_back_is_seen() {
    let Some(browser) = Browser::start(Screen::DESKTOP).await else { return };
    let (database, redis, upstream) =
        (TestDatabase::new().await, RedisServer::start().await, Upstream::start().await);
    upstream
        .on("/profiles/1", Reply::ok(r#"{"bio":"wrote the first program"}"#).after(Duration::from_millis(4)));
    let proxy = FaultProxy::start(upstream.addr()).await;
    let app = App::start(Settings {
        database_url: Some(database.url()),
        redis_url: Some(redis.url()),
        upstream_url: Some(format!("http://{}", proxy.addr())),
        ..Settings::default()
    })
    .await
    .unwrap();
    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    let new = http::Request::post("/users")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(ada));
    assert_eq!(app.router().oneshot(new.unwrap()).await.unwrap().status(), 201);

    let alerts = open_breakers(app.system().registry());
    let every = Duration::from_millis(250);
    let serving = serve(Dashboard::builder(app.system().registry()).every(every).alerts(&alerts)).await;
    let load: Vec<_> = (0..4)
        .map(|_| {
            let router = app.router();
            tokio::spawn(async move {
                loop {
                    let ask = http::Request::get("/users/1/profile").body(axum::body::Body::empty()).unwrap();
                    let response = router.clone().oneshot(ask).await.unwrap();
                    response.into_body().collect().await.unwrap();
                    sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();

    browser.open(serving.address()).await;
    let stacks =
        browser.ask("return [...document.querySelectorAll('.stack h2')].map(it => it.textContent)").await;
    assert_eq!(stacks, json!(["http.profiles", "database", "redis", "On their own"]));
    let order = browser
        .ask("return [...document.querySelectorAll('.stack:first-child .card')].map(it => it.dataset.layer)")
        .await;
    assert_eq!(
        order,
        json!(["telemetry", "timeout", "retry", "circuit-breaker", "timeout", "http"]),
        "from outside in"
    );
    browser.until(&state_is("circuit-breaker", "http.profiles", "Closed")).await;
    browser.until("return document.getElementById('alerts').children.length === 0").await;
    let seen = card("telemetry", "http.profiles");
    browser
        .until(&format!("return /p99\\s+[\\d.]+ ms/.test(document.querySelector(\"{seen}\")?.innerText)"))
        .await;
    let breaker = card("circuit-breaker", "http.profiles");
    browser
        .until(&format!(
            "return document.querySelector(\"{breaker} .chart path\")?.getAttribute('d').length > 60"
        ))
        .await;
    sleep(Duration::from_secs(3)).await;
    browser.picture("light-well").await;

    proxy.set(Fault::Refuse);
    proxy.cut();
    browser.until(&state_is("circuit-breaker", "http.profiles", "Open")).await;
    let edge = format!(
        "return getComputedStyle(document.querySelector(\"{breaker}\")).borderTopColor === 'rgb(189, 43, 51)'"
    );
    browser.until(&edge).await;
    browser
        .until("return document.getElementById('alerts').innerText.includes('BreakerOpen · http.profiles')")
        .await;
    browser.until("return document.title.startsWith('1 firing · 1 open')").await;
    let refused = format!(
        "return !!document.querySelector(\"{breaker} .reasons .active\")?.innerText.includes('circuit open')"
    );
    browser.until(&refused).await;
    let other = browser.text(&format!("{} .pill", card("circuit-breaker", "redis"))).await;
    assert_eq!(other, "Closed", "the others are well");
    sleep(Duration::from_secs(2)).await;
    browser.picture("light-outage").await;
    for (screen, name) in [
        (Screen::DESKTOP.dark(), "dark-outage"),
        (Screen::PHONE, "phone-outage"),
        (Screen::PHONE.dark(), "phone-dark-outage"),
    ] {
        let another = Browser::start(screen).await.unwrap();
        another.open(serving.address()).await;
        // The charts are there at once: the page was opened now, the history was not.
        let drawn = format!(
            "return document.querySelector(\"{breaker} .chart path\")?.getAttribute('d').length > 60"
        );
        another.until(&drawn).await;
        let is_dark = another.ask("return matchMedia('(prefers-color-scheme: dark)').matches").await;
        assert_eq!(is_dark, json!(name.contains("dark")));
        another.picture(name).await;
        if name.starts_with("phone") {
            assert_eq!(another.ask("return innerWidth").await, 360);
            another.assert_nothing_is_wider_than_the_screen().await;
            another
                .ask(&format!("document.querySelector(\"{breaker}\").scrollIntoView({{ block: 'center' }})"))
                .await;
            another.picture(&format!("{name}-breaker")).await;
        }
        another.close().await;
    }

    proxy.set(Fault::Pass);
    browser.until(&state_is("circuit-breaker", "http.profiles", "Closed")).await;
    browser.until("return document.getElementById('alerts').children.length === 0").await;
    browser.until("return document.title.startsWith('Buttress')").await;
    sleep(Duration::from_secs(1)).await;
    browser.picture("light-recovered").await;

    // Slow calls, and what was called: by its template.
    proxy.set(Fault::Latency(Duration::from_millis(600)));
    browser.until("return document.querySelectorAll('.slow > li').length > 0").await;
    let slow = browser.text(".slow > li").await;
    assert!(slow.contains("http.profiles · GET /profiles/{id}"), "{slow}");
    browser.ask("document.getElementById('slow-section').scrollIntoView()").await;
    browser.picture("light-slow").await;
    load.iter().for_each(|caller| caller.abort());
    browser.close().await;
    drop(serving);
    app.close(Duration::from_secs(5)).await;
}

/// Names come from configuration, but who knows from whom that comes.
const HOSTILE: [&str; 5] = [
    "<img src=x onerror=\"window.hacked = 1\">",
    "\"><script>window.hacked = 2</script>",
    "'\\\u{2028}</script><script>window.hacked = 3</script>",
    "\u{202e}live evil \u{5d0}\u{5d1}\u{5d2} \u{627}\u{644}\u{639}\u{631}\u{628}\u{64a}\u{629}",
    "__proto__",
];

struct Hostile {
    name: &'static str,
    alive: Arc<()>,
}

impl Observe for Hostile {
    fn origin(&self) -> Origin {
        Origin::new(self.name, self.name)
    }
    fn downgrade(&self) -> WeakObserve {
        let name = self.name;
        WeakObserve::of(&self.alive, move |alive| Self { name, alive })
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new(self.name, Value::Counter(u64::MAX)));
        visit(Metric::new(self.name, Value::Gauge(f64::NAN)).with_unit(self.name));
        visit(Metric::new("rejections", Value::Counter(7)).with_label("reason", self.name));
        visit(Metric::new("huge", Value::Gauge(f64::MAX)).with_label(self.name, self.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_want_to_be_markup_are_text() {
    let Some(browser) = Browser::start(Screen::PHONE).await else { return };
    let registry = Registry::new();
    let long: &'static str = Box::leak("a-very-long-name".repeat(300).into_boxed_str());
    let names: Vec<&'static str> = HOSTILE.into_iter().chain([long]).collect();
    let handles: Vec<_> = names.iter().map(|name| Hostile { name, alive: Arc::default() }).collect();
    for handle in &handles {
        registry.stack(handle.name).layer(handle).register().unwrap();
    }
    let (alert, all) = (names.clone(), names.len());
    let serving =
        serve(Dashboard::builder(&registry).every(Duration::from_millis(100)).alerts_from(move || {
            let alert =
                |text: &&str| json!({ "rule": text, "instance": text, "severity": text, "summary": text });
            alert_list(alert, &names)
        }))
        .await;
    browser.open(serving.address()).await;
    browser.until(&format!("return document.querySelectorAll('.card').length === {all}")).await;
    browser.until(&format!("return document.getElementById('alerts').children.length === {all}")).await;
    sleep(Duration::from_millis(500)).await;
    let shown =
        browser.ask("return [...document.querySelectorAll('.card h3')].map(it => it.textContent)").await;
    assert_eq!(shown, json!(alert));
    let grown = browser
        .ask("return [window.hacked ?? null, document.querySelectorAll('script').length, document.images.length, ({}).hacked ?? null]")
        .await;
    assert_eq!(grown, json!([null, 1, 0, null]));
    browser.assert_nothing_is_wider_than_the_screen().await;
    browser.picture("hostile").await;

    // What comes from requests and errors: operations, kinds of errors, decisions, trace ids.
    let dashboard = Dashboard::builder(&registry).build().unwrap();
    let frame = format!("event: history\ndata: []\n\ndata: {}\n\n", frame_of(&alert));
    let events = move || async move { ([("content-type", "text/event-stream")], frame) };
    let routes = axum::Router::new().route("/events", get(events)).fallback_service(dashboard.router());
    let listener = tokio::net::TcpListener::bind(ANYWHERE).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    browser.client.goto(&format!("http://{address}/")).await.unwrap();
    browser.until(&format!("return document.querySelectorAll('.slow > li').length === {all}")).await;
    browser.ask("document.querySelectorAll('details').forEach(it => { it.open = true })").await;
    let text = browser.text("main").await;
    for name in
        ["<img src=x onerror=\"window.hacked = 1\">", "\"><script>window.hacked = 2</script>", "__proto__"]
    {
        assert!(text.matches(name).count() > 5, "{name}: {text}");
    }
    let grown = browser
        .ask("return [window.hacked ?? null, document.querySelectorAll('script').length, document.images.length, ({}).hacked ?? null]")
        .await;
    assert_eq!(grown, json!([null, 1, 0, null]));
    browser.assert_nothing_is_wider_than_the_screen().await;
    server.abort();
    browser.close().await;
}

fn alert_list(alert: impl Fn(&&str) -> serde_json::Value, names: &[&'static str]) -> serde_json::Value {
    names.iter().map(alert).collect()
}

fn breaker_of(registry: &Registry) -> Breaker {
    let breaker = CircuitBreakerLayer::builder("orders").build().breaker();
    registry.stack("orders").layer(&breaker).register().unwrap();
    breaker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_acts_only_where_it_is_allowed() {
    let Some(browser) = Browser::start(Screen::DESKTOP).await else { return };
    let registry = Registry::new();
    let breaker = breaker_of(&registry);
    let every = Duration::from_millis(100);
    let serving = serve(Dashboard::builder(&registry).every(every)).await;
    browser.open(serving.address()).await;
    browser.until(&state_is("circuit-breaker", "orders", "Closed")).await;
    assert_eq!(browser.ask("return document.querySelectorAll('.card button').length").await, 0);
    let act = "const done = arguments[0];
        fetch('/act', { method: 'POST', headers: { 'x-buttress-act': '1' },
            body: JSON.stringify({ layer: 'circuit-breaker', name: 'orders', action: 'force_open' }) })
            .then(it => done(it.status))";
    assert_eq!(browser.client.execute_async(act, Vec::new()).await.unwrap(), 404);
    assert_eq!(breaker.state(), State::Closed);
    drop(serving);

    let authorised = from_fn(|request: Request, next: Next| async move {
        let cookie = request.headers().get("cookie").and_then(|cookie| cookie.to_str().ok());
        if cookie.is_some_and(|cookie| cookie.contains("operator=ada")) {
            return next.run(request).await;
        }
        StatusCode::FORBIDDEN.into_response()
    });
    let serving = serve(Dashboard::builder(&registry).every(every).allow_control(authorised)).await;
    browser.open(serving.address()).await;
    click(&browser, "force_open").await;
    browser.until("return document.getElementById('told').innerText === 'Force open: Not authorised'").await;
    assert_eq!(breaker.state(), State::Closed);

    browser.ask("document.cookie = 'operator=ada'").await;
    click(&browser, "force_open").await;
    browser.until("return document.getElementById('told').innerText === 'Force open: done'").await;
    browser.until(&state_is("circuit-breaker", "orders", "Forced open")).await;
    assert_eq!(breaker.state(), State::ForcedOpen);
    browser.picture("control").await;
    click(&browser, "force_closed").await;
    browser.until(&state_is("circuit-breaker", "orders", "Forced closed")).await;
    assert_eq!(breaker.state(), State::ForcedClosed);
    click(&browser, "reset").await;
    browser.until(&state_is("circuit-breaker", "orders", "Closed")).await;
    assert_eq!(breaker.state(), State::Closed);
    browser.close().await;
}

/// By the keyboard and by the mouse, as a person would.
async fn click(browser: &Browser, action: &str) {
    let button = fantoccini::Locator::Css("#yes");
    browser.until(&format!("return !!document.querySelector(\"[data-action='{action}']\")")).await;
    let selector = format!("[data-action='{action}']");
    browser.client.find(fantoccini::Locator::Css(&selector)).await.unwrap().click().await.unwrap();
    browser.until("return document.getElementById('sure').open").await;
    browser.client.find(button).await.unwrap().click().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_stream_is_said_and_found_again() {
    let Some(browser) = Browser::start(Screen::DESKTOP).await else { return };
    let registry = Registry::new();
    let _breaker = breaker_of(&registry);
    let every = Duration::from_millis(200);
    let serving = serve(Dashboard::builder(&registry).every(every).max_viewers(1)).await;
    let address = serving.address();
    browser.open(address).await;
    assert_eq!(browser.text("#lost").await, "");

    // A second one is told why it is not let in.
    let first = browser.client.window().await.unwrap();
    let second = browser.client.new_window(true).await.unwrap().handle;
    browser.client.switch_to_window(second).await.unwrap();
    browser.client.goto(&format!("http://{address}/")).await.unwrap();
    browser
        .until(
            "return document.getElementById('lost').innerText.includes('1 look at this dashboard already')",
        )
        .await;
    browser.client.close_window().await.unwrap();
    browser.client.switch_to_window(first).await.unwrap();

    drop(serving);
    browser.until("return document.getElementById('lost').innerText.includes('The stream is lost')").await;
    browser.until("return document.getElementById('stream').innerText === 'Lost, reconnecting'").await;
    assert_eq!(browser.ask("return document.getElementById('main').classList.contains('stale')").await, true);
    browser.picture("lost").await;

    let again = Dashboard::builder(&registry).every(every).address(address).build().unwrap();
    let _serving = again.serve().await.unwrap();
    browser.until("return document.getElementById('stream').innerText === 'Live' && document.getElementById('lost').hidden").await;
    assert_eq!(
        browser.ask("return document.getElementById('main').classList.contains('stale')").await,
        false
    );
    browser.close().await;
}
