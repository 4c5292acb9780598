//! What the gateway answers, on real servers, and what it says of a wrong configuration.

#[path = "../examples/gateway/app/mod.rs"]
mod app;

use std::{net::SocketAddr, process::Stdio, time::Duration};

use axum::{Router, body::Body};
use buttress::postgres::Query;
use buttress_http::HttpClient;
use buttress_testkit::{
    Fault, FaultProxy, PostgresServer, RedisServer, Reply, TestDatabase, Upstream, example,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};
use tower::ServiceExt;

use self::app::{App, Settings};

async fn ask(router: &Router, method: Method, path: &str, body: &str) -> (u16, HeaderMap, Value) {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default())
}

async fn get(router: &Router, path: &str) -> (u16, HeaderMap, Value) {
    ask(router, Method::GET, path, "").await
}

/// What the gateway's live page answers.
async fn page(address: SocketAddr, path: &str) -> String {
    let client = HttpClient::builder().build::<Empty<Bytes>>().unwrap();
    let request = Request::get(format!("http://{address}{path}")).body(Empty::new()).unwrap();
    let response = client.oneshot(request).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_profiles_and_health_on_real_servers() {
    let (database, redis, upstream) =
        (TestDatabase::new().await, RedisServer::start().await, Upstream::start().await);
    upstream.on("/profiles/1", Reply::ok(r#"{"bio":"wrote the first program"}"#));
    let app = App::start(Settings {
        config: None,
        database_url: Some(database.url()),
        redis_url: Some(redis.url()),
        upstream_url: Some(upstream.url()),
        dashboard: Some("127.0.0.1:0".parse().unwrap()),
        throw_away: false,
    })
    .await
    .unwrap();
    assert_eq!(app.description(), "your Postgres, your Redis and your upstream");
    let router = app.router();

    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    let (status, headers, user) = ask(&router, Method::POST, "/users", ada).await;
    assert_eq!((status, &headers["location"]), (201, &"/users/1".parse().unwrap()));
    assert_eq!(user, json!({ "id": 1, "name": "Ada", "email": "ada@example.com" }));
    assert_eq!(get(&router, "/users/1").await.2, user);
    let (status, _, profile) = get(&router, "/users/1/profile").await;
    assert_eq!(
        (status, profile),
        (200, json!({ "user": user, "profile": { "bio": "wrote the first program" } }))
    );
    app.system().health().wait_ready(Duration::from_secs(5)).await.unwrap();
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(get(&router, path).await.0, 200, "{path}");
    }

    // Whatever is wrong with a request is said as a problem, and nothing is written.
    let wrong = [
        ("{\"name\":\"Ada\"", 400),
        ("{\"name\":\"Eve\"}", 400),
        ("{\"name\":\"Eve\",\"email\":\"eve@example.com\",\"admin\":true}", 400),
        ("{\"name\":7,\"email\":\"eve@example.com\"}", 400),
        ("{\"name\":\" \",\"email\":\"eve@example.com\"}", 400),
        ("{\"name\":\"Eve\",\"email\":\"eve\"}", 400),
        ("{\"name\":\"E\\u0000\",\"email\":\"eve@example.com\"}", 400),
        (ada, 409),
    ];
    for (body, expected) in wrong {
        let (status, headers, problem) = ask(&router, Method::POST, "/users", body).await;
        assert_eq!((status, &problem["status"]), (expected, &json!(expected)), "{body}: {problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
    }
    assert_eq!(get(&router, "/users/2").await.0, 404);
    assert_eq!(get(&router, "/users/ada").await.0, 400);
    // So is a path that is none, and a method that is none of its path.
    for (method, path, expected) in [(Method::GET, "/user", 404), (Method::DELETE, "/users", 405)] {
        let (status, headers, problem) = ask(&router, method, path, "").await;
        assert_eq!((status, &problem["status"]), (expected, &json!(expected)), "{path}: {problem}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(
            headers.get("allow").map(http::HeaderValue::as_bytes),
            (status == 405).then_some(&b"POST"[..])
        );
    }

    let seen: Value =
        serde_json::from_str(&page(app.system().dashboard().unwrap(), "/snapshot.json").await).unwrap();
    let stacks: Vec<_> = seen["now"]["stacks"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(stacks, ["http.profiles", "database", "redis"]);
    assert!(page(app.system().dashboard().unwrap(), "/").await.starts_with("<!doctype html>"));

    redis.kill().await;
    assert_eq!(get(&router, "/users/1").await.0, 200, "with Redis gone the database answers");
    let report = app.close(Duration::from_secs(5)).await;
    assert!(report.is_clean(), "{report}");
}

async fn order(router: &Router, key: &str, body: &str) -> (u16, Value) {
    let request =
        Request::post("/orders").header("content-type", "application/json").header("idempotency-key", key);
    let response = router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// Of the worker's queue, what an order needs.
const QUEUE: &str = "create table worker_jobs (kind text, payload jsonb, key text unique, run_at timestamptz, max_attempts int)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_placed_once_for_each_key_with_its_job() {
    let database = TestDatabase::new().await;
    let settings = Settings { database_url: Some(database.url()), ..Settings::default() };
    let app = App::start(settings).await.unwrap();
    let router = app.router();
    let tea = r#"{"item":"tea","quantity":2}"#;

    let (status, problem) = order(&router, "a", tea).await;
    assert_eq!(status, 503, "there is no queue yet: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains("--example worker"), "{problem}");
    app.system().execute(Query::new(QUEUE)).await.unwrap();

    // All of them at once, as clients do that have no patience.
    let all = (0..16).map(|_| {
        let router = router.clone();
        tokio::spawn(async move { order(&router, "a", tea).await })
    });
    let mut statuses = Vec::new();
    for one in all.collect::<Vec<_>>() {
        let (status, placed) = one.await.unwrap();
        assert_eq!(placed, json!({ "id": placed["id"], "item": "tea", "quantity": 2 }));
        statuses.push(status);
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[14], statuses[15]), (200, 200, 201), "{statuses:?}");
    assert_eq!(order(&router, "b", tea).await.0, 201);
    let counts = "select (select count(*) from orders), (select count(*) from worker_jobs), (select min(key) from worker_jobs)";
    let row = app.system().query(Query::new(counts)).await.unwrap();
    let counts: (i64, i64, String) = row.one().unwrap().read().unwrap();
    assert_eq!(counts, (2, 2, "order/a".into()));

    let wrong = [
        ("a", r#"{"item":"tea","quantity":3}"#, 422),
        ("", tea, 400),
        ("c", r#"{"item":"tea","quantity":0}"#, 400),
        ("c", r#"{"item":"t\u0000","quantity":1}"#, 400),
        ("c", r#"{"item":"tea"}"#, 400),
    ];
    for (key, body, expected) in wrong {
        let (status, problem) = order(&router, key, body).await;
        assert_eq!((status, &problem["status"]), (expected, &json!(expected)), "{body}: {problem}");
    }
    assert_eq!(ask(&router, Method::POST, "/orders", tea).await.0, 400, "without a key");
    app.close(Duration::from_secs(5)).await;
}

/// An application whose Redis can go away.
async fn behind_a_proxy(database: &TestDatabase, redis: &RedisServer) -> (App, FaultProxy) {
    let proxy = FaultProxy::start(redis.addr()).await;
    let settings = Settings {
        database_url: Some(database.url()),
        redis_url: Some(format!("redis://{}", proxy.addr())),
        ..Settings::default()
    };
    (App::start(settings).await.unwrap(), proxy)
}

/// A cache that does not answer costs one caller its patience now and then, not each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_in_a_black_hole_costs_next_to_nothing() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (app, proxy) = behind_a_proxy(&database, &redis).await;
    let router = app.router();
    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    assert_eq!(ask(&router, Method::POST, "/users", ada).await.0, 201);
    proxy.set(Fault::BlackHole);
    let mut times = Vec::new();
    for id in 1000..1050 {
        let began = Instant::now();
        assert_eq!(get(&router, &format!("/users/{id}")).await.0, 404);
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[25] < Duration::from_millis(25), "{times:?}");
    app.close(Duration::from_secs(1)).await;
}

/// Nor does a value cost it that is to be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_does_not_take_is_not_waited_for() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (app, proxy) = behind_a_proxy(&database, &redis).await;
    let many = "insert into users (name, email) select 'Ada', format('%s@example.com', n) from generate_series(1, 50) as n";
    app.system().execute(Query::new(many)).await.unwrap();
    let router = app.router();
    proxy.set(Fault::BlackHole);
    let mut times = Vec::new();
    for id in 1..=50 {
        let began = Instant::now();
        assert_eq!(get(&router, &format!("/users/{id}")).await.0, 200);
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[25] < Duration::from_millis(25), "{times:?}");
    app.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_away_is_503_and_when_to_come_back() {
    let database = PostgresServer::start().await;
    let settings = Settings { database_url: Some(database.url()), ..Settings::default() };
    let router = App::start(settings).await.unwrap().router();
    assert_eq!(get(&router, "/users/1").await.0, 404);
    database.kill().await;
    // Its attempts are fewer failures than the breaker opens after.
    let (status, headers, problem) = get(&router, "/users/1").await;
    assert_eq!(
        (status, problem["detail"].as_str()),
        (503, None),
        "it is the database's own failure: {problem}"
    );
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["retry-after"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_it_says_what_to_set() {
    let app = App::start(Settings::default()).await.unwrap();
    assert_eq!(app.system().dashboard(), None, "nobody asked for one");
    assert_eq!(
        app.description(),
        "no database (set DATABASE_URL), memory in place of Redis and a built-in upstream"
    );
    let router = app.router();
    for path in ["/users/1", "/users/1/profile"] {
        let (status, headers, problem) = get(&router, path).await;
        assert_eq!((status, &headers["content-type"]), (503, &"application/problem+json".parse().unwrap()));
        assert!(problem["detail"].as_str().unwrap().contains("set DATABASE_URL"), "{problem}");
    }
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/healthz", 503)] {
        assert_eq!(get(&router, path).await.0, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_configuration_is_one_line_and_exit_code_2() {
    let secret = "pa55word";
    for (name, value, says) in [
        ("DATABASE_URL", format!("mysql://root:{secret}@localhost/x"), "must begin with postgres://"),
        (
            "DATABASE_URL",
            format!("postgres://root:{secret}@127.0.0.1:1/x"),
            "DATABASE_URL: postgres `database`",
        ),
        ("REDIS_URL", format!("http://root:{secret}@localhost"), "REDIS_URL: "),
        ("UPSTREAM_URL", "nowhere".to_owned(), "UPSTREAM_URL: "),
        ("GATEWAY_DASHBOARD", "9900".to_owned(), "GATEWAY_DASHBOARD: "),
        ("GATEWAY_METRICS", "9901".to_owned(), "GATEWAY_METRICS: "),
        ("GATEWAY_DEADLINE", "soon".to_owned(), "GATEWAY_DEADLINE: "),
        // No clock goes so far.
        ("GATEWAY_DEADLINE", "300000000000y".to_owned(), "GATEWAY_DEADLINE: "),
        ("GATEWAY_CONFIG", "/nowhere.toml".to_owned(), "/nowhere.toml: there is no such file"),
    ] {
        let output = Command::new(example("gateway"))
            .env("GATEWAY_ADDR", "127.0.0.1:0")
            .env("RUST_LOG", "off")
            .env(name, &value)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("gateway: ")).collect();
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {stderr}");
        assert_eq!(told.len(), 1, "{stderr}");
        assert!(told[0].contains(says) && !stderr.contains(secret), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}
