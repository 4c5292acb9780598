//! What is sent again to a real server, and what is not.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use buttress_core::Backoff;
use buttress_hedge::HedgeLayer;
use buttress_http::{Body, Error, HttpClient, IdempotencyKey, Idempotent, ResponseBody, StatusClassifier};
use buttress_retry::{Retry, RetryLayer};
use buttress_testkit::{Recorded, Reply, Upstream};
use buttress_timeout::{Timeout, TimeoutLayer};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use support::{answer, ms, read, read_head, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

type Client = HttpClient<Body>;
type Stack = Retry<Timeout<Client>, StatusClassifier, Idempotent>;

/// Retries soon, each attempt within 300 ms.
fn stack(client: &Client) -> Stack {
    ServiceBuilder::new()
        .layer(
            RetryLayer::new("stock")
                .classify(StatusClassifier)
                .requests(Idempotent)
                .backoff(Backoff::exponential(ms(10), ms(2000)).unwrap()),
        )
        .layer(TimeoutLayer::new(ms(300)).name("stock attempt"))
        .service(client.clone())
}

fn client() -> Client {
    HttpClient::builder().build().unwrap()
}

async fn call(request: Request<Body>) -> Result<Response<ResponseBody>, Error> {
    let mut stack = stack(&client());
    stack.ready().await?.call(request).await
}

fn request(method: Method, url: String, key: Option<IdempotencyKey>, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(key) = key {
        request = request.header(IdempotencyKey::HEADER, key);
    }
    request.body(body).unwrap()
}

/// A stream of so many bytes, in pieces of 7 000, and what they are.
fn streamed(length: usize) -> (Body, Bytes) {
    let bytes: Bytes = (0..length).map(|n| (n % 251) as u8).collect();
    let pieces: Vec<_> =
        (0..length).step_by(7_000).map(|at| bytes.slice(at..length.min(at + 7_000))).collect();
    (Body::stream(stream::iter(pieces).map(Ok::<_, Error>)), bytes)
}

fn key(request: &Recorded) -> Option<&str> {
    request.headers.get("idempotency-key").map(|key| key.to_str().unwrap())
}

async fn refusing(times: usize) -> Upstream {
    let upstream = Upstream::start().await;
    let mut script = vec![Reply::status(503).body("busy"); times];
    script.push(Reply::ok("done"));
    upstream.on("/orders", script);
    upstream
}

#[tokio::test]
async fn a_streamed_post_with_a_key_arrives_whole_at_each_attempt_with_the_same_key() {
    let upstream = refusing(2).await;
    let (body, bytes) = streamed(60_000);
    let url = upstream.url() + "/orders";
    let response = call(request(Method::POST, url, Some(IdempotencyKey::random()), body)).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), "done");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.body == bytes && request.method == Method::POST));
    assert!(key(&requests[0]).is_some() && requests.iter().all(|request| key(request) == key(&requests[0])));
}

#[tokio::test]
async fn a_streamed_body_that_is_too_long_is_sent_whole_and_once() {
    let upstream = refusing(2).await;
    let (body, bytes) = streamed(300_000);
    let response = call(request(Method::PUT, upstream.url() + "/orders", None, body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(read(response.into_body()).await.unwrap(), "busy", "the answer stands, and can be read");
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].body == bytes);
}

#[tokio::test]
async fn a_held_put_is_sent_again_at_any_size() {
    let upstream = refusing(2).await;
    let bytes = Bytes::from(vec![7; 300_000]);
    let body = Body::from(bytes.clone());
    let response = call(request(Method::PUT, upstream.url() + "/orders", None, body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.body == bytes));
    assert!(requests.iter().all(|request| request.headers["content-length"] == "300000"));
}

#[tokio::test]
async fn a_post_without_a_key_is_sent_once() {
    let upstream = refusing(1).await;
    for empty in [None, Some(""), Some(" ")] {
        let mut request = request(Method::POST, upstream.url() + "/orders", None, Body::from("1"));
        if let Some(empty) = empty {
            request.headers_mut().insert(IdempotencyKey::HEADER, empty.parse().unwrap());
        }
        upstream.on("/orders", [Reply::status(503), Reply::ok("done")]);
        assert_eq!(call(request).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(upstream.requests().len(), 3);
    upstream.on("/orders", Reply::disconnect());
    let error =
        call(request(Method::POST, upstream.url() + "/orders", None, Body::from("1"))).await.unwrap_err();
    assert!(error.sent());
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn a_post_that_was_not_sent_is_sent_again() {
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = client();
    for body in [Body::from("1"), streamed(10).0] {
        let before = client.connections().failed();
        let request = request(Method::POST, format!("http://{addr}/orders"), None, body);
        let error = stack(&client).oneshot(request).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert_eq!(client.connections().failed() - before, 3);
    }
}

#[tokio::test]
async fn the_stream_goes_on_after_an_attempt_that_was_given_up_in_the_middle() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Reply::ok("done"));
    let (send, receive) = mpsc::channel(8);
    let frames = stream::unfold(receive, async |mut receive: mpsc::Receiver<Frame<Bytes>>| {
        receive.recv().await.map(|frame| (Ok::<_, Error>(frame), receive))
    });
    let body = Body::new(StreamBody::new(frames));
    let call = tokio::spawn(call(request(Method::PUT, upstream.url() + "/orders", None, body)));
    let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
    send.send(data("first ")).await.unwrap();
    // The first attempt has 300 ms.
    tokio::time::sleep(ms(400)).await;
    send.send(data("second")).await.unwrap();
    let trailers = HeaderMap::from_iter([(http::header::ETAG, "\"7\"".parse().unwrap())]);
    send.send(Frame::trailers(trailers)).await.unwrap();
    drop(send);
    assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    let requests = upstream.requests();
    assert_eq!((requests.len(), &*requests[0].body), (1, &b"first second"[..]));
    assert_eq!(upstream.connections(), 2);
}

/// The server answers before it has read the request, and keeps the connection: hyper goes on sending on a task of its own.
#[tokio::test]
async fn an_early_refusal_leaves_the_stream_to_the_next_attempt_and_a_torn_request_behind() {
    let (send_received, mut received) = mpsc::unbounded_channel();
    let addr = server(move |mut stream: TcpStream, number| {
        let received = send_received.clone();
        async move {
            read_head(&mut stream).await?;
            let mut body = Vec::new();
            if number == 0 {
                stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await?;
                stream.read_to_end(&mut body).await?;
            } else {
                while !body.ends_with(b"0\r\n\r\n") {
                    body.push(stream.read_u8().await?);
                }
                answer(&mut stream, "done").await?;
            }
            let _ = received.send((number, String::from_utf8(body).unwrap()));
            Ok(())
        }
    })
    .await;
    let (send, receive) = mpsc::channel::<&str>(8);
    let pieces = stream::unfold(receive, async |mut receive: mpsc::Receiver<_>| {
        receive.recv().await.map(|piece| (Ok::<_, Error>(piece), receive))
    });
    let request = request(Method::PUT, format!("http://{addr}/orders"), None, Body::stream(pieces));
    let call = tokio::spawn(call(request));
    send.send("first ").await.unwrap();
    tokio::time::sleep(ms(100)).await;
    send.send("second").await.unwrap();
    drop(send);
    assert_eq!(read(call.await.unwrap().unwrap().into_body()).await.unwrap(), "done");
    let mut all = [received.recv().await.unwrap(), received.recv().await.unwrap()];
    all.sort();
    assert_eq!(all[0], (0, "6\r\nfirst \r\n".to_owned()), "without its last chunk it is no request");
    assert_eq!(all[1], (1, "6\r\nfirst \r\n6\r\nsecond\r\n0\r\n\r\n".to_owned()));
}

#[tokio::test]
async fn a_stream_that_fails_ends_the_call_at_once() {
    let (upstream, client) = (refusing(0).await, client());
    let body = Body::stream(stream::iter([Ok("first"), Err("the disk is gone")]));
    let request = request(Method::PUT, upstream.url() + "/orders", None, body);
    let error = stack(&client).oneshot(request).await.unwrap_err();
    assert!(matches!(error, Error::Aborted { .. }), "{error:?}");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert_eq!((upstream.requests().len(), client.connections().opened()), (0, 1));
}

#[tokio::test]
async fn regression_17_the_refused_answer_does_not_hold_its_connection_while_the_retry_waits() {
    let upstream = Upstream::start().await;
    let refusal = Reply::status(503).header("retry-after", "1").body("x".repeat(30_000));
    upstream.on("/orders", [refusal, Reply::ok("done")]);
    upstream.on("/items", Reply::ok("7"));
    let (client, start) = (client(), Instant::now());
    let (body, bytes) = streamed(50_000);
    let retried = request(Method::PUT, upstream.url() + "/orders", None, body);
    let retried = tokio::spawn(stack(&client).oneshot(retried));
    tokio::time::sleep(ms(500)).await;
    assert_eq!(upstream.requests().len(), 1, "it waits as it was told");
    let other = request(Method::GET, upstream.url() + "/items", None, Body::empty());
    let other = stack(&client).oneshot(other).await.unwrap();
    assert_eq!(read(other.into_body()).await.unwrap(), "7");
    assert_eq!(upstream.connections(), 1, "the connection was free in the meantime");
    assert_eq!(retried.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!((ms(1000)..ms(2000)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let requests = upstream.requests();
    assert!(requests.len() == 3 && requests[0].body == bytes && requests[2].body == bytes);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_hedge_sends_alone_what_is_held_and_idempotent_by_its_method() {
    let slow = || [Reply::ok("slow").after(ms(600)), Reply::ok("fast")];
    let upstream = Upstream::start().await;
    let call = async |method: Method, key: Option<IdempotencyKey>, body: Body| {
        upstream.on("/orders", slow());
        let before = upstream.requests().len();
        let request = request(method, upstream.url() + "/orders", key, body);
        let hedge = HedgeLayer::new("stock", Idempotent).delay(ms(100)).classify(StatusClassifier);
        let response = ServiceBuilder::new().layer(hedge).service(client()).oneshot(request).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (text, upstream.requests().len() - before)
    };
    let (fast, slow) = ((Bytes::from("fast"), 2), (Bytes::from("slow"), 1));
    assert_eq!(call(Method::GET, None, Body::empty()).await, fast);
    assert_eq!(call(Method::PUT, None, Body::from("1")).await, fast);
    assert_eq!(call(Method::POST, Some(IdempotencyKey::random()), Body::from("1")).await, slow);
    assert_eq!(call(Method::POST, None, Body::from("1")).await, slow);
    assert_eq!(call(Method::PUT, None, streamed(10_000).0).await, slow, "two cannot read one stream");
}

/// Counts itself while it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn bytes(alive: &Arc<AtomicUsize>, most: &AtomicUsize) -> Bytes {
        most.fetch_max(alive.fetch_add(1, Relaxed) + 1, Relaxed);
        Bytes::from_owner(Self(Arc::clone(alive)))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &[7; 16 * 1024]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[tokio::test]
async fn a_long_stream_is_not_held_for_a_copy_that_cannot_be_sent() {
    let upstream = refusing(1).await;
    let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let pieces = {
        let (alive, most) = (Arc::clone(&alive), Arc::clone(&most));
        stream::iter(0..2048).map(move |_| Ok::<_, Error>(Counted::bytes(&alive, &most)))
    };
    let put = request(Method::PUT, upstream.url() + "/orders", None, Body::stream(pieces));
    let mut service = RetryLayer::new("long").classify(StatusClassifier).requests(Idempotent).layer(client());
    let response = service.ready().await.unwrap().call(put).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(upstream.requests()[0].body.len(), 32 << 20);
    // hyper itself queues some.
    let most = most.load(Relaxed);
    assert!((4..64).contains(&most), "{most} pieces of 16 KiB");
    assert_eq!(alive.load(Relaxed), 0);
}

#[test]
fn random_keys_are_uuids_of_their_own_and_are_not_shown() {
    let keys: std::collections::HashSet<_> = (0..10_000)
        .map(|_| {
            let value = http::HeaderValue::from(IdempotencyKey::random());
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 10_000);
    let mut ones = [0_u32; 32];
    for key in &keys {
        let hex: Vec<char> = key.trim_matches('"').chars().filter(|char| *char != '-').collect();
        assert!(key.len() == 38 && hex.len() == 32, "{key}");
        assert!(hex[12] == '4' && matches!(hex[16], '8'..='9' | 'a'..='b'), "{key}");
        for (at, digit) in hex.iter().enumerate() {
            ones[at] += digit.to_digit(16).unwrap().count_ones();
        }
    }
    // Each digit has 20 000 ones of 40 000, give or take 100, but for the version and the variant.
    for (at, ones) in ones.iter().enumerate().filter(|(at, _)| !matches!(at, 12 | 16)) {
        assert!((19_300..20_700).contains(ones), "digit {at}: {ones}");
    }
    assert_eq!(format!("{:?}", IdempotencyKey::try_new("order 7").unwrap()), "IdempotencyKey(Sensitive)");
}

#[test]
fn keys_of_ones_own_are_quoted_and_cannot_break_out_of_the_header() {
    let text =
        |key| http::HeaderValue::from(IdempotencyKey::try_new(key).unwrap()).to_str().unwrap().to_owned();
    assert_eq!(text("order 7"), r#""order 7""#);
    assert_eq!(text(r#"a"b\c"#), r#""a\"b\\c""#);
    for wrong in ["", "a\r\nx-admin: 1", "caf\u{e9}", "a\tb", &"x".repeat(256)] {
        assert!(IdempotencyKey::try_new(wrong).is_err(), "{wrong:?}");
    }
}
