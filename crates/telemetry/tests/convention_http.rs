//! Calls over real HTTP, from both sides, as the conventions tell them.
#![cfg(all(feature = "http", feature = "axum"))]

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{Router, routing::get};
use buttress_core::{Origin, Reason, Rejected};
use buttress_http::{Body, StatusClassifier};
use buttress_telemetry::{
    CallsSnapshot, Describe, HttpClient, HttpServer, Operation, Piece, Registry, ServerStatus, Slow,
    TelemetryLayer, UrlTemplate,
};
use buttress_testkit::{Reply, Upstream, allocations};
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service, ServiceExt};

fn words<'a>(operation: &Operation<'a>) -> Vec<(&'static str, String)> {
    let word = |piece: &Piece<'a>| match piece {
        Piece::Text(text) => (*text).to_owned(),
        Piece::Number(number) => number.to_string(),
        _ => unreachable!("there is no third"),
    };
    operation.attributes().iter().map(|(key, piece)| (*key, word(piece))).collect()
}

fn calls(registry: &Registry) -> CallsSnapshot {
    registry.snapshot().calls.remove(0)
}

/// How many calls each operation had, in the order of the alphabet.
fn counts(calls: &CallsSnapshot) -> Vec<(&str, u64)> {
    let mut counts: Vec<_> = calls.operations.iter().map(|of| (&*of.operation, of.count())).collect();
    counts.sort_unstable();
    counts
}

fn errors(calls: &CallsSnapshot) -> Vec<(&str, u64)> {
    let mut errors: Vec<_> = calls.total.errors.iter().map(|error| (&*error.kind, error.count)).collect();
    errors.sort_unstable();
    errors
}

#[test]
fn a_client_tells_method_server_and_template_and_never_the_path() {
    let told = |request: &Request<()>| {
        words(&Describe::<_, Response<()>, Rejected>::operation(&HttpClient, request))
    };
    let request = |url: &str| Request::get(url).body(()).unwrap();
    assert_eq!(
        told(&request("https://hunter2:secret@api.example/users/42?token=hunter2")),
        [
            ("http.request.method", "GET".to_owned()),
            ("server.address", "api.example".to_owned()),
            ("server.port", "443".to_owned())
        ]
    );
    assert_eq!(
        told(&request("http://[::1]:8080/"))[1..],
        [("server.address", "::1".to_owned()), ("server.port", "8080".to_owned())]
    );
    assert_eq!(told(&request("/users/42")), [("http.request.method", "GET".to_owned())]);
    let mut templated = request("http://api.example/users/42");
    templated.extensions_mut().insert(UrlTemplate("/users/{id}"));
    *templated.method_mut() = "HUNTER2".parse().unwrap();
    assert_eq!(
        told(&templated)[..2],
        [("http.request.method", "_OTHER".to_owned()), ("url.template", "/users/{id}".to_owned())]
    );
}

#[tokio::test]
async fn a_clients_calls_are_told_apart_by_template_status_and_error() {
    let upstream = Upstream::start().await;
    upstream.on("/users/1", [Reply::ok("one"), Reply::status(404), Reply::status(503), Reply::disconnect()]);
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("stock", &registry).convention(HttpClient).classify(StatusClassifier);
    let client = buttress_http::HttpClient::builder().build::<Body>().unwrap();
    let client = layer.build().unwrap().layer(client);
    for _ in 0..4 {
        let request = Request::get(upstream.url() + "/users/1").extension(UrlTemplate("/users/{id}"));
        _ = client.clone().oneshot(request.body(Body::default()).unwrap()).await;
    }
    let nowhere = Request::get(upstream.url() + "/nowhere?token=hunter2").body(Body::default()).unwrap();
    assert_eq!(client.clone().oneshot(nowhere).await.unwrap().status(), 404);
    let calls = calls(&registry);
    assert_eq!(counts(&calls), [("GET", 1), ("GET /users/{id}", 4)]);
    assert_eq!(errors(&calls), [("404", 2), ("503", 1), ("transport", 1)]);
    let total = &calls.total;
    assert_eq!((total.success, total.ignored, total.failure), (1, 2, 2));
}

/// The status line, and the connection's end.
async fn ask(server: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_axum_servers_calls_are_told_apart_by_route_and_only_500_is_its_error() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("api", &registry).convention(HttpServer).classify(ServerStatus);
    let router = Router::new()
        .route("/users/{id}", get(async || "a user"))
        .route("/broken", get(async || http::StatusCode::INTERNAL_SERVER_ERROR))
        .route("/never", get(async || std::future::pending::<&str>().await))
        .nest("/v1", Router::new().route("/orders/{id}", get(async || "an order")))
        .layer(layer.build().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });

    for head in ["GET /users/1 HTTP/1.1", "GET /users/2?token=hunter2 HTTP/1.1", "GET /v1/orders/7 HTTP/1.1"]
    {
        assert_eq!(ask(server, head).await, "200");
    }
    assert_eq!(ask(server, "HUNTER2 /users/1 HTTP/1.1").await, "405");
    assert_eq!(ask(server, "GET /broken HTTP/1.1").await, "500");
    for path in 0..200 {
        assert_eq!(ask(server, &format!("GET /scan/{path} HTTP/1.1")).await, "404");
    }
    // A client that leaves.
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    while calls(&registry).in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stream);
    while calls(&registry).in_flight == 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let calls = calls(&registry);
    assert_eq!(
        counts(&calls),
        [
            ("GET", 200),
            ("GET /broken", 1),
            ("GET /never", 1),
            ("GET /users/{id}", 2),
            ("GET /v1/orders/{id}", 1),
            ("_OTHER /users/{id}", 1),
        ]
    );
    assert_eq!(errors(&calls), [("500", 1)], "404 and 405 are no errors of a server");
    let total = &calls.total;
    assert_eq!((total.success, total.ignored, total.failure, total.cancelled), (3, 201, 1, 1));
}

#[tokio::test]
async fn a_router_of_ones_own_tells_its_route_by_the_extension() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("own", &registry).convention(HttpServer).classify(ServerStatus);
    let service = layer.build().unwrap().layer(Answers(200));
    let request = || Request::get("https://x/users/1").extension(UrlTemplate("/users/{id}"));
    service.clone().oneshot(request().body(()).unwrap()).await.unwrap();
    assert_eq!(counts(&calls(&registry)), [("GET /users/{id}", 1)]);
    let request = request().body(()).unwrap();
    let operation = Describe::<_, Response<()>, Infallible>::operation(&HttpServer, &request);
    assert_eq!(words(&operation)[2], ("url.scheme", "https".to_owned()));
}

/// A refusal of our own has its reason, and no status.
#[tokio::test]
async fn a_refused_call_is_told_by_its_reason() {
    let origin = Origin::new("bulkhead", "told by its reason");
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("refused", &registry).convention(HttpClient).build().unwrap();
    let service = layer.layer(tower::service_fn(move |_: Request<()>| {
        ready(Err::<Response<()>, _>(origin.reject(Reason::Overloaded)))
    }));
    service.clone().oneshot(Request::get("http://x/").body(()).unwrap()).await.unwrap_err();
    let calls = calls(&registry);
    assert_eq!((errors(&calls), calls.total.rejected), (vec![("overloaded", 1)], 1));
}

#[derive(Clone)]
struct Answers(u16);

impl<B> Service<Request<B>> for Answers {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut response = Response::new(());
        *response.status_mut() = self.0.try_into().unwrap();
        ready(Ok(response))
    }
}

#[tokio::test]
async fn a_call_of_a_known_operation_allocates_nothing() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("allocations", &registry)
        .convention(HttpServer)
        .classify(ServerStatus)
        .slow(Slow::After(Duration::MAX))
        .build()
        .unwrap();
    for status in [200, 404, 503] {
        let mut service = layer.layer(Answers(status));
        let mut call = |request| {
            let mut future = pin!(service.call(request));
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        };
        let requests = || {
            let request = |at: usize| {
                let route = ["/users/{id}", "/orders/{id}", "/broken"][at % 3];
                Request::post("/users/1").extension(UrlTemplate(route)).body(()).unwrap()
            };
            (0..300).map(request).collect::<Vec<_>>()
        };
        requests().into_iter().for_each(&mut call);
        let warm = requests();
        // Each time may lie in a part of the range that was not seen yet.
        let counted = allocations(|| warm.into_iter().for_each(call));
        assert!(counted.count < 3, "{counted:?}");
    }
}
