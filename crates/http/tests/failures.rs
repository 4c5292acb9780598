//! What goes wrong, and what it is called.

mod support;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_circuit_breaker::{CircuitBreakerLayer, State, Trip};
use buttress_core::{BoxError, Classify, Deadline, Outcome, Reason, Rejectable};
use buttress_http::{Error, HttpClient, Invalid, StatusClassifier};
use buttress_testkit::{Reply, Upstream};
use buttress_timeout::TimeoutLayer;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use support::{answer, build, call, client, get, ms, read, read_head, server, text};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};
use tower::{Service, ServiceBuilder, ServiceExt};

const SECRETS: [&str; 4] = ["alice", "hunter2", "account", "token"];

/// Neither of an error's forms shows what may be secret, down to its last source.
fn assert_discreet(error: &Error) {
    let mut shown = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        shown += &format!("{error} {error:?}");
        source = error.source();
    }
    assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{shown}");
}

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_refused_connection_names_the_host_and_nothing_else() {
    let addr = nobody().await;
    let client = client();
    let result = call(&client, get(&format!("http://alice:hunter2@{addr}/account?token=7"))).await;
    assert_eq!(StatusClassifier.classify(&result), Outcome::Failure);
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
    let expected =
        format!("no connection to {addr}: Connection refused (os error 111); the request was not sent");
    assert_eq!(error.to_string(), expected);
    assert_discreet(&error);
    assert_eq!(client.connections().failed(), 1);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_a_failure_to_connect() {
    // A label may have 63 characters: no resolver asks anybody for this one.
    let host = format!("{}.test", "n".repeat(64));
    let error = text(&client(), &format!("http://{host}/")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && !error.sent(), "{error:?}");
    assert_eq!(error.peer().and_then(|peer| peer.host()), Some(host.as_str()));
}

/// A listener whose queue is full: the kernel drops what comes, as a firewall would.
async fn black_hole() -> (std::net::SocketAddr, impl Sized) {
    let (listener, addr) = short_queue();
    let waiting = fill(addr).await;
    (addr, (listener, waiting))
}

fn short_queue() -> (TcpListener, std::net::SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn fill(addr: std::net::SocketAddr) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(ms(100), TcpStream::connect(addr)).await {
        waiting.push(stream.unwrap());
    }
    waiting
}

#[tokio::test]
async fn a_black_hole_ends_with_the_connect_timeout() {
    let (addr, _full) = black_hole().await;
    let client = build(HttpClient::builder().connect_timeout(ms(200)));
    let start = Instant::now();
    let error = text(&client, &format!("http://{addr}/account")).await.unwrap_err();
    assert!((ms(195)..ms(600)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!(error, Error::ConnectTimeout { limit, .. } if limit == ms(200)), "{error:?}");
    assert!(error.is_timeout());
    assert!(!error.sent());
    assert_eq!(error.to_string(), format!("no connection to {addr} within 200ms; the request was not sent"));
    assert_discreet(&error);
}

#[tokio::test]
async fn a_deadline_that_passes_while_connecting_is_a_failure_and_was_not_sent() {
    let (addr, _full) = black_hole().await;
    let client = client();
    let start = Instant::now();
    let result = Deadline::after(ms(120)).scope(call(&client, get(&format!("http://{addr}/account")))).await;
    assert!((ms(115)..ms(500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(StatusClassifier.classify(&result), Outcome::Failure);
    let error = result.unwrap_err();
    assert!(
        matches!(error, Error::ConnectTimeout { limit, .. } if (ms(60)..=ms(120)).contains(&limit)),
        "{error:?}"
    );
    assert!(!error.sent());
    assert_discreet(&error);
}

#[tokio::test]
async fn a_deadline_that_passes_on_a_pooled_connection_may_have_been_sent() {
    let upstream = Upstream::start().await;
    upstream.on("/late", Reply::ok("late").after(ms(400)));
    let (client, url) = (client(), upstream.url());
    text(&client, &url).await.unwrap();
    let error = Deadline::after(ms(60)).scope(text(&client, &format!("{url}/late"))).await.unwrap_err();
    assert_eq!(upstream.connections(), 1, "it was the pooled one");
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert!(error.sent());
}

#[tokio::test]
async fn a_call_that_got_anothers_connection_while_its_own_was_being_made_was_sent() {
    let (listener, addr) = short_queue();
    let (client, url) = (client(), format!("http://{addr}/"));
    let (other, others_url) = (client.clone(), url.clone());
    let first = tokio::spawn(async move { text(&other, &others_url).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await.unwrap();
    let _full = fill(addr).await;

    let second = async move { call(&client, get(&url)).await };
    let second = tokio::spawn(Deadline::after(ms(300)).scope(second));
    tokio::time::sleep(ms(50)).await;
    answer(&mut stream, "first").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), "first");
    read_head(&mut stream).await.unwrap();
    let error = second.await.unwrap().unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert!(error.sent());
}

#[tokio::test]
async fn a_breaker_opens_on_a_black_hole_behind_a_timeout_of_each_attempt() {
    let (addr, _full) = black_hole().await;
    let trip = Trip::consecutive(3).unwrap();
    let layer = CircuitBreakerLayer::builder("black_hole").trip(trip).classify(StatusClassifier).build();
    let breaker = layer.breaker();
    let mut service = ServiceBuilder::new().layer(layer).layer(TimeoutLayer::new(ms(50))).service(client());
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        let request = get(&format!("http://{addr}/"));
        service.ready().await.unwrap().call(request).await.unwrap_err();
    }
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn requests_that_cannot_be_sent_say_why() {
    let upstream = Upstream::start().await;
    for (url, expected) in [
        ("/relative".to_owned(), Invalid::RelativeUrl),
        (upstream.addr().to_string(), Invalid::RelativeUrl),
        (format!("ftp://{}/", upstream.addr()), Invalid::Scheme),
    ] {
        let result = call(&client(), get(&url)).await;
        assert_eq!(StatusClassifier.classify(&result), Outcome::Ignored);
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Invalid { why, .. } if why == expected), "{url}: {error:?}");
        assert!(!error.sent());
    }
    assert_eq!(upstream.connections(), 0);
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
#[tokio::test]
async fn without_tls_an_https_url_says_which_feature_to_turn_on() {
    let error = text(&client(), "https://localhost/account").await.unwrap_err();
    assert!(matches!(error, Error::Invalid { why: Invalid::NoTls, .. }), "{error:?}");
    assert!(error.to_string().contains("`tls-ring` or `tls-aws-lc-rs`"), "{error}");
    assert_discreet(&error);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_of_its_body() {
    let upstream = Upstream::start().await;
    upstream.on("/account", Reply::ok("hello world").cut_after(5));
    let response = call(&client(), get(&format!("{}/account", upstream.url()))).await.unwrap();
    let mut body = response.into_body();
    let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&data[..], b"hello");
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Body { .. }) && error.sent(), "{error:?}");
    assert_eq!(error.peer().and_then(|peer| peer.port()), Some(upstream.addr().port()));
    assert_discreet(&error);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await
    })
    .await;
    let error = text(&client(), &format!("http://{addr}/account")).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }) && error.sent(), "{error:?}");
    assert_discreet(&error);
}

/// A request's body that breaks off.
struct Broken(usize);

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0 += 1;
        Poll::Ready(Some(match self.0 {
            1 => Ok(Frame::data(Bytes::from_static(b"half of it"))),
            _ => Err("the file is gone".into()),
        }))
    }
}

#[tokio::test]
async fn a_requests_own_body_that_breaks_off_is_not_the_servers_fault() {
    let upstream = Upstream::start().await;
    let mut client = HttpClient::builder().build().unwrap();
    let request = Request::post(upstream.url()).body(Broken(0)).unwrap();
    let result = client.ready().await.unwrap().call(request).await;
    assert_eq!(StatusClassifier.classify(&result), Outcome::Ignored);
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Aborted { .. }) && error.sent(), "{error:?}");
    assert!(error.to_string().contains("the file is gone"), "{error}");
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing() {
    let upstream = Upstream::start().await;
    let (client, url) = (client(), upstream.url());
    let error = Deadline::after(ms(0)).scope(text(&client, &url)).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert!(!error.sent());
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_waits_for_its_answer() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("late").after(ms(400)));
    let (client, url) = (client(), upstream.url());
    let start = Instant::now();
    let result = Deadline::after(ms(60)).scope(call(&client, get(&url))).await;
    assert!((ms(55)..ms(300)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(
        StatusClassifier.classify(&result),
        Outcome::Failure,
        "it may be a timeout's for each attempt"
    );
    let error = result.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert!(error.sent());
    let patient = Deadline::after(ms(5000)).scope(text(&client, &url)).await;
    assert_eq!(patient.unwrap(), "late");
}

#[tokio::test]
async fn a_deadline_ends_a_body_that_is_read_within_it_and_no_other() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("hello world").stall_after(5));
    let (client, url) = (client(), upstream.url());
    let start = Instant::now();
    let error = Deadline::after(ms(80)).scope(text(&client, &url)).await.unwrap_err();
    assert!((ms(75)..ms(400)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));

    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await?;
        tokio::time::sleep(ms(150)).await;
        stream.write_all(b"late").await
    })
    .await;
    let url = format!("http://{addr}/");
    let head = Deadline::after(ms(100)).scope(call(&client, get(&url))).await.unwrap();
    assert_eq!(read(head.into_body()).await.unwrap(), "late", "handed on out of the scope");
}

#[tokio::test]
async fn statuses_and_retry_after_are_judged_as_they_come() {
    let upstream = Upstream::start().await;
    upstream.on("/busy", Reply::status(503).header("retry-after", "2"));
    upstream.on("/date", Reply::status(429).header("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT"));
    let (client, base) = (client(), upstream.url());
    let judge = async |path| StatusClassifier.classify(&call(&client, get(&format!("{base}{path}"))).await);
    assert_eq!(judge("/busy").await, Outcome::Throttled(Some(ms(2000))));
    assert_eq!(judge("/date").await, Outcome::Throttled(Some(ms(0))), "by the answer's own date");
    assert_eq!(judge("/absent").await, Outcome::Ignored);
}

#[tokio::test]
async fn a_connect_timeout_of_zero_is_refused() {
    assert!(HttpClient::builder().connect_timeout(ms(0)).build::<support::Body>().is_err());
}

#[tokio::test]
async fn a_server_that_answers_and_closes_is_read_to_the_end() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        answer(&mut stream, "all of it").await
    })
    .await;
    assert_eq!(text(&client(), &format!("http://{addr}/")).await.unwrap(), "all of it");
}

/// As a call does that is made before a `select!` and awaited under a deadline in one of its branches.
#[tokio::test]
async fn a_call_that_waits_keeps_to_the_deadline_that_surrounds_it_now() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("late").after(ms(600)));
    let mut client = client();
    let mut pending_call = async |deadline: Option<u64>| {
        let mut call = Box::pin(client.ready().await.unwrap().call(get(&upstream.url())));
        let first = tokio::time::timeout(ms(50), &mut call);
        let polled = match deadline {
            None => first.await,
            Some(limit) => Deadline::after(ms(limit)).scope(first).await,
        };
        assert!(polled.is_err());
        (call, Instant::now())
    };
    for first in [None, Some(9000)] {
        let (call, start) = pending_call(first).await;
        let error = Deadline::after(ms(100)).scope(call).await.unwrap_err();
        assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
        assert!(start.elapsed() >= ms(100) && start.elapsed() < ms(400), "{:?}", start.elapsed());
    }
    // Moved out of it.
    let (call, _) = pending_call(Some(150)).await;
    assert_eq!(read(call.await.unwrap().into_body()).await.unwrap(), "late");
}
