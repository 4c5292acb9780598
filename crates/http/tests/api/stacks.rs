//! The stack below: its layers work as they do elsewhere, and its futures can go anywhere.

use buttress_circuit_breaker::{CircuitBreakerLayer, Trip};
use buttress_core::{BoxError, Reason, Rejectable, Rejected};
use buttress_http::{
    ApiBody, ApiClient, ApiError, ApiRequest, ApiResponse, Body, EXPECTED_TIMEOUT, Error, HttpClient,
    IdempotencyKey, Idempotent, Sending, StatusClassifier,
};
use buttress_retry::RetryLayer;
use buttress_testkit::{Reply, Upstream};
use buttress_timeout::TimeoutLayer;
use tokio::{io::AsyncReadExt, net::TcpListener};
use tower::{ServiceBuilder, ServiceExt};

use crate::{builder, client, get, http, ms, soon};

fn stacked(upstream: &Upstream, name: &str) -> ApiClient {
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(name).classify(StatusClassifier).requests(Idempotent))
        .layer(
            CircuitBreakerLayer::builder(name)
                .classify(StatusClassifier)
                .trip(Trip::consecutive(5).unwrap())
                .build(),
        )
        .layer(TimeoutLayer::new(ms(200)).name(name))
        .service(http());
    builder(upstream.url()).build(stack).unwrap()
}

#[tokio::test]
async fn a_whole_stack_repeats_and_its_calls_can_be_spawned() {
    let upstream = Upstream::start().await;
    upstream.on("/a", [Reply::status(503), Reply::never(), Reply::ok("done")]);
    let client = stacked(&upstream, "repeats");
    let task = tokio::spawn(async move {
        let answer = client.put("/a").json(&[1]).send().await?;
        answer.error_for_status().await?.text().await
    });
    assert_eq!(soon(async { task.await.unwrap() }).await.unwrap(), "done");
    let bodies: Vec<_> = upstream.requests().iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies, ["[1]"; 3]);
}

#[tokio::test]
async fn a_key_lets_a_post_be_repeated_and_stays_with_the_request_it_was_given_to() {
    let (home, abroad) = (Upstream::start().await, Upstream::start().await);
    let key = IdempotencyKey::random();
    let sent = http::HeaderValue::from(key.clone());
    let keys = |upstream: &Upstream| -> Vec<_> {
        upstream.requests().iter().map(|seen| seen.headers.get("idempotency-key") == Some(&sent)).collect()
    };
    home.on("/once", Reply::status(503));
    home.on("/a", [Reply::status(503), Reply::status(307).header("location", "/b")]);
    home.on("/b", [Reply::status(503), Reply::status(303).header("location", "/c")]);
    home.on("/c", Reply::ok("done"));
    home.on("/away", Reply::status(307).header("location", &format!("{}/", abroad.url())));
    let client = stacked(&home, "keys");
    assert_eq!(soon(client.post("/once").json(&[1]).send()).await.unwrap().status(), 503);
    assert_eq!(home.requests().len(), 1, "without a key");
    let answer = soon(client.post("/a").json(&[1]).idempotency_key(key.clone()).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    assert_eq!(keys(&home), [false, true, true, true, true, false]);
    soon(client.post("/away").idempotency_key(key).send()).await.unwrap();
    assert_eq!(keys(&abroad), [false]);
}

#[tokio::test]
async fn each_attempt_tells_the_server_what_is_left_of_the_calls_time() {
    let upstream = Upstream::start().await;
    upstream.on("/a", [Reply::status(503), Reply::status(302).header("location", "/b")]);
    upstream.on("/b", Reply::ok("done"));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new("tells").classify(StatusClassifier).requests(Idempotent))
        .service(HttpClient::builder().deadline_header(EXPECTED_TIMEOUT).build::<Body>().unwrap());
    let client = builder(upstream.url()).timeout(ms(4000)).build(stack).unwrap();
    soon(client.get("/a").send()).await.unwrap();
    let seen = upstream.requests();
    let told = seen.iter().map(|seen| seen.headers[EXPECTED_TIMEOUT].to_str().unwrap().parse().unwrap());
    let left: Vec<u64> = told.collect();
    assert!(left.len() == 3 && left[0] <= 4000 && left.is_sorted_by(|a, b| a >= b), "{left:?}");
}

#[tokio::test]
async fn a_layers_refusal_is_one_match_away() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(500));
    let client = stacked(&upstream, "refuses");
    let error = loop {
        match soon(client.post("/a").send()).await {
            Ok(answer) => assert_eq!(answer.status(), 500),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, ApiError::Call(Error::Rejected(_))), "{error:?}");
    assert_eq!(error.rejected().map(Rejected::reason), Some(Reason::CircuitOpen));
    assert!(!error.sent());
    assert_eq!(upstream.requests().len(), 5);
}

#[tokio::test]
async fn each_hop_of_a_redirect_passes_the_stack() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(302).header("location", "/b"));
    upstream.on("/b", [Reply::status(503), Reply::ok("done")]);
    let answer = get(&stacked(&upstream, "hops"), "/a").await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    assert_eq!(upstream.requests().len(), 3);
}

#[derive(Debug)]
struct Foreign;
impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a foreign layer")
    }
}
impl std::error::Error for Foreign {}

#[tokio::test]
async fn boxed_errors_are_unpacked_to_what_they_are() {
    let boxed = |make: fn(Error) -> BoxError| {
        let stack = http().map_err(make);
        builder("http://127.0.0.1:1").build(stack).unwrap()
    };
    let error = get(&boxed(Into::into), "/").await.unwrap_err();
    assert!(matches!(&error, ApiError::Call(Error::Connect { .. })) && !error.sent(), "{error:?}");
    assert!(!error.is_timeout());
    let error = get(&boxed(|_| Foreign.into()), "/").await.unwrap_err();
    assert!(matches!(&error, ApiError::Stack(_)) && error.sent(), "{error:?}");
    assert_eq!(error.to_string(), "a foreign layer");
    let refuse = |_| buttress_core::Origin::new("timeout", "boxed").reject(Reason::Closed).into();
    let error = get(&boxed(refuse), "/").await.unwrap_err();
    assert!(matches!(&error, ApiError::Call(Error::Rejected(_))) && !error.sent(), "{error:?}");
    assert!(!error.is_timeout());
    // A layer that wraps what it is given hides neither.
    let wrapped = |_| {
        let rejected = buttress_core::Origin::new("timeout", "boxed").reject(Reason::TimedOut);
        std::io::Error::other(rejected).into()
    };
    let error = get(&boxed(wrapped), "/").await.unwrap_err();
    assert!(matches!(&error, ApiError::Stack(_)) && error.is_timeout() && !error.sent(), "{error:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_is_given_up_and_the_next_one_works() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = builder(format!("http://{}", listener.local_addr().unwrap())).build(http()).unwrap();
    let call = tokio::spawn(client.get("/").send());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.unwrap());
    }
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let rest = tokio::time::timeout(ms(5000), stream.read_to_end(&mut seen)).await.expect("it stays open");
    assert_eq!(rest.unwrap(), 0, "the connection is closed");

    let upstream = Upstream::start().await;
    upstream.on("/stalls", Reply::ok("x".repeat(100)).stall_after(10));
    upstream.on("/a", Reply::ok("done"));
    let client = self::client(&upstream);
    drop(client.get("/a").send());
    assert_eq!(upstream.connections(), 0, "nothing happens before the first poll");
    drop(get(&client, "/stalls").await.unwrap());
    assert_eq!(get(&client, "/a").await.unwrap().text().await.unwrap(), "done");
}

#[test]
fn everything_can_be_sent_and_the_client_shared() {
    fn send<T: Send + 'static>() {}
    fn sync<T: Send + Sync + Clone + std::fmt::Debug + 'static>() {}
    sync::<ApiClient>();
    send::<ApiRequest<'static>>();
    send::<Sending>();
    send::<ApiResponse>();
    send::<ApiBody>();
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<ApiError>();
    assert!(size_of::<ApiError>() <= 64, "{}", size_of::<ApiError>());
}
