//! The `Host` that goes over the wire: of the first call, which hyper writes, and of later ones.

use buttress_http::HttpClient;
use bytes::Bytes;
use http::{HeaderName, Request};
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tower::{Service, ServiceExt};

/// Answers each request with its own head.
async fn echo(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while stream.read_line(&mut head).await.is_ok_and(|length| length > 0) {
                if head.ends_with("\r\n\r\n") {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
                    stream.write_all(answer.as_bytes()).await.expect("the client is there");
                    head.clear();
                }
            }
        });
    }
}

async fn head(client: &mut HttpClient<Empty<Bytes>>, url: &str, own: Option<(HeaderName, &str)>) -> String {
    let mut request = Request::get(url).header("x-first", "1");
    if let Some((name, value)) = own {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).expect("it is valid");
    let answer = client.ready().await.expect("it is ready").call(request).await.expect("it answers");
    let head = answer.into_body().collect().await.expect("it is short").to_bytes();
    String::from_utf8(head.to_vec()).expect("it is text")
}

#[tokio::test]
async fn every_call_sends_the_same_host_and_no_second_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(echo(listener));
    let mut client = HttpClient::builder().build().expect("it is valid");
    // One host by two names: the first is remembered.
    for host in ["127.0.0.1", "localhost", "127.0.0.1", "LOCALHOST"] {
        let url = format!("http://{host}:{port}/a?b");
        let expected = format!("GET /a?b HTTP/1.1\r\nx-first: 1\r\nhost: {host}:{port}\r\n\r\n");
        for _ in 0..3 {
            assert_eq!(head(&mut client, &url, None).await, expected);
        }
    }
    // A caller's own stays.
    let url = format!("http://127.0.0.1:{port}/");
    let own = head(&mut client, &url, Some((http::header::HOST, "stock.internal"))).await;
    assert_eq!(own, "GET / HTTP/1.1\r\nx-first: 1\r\nhost: stock.internal\r\n\r\n");
    // Credentials of a URL are nobody's `Host`.
    let url = format!("http://user:secret@127.0.0.1:{port}/");
    for _ in 0..2 {
        let head = head(&mut client, &url, None).await;
        assert!(
            head.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")) && !head.contains("secret"),
            "{head}"
        );
    }
}
