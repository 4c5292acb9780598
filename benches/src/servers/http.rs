//! Small answers of an nginx over connections that are kept, 64 at a time.

use std::{future::Future, time::Duration};

use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_http::{ApiClient, Body, HttpClient, Idempotent, StatusClassifier};
use buttress_rate_limit::{Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{Registry, TelemetryLayer};
use buttress_testkit::Nginx;
use buttress_timeout::TimeoutLayer;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use super::ServerRow;

const CALLERS: u64 = 64;
const ANSWER: &str = "hello, this is a small answer";

/// The rows, and the server that must live as long as they do.
pub(super) async fn rows() -> (Vec<ServerRow>, Nginx) {
    let site = format!("keepalive_requests 1000000000; location / {{ return 200 '{ANSWER}'; }}");
    let nginx = Nginx::start(&site).await;
    let url = format!("{}/small", nginx.url());
    let uri: Uri = url.parse().expect("it is valid");

    let hyper = {
        let client = hyper_client();
        let uri = uri.clone();
        row("http", "hyper-util 64", move || {
            let (client, request) = (client.clone(), request(&uri));
            async move { body(client.request(request).await.expect("nginx is up")).await }
        })
    };
    let thin = {
        let client = HttpClient::builder().build::<Full<Bytes>>().expect("it is valid");
        row("http", "buttress thin 64", move || {
            let (mut client, request) = (client.clone(), request(&uri));
            async move {
                let ready = client.ready().await.expect("it is always ready");
                body(ready.call(request).await.expect("nginx is up")).await
            }
        })
    };
    let reqwest = {
        let client = reqwest::Client::new();
        let url: reqwest::Url = url.parse().expect("it is valid");
        row("http", "reqwest 64", move || {
            let (client, url) = (client.clone(), url.clone());
            async move { client.get(url).send().await.expect("nginx is up").bytes().await.expect("it is short") }
        })
    };
    let middleware = {
        let policy = ExponentialBackoff::builder().build_with_max_retries(2);
        let retry = RetryTransientMiddleware::new_with_policy(policy);
        let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(retry).build();
        let url: reqwest::Url = url.parse().expect("it is valid");
        row("http", "reqwest-middleware retry 64", move || {
            let (client, url) = (client.clone(), url.clone());
            async move { client.get(url).send().await.expect("nginx is up").bytes().await.expect("it is short") }
        })
    };
    let layers = {
        let layers = stack(HttpClient::builder().build::<Body>().expect("it is valid"));
        let stack = TimeoutLayer::new(Duration::from_secs(30)).name("total").layer(layers);
        let uri: Uri = url.parse().expect("it is valid");
        row("http", "buttress layers 64", move || {
            let mut stack = stack.clone();
            let request = Request::get(uri.clone()).body(Body::empty()).expect("it is valid");
            async move {
                let ready = stack.ready().await.expect("it is always ready");
                body(ready.call(request).await.expect("nginx is up")).await
            }
        })
    };
    let api = {
        let stack = stack(HttpClient::builder().build::<Body>().expect("it is valid"));
        let client = ApiClient::builder("bench").base_url(nginx.url()).build(stack).expect("it is valid");
        row("http", "buttress client 64", move || {
            let client = client.clone();
            async move {
                let answer = client.get("/small").send().await.expect("nginx is up");
                answer.bytes().await.expect("it is short")
            }
        })
    };
    (vec![hyper, thin, layers, api, reqwest, middleware], nginx)
}

/// A whole client's, but for the total time: none of its limits is reached.
fn stack<S, B>(
    client: S,
) -> impl Service<Request<Body>, Response = Response<B>, Error = buttress_http::Error, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    S: Service<Request<Body>, Response = Response<B>, Error = buttress_http::Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
{
    let rate = Rate::try_new(1_000_000_000, Duration::from_secs(1)).expect("it is valid");
    let limit = Limit::fixed(1_000).expect("it is valid");
    let telemetry = TelemetryLayer::builder("client", &Registry::new())
        .convention(buttress_telemetry::HttpClient)
        .classify(StatusClassifier)
        .build()
        .expect("the registry is empty");
    ServiceBuilder::new()
        .layer(telemetry)
        .layer(RateLimitLayer::new("client", rate))
        .layer(RetryLayer::new("client").classify(StatusClassifier).requests(Idempotent))
        .layer(CircuitBreakerLayer::builder("client").classify(StatusClassifier).build())
        .layer(TimeoutLayer::new(Duration::from_secs(10)).name("attempt"))
        .layer(BulkheadLayer::new("client", limit))
        .service(client)
}

fn hyper_client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

fn request(uri: &Uri) -> Request<Full<Bytes>> {
    Request::get(uri.clone()).body(Full::default()).expect("it is valid")
}

async fn body<B>(response: Response<B>) -> Bytes
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    response.into_body().collect().await.expect("it is short").to_bytes()
}

/// Calls of 64 callers, each of which takes the time of each of its calls.
pub(super) fn row<F>(
    group: &'static str,
    name: &'static str,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> ServerRow
where
    F: Future<Output = Bytes> + Send + 'static,
{
    super::timed(group, name, CALLERS, move || {
        let answer = call();
        async move { assert_eq!(answer.await, ANSWER) }
    })
}
