//! The scripted upstream, as a client sees it on the wire.

use std::time::{Duration, Instant};

use buttress_testkit::{Reply, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn send(upstream: &Upstream, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(upstream.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Everything that comes until the connection is closed.
async fn ask(upstream: &Upstream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    let mut stream = send(upstream, &request).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn replies_come_in_turn_and_the_last_repeats() {
    let upstream = Upstream::start().await;
    upstream.on("/a", [Reply::status(503).header("retry-after", "7"), Reply::ok("done")]);
    let first = ask(&upstream, "/a").await;
    assert!(first.starts_with("HTTP/1.1 503 ") && first.contains("retry-after: 7\r\n"), "{first}");
    for _ in 0..2 {
        let next = ask(&upstream, "/a?id=1").await;
        assert!(next.starts_with("HTTP/1.1 200 ") && next.ends_with("\r\n\r\ndone"), "{next}");
    }
    assert!(ask(&upstream, "/b").await.starts_with("HTTP/1.1 404 "));
    upstream.on("/a", Reply::status(204));
    assert!(ask(&upstream, "/a").await.starts_with("HTTP/1.1 204 "));
    assert_eq!(upstream.connections(), 5);
}

#[tokio::test]
async fn requests_are_recorded_whole() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Reply::ok(""));
    let head = "POST /orders?id=1 HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\nconnection: close\r\n";
    let mut stream = send(&upstream, &format!("{head}content-length: 4\r\n\r\nbody")).await;
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let requests = upstream.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/orders?id=1"));
    assert_eq!(requests[0].headers["idempotency-key"], "k");
    assert_eq!(requests[0].body, "body");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
async fn latency_comes_before_the_head() {
    let upstream = Upstream::start().await;
    upstream.on("/slow", Reply::ok("late").after(Duration::from_millis(80)));
    let start = Instant::now();
    assert!(ask(&upstream, "/slow").await.ends_with("late"));
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_disconnect_sends_nothing() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::disconnect());
    assert_eq!(ask(&upstream, "/").await, "");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_body_is_cut_where_the_script_says() {
    let upstream = Upstream::start().await;
    for bytes in [0, 3] {
        upstream.on("/", Reply::ok("whole body").cut_after(bytes));
        let answer = ask(&upstream, "/").await;
        assert!(answer.contains("content-length: 10\r\n"), "{answer}");
        assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap(), &"whole body"[..bytes]);
    }
}

#[tokio::test]
async fn a_stalled_body_keeps_the_connection_open() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("whole body").stall_after(3));
    let mut stream = send(&upstream, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nwho") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    let more = tokio::time::timeout(Duration::from_millis(50), stream.read_buf(&mut answer)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn never_is_never_and_a_drop_ends_it() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::never());
    let mut stream = send(&upstream, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let mut answer = Vec::new();
    let nothing = tokio::time::timeout(Duration::from_millis(50), stream.read_to_end(&mut answer)).await;
    assert!(nothing.is_err());
    let addr = upstream.addr();
    drop(upstream);
    assert!(stream.read_to_end(&mut answer).await.is_err() || answer.is_empty());
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
#[should_panic(expected = "set a body longer than 3 bytes first")]
fn a_cut_that_cuts_nothing_is_a_mistake() {
    let _ = Reply::ok("abc").cut_after(3);
}
