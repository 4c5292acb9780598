//! The example `cache_proxy` between a real client and a real origin, over sockets.

#[path = "../examples/cache_proxy/proxy.rs"]
mod proxy;

use std::{net::SocketAddr, time::Duration};

use buttress_http::HttpClient;
use buttress_testkit::{Reply, Upstream};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::sleep,
};
use tower::ServiceExt;

use proxy::Proxy;

struct Running {
    address: SocketAddr,
    client: HttpClient<Empty<Bytes>>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn before(origin: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let proxy = Proxy::to(&origin.parse().unwrap()).unwrap();
        let ended = tokio::spawn(proxy.serve(listener, async {
            let _ = stopped.await;
        }));
        Self { address, client: HttpClient::builder().build().unwrap(), stop, ended }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<buttress_http::ResponseBody> {
        let mut request = Request::get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.clone().oneshot(request.body(Empty::new()).unwrap()).await.unwrap()
    }

    async fn text(&self, path: &str) -> (Response<()>, String) {
        let (head, body) = self.get(path, &[]).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(head, ()), String::from_utf8(body.into()).unwrap())
    }
}

#[tokio::test]
async fn a_response_is_stored_and_served_and_tells_so() {
    let origin = Upstream::start().await;
    origin.on(
        "/a",
        Reply::ok("hello").header("cache-control", "max-age=60").header("connection", "x").header("x", "1"),
    );
    let proxy = Running::before(&origin.url()).await;
    let (first, body) = proxy.text("/a?q").await;
    assert_eq!(body, "hello");
    let said = first.headers()["cache-status"].to_str().unwrap();
    // A `Date` has no parts of a second.
    assert!(
        said.starts_with("buttress;fwd=uri-miss;fwd-status=200;ttl=") && said.ends_with(";stored"),
        "{said}"
    );
    assert!(!first.headers().contains_key("x"), "it was for one connection");
    let (second, body) = proxy.text("/a?q").await;
    assert_eq!(body, "hello");
    assert!(second.headers()["cache-status"].to_str().unwrap().starts_with("buttress;hit;ttl="));
    let asked = origin.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers["via"], "1.1 buttress");
    assert_eq!(asked[0].headers["host"], proxy.address.to_string(), "the origin learns its public name");
    drop(second);
    proxy.stop.send(()).unwrap();
    proxy.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_first_byte_comes_before_the_last_and_what_is_cut_is_not_stored() {
    let origin = Upstream::start().await;
    let cacheable = |reply: Reply| reply.header("cache-control", "max-age=60");
    origin.on(
        "/a",
        [
            cacheable(Reply::ok("hello world").stall_after(5)),
            cacheable(Reply::ok("hello world").cut_after(5)),
            cacheable(Reply::ok("hello world")),
        ],
    );
    let proxy = Running::before(&origin.url()).await;
    let mut stalled = proxy.get("/a", &[]).await;
    let part = stalled.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(part, "hello", "though the origin never sends the rest");
    drop(stalled);
    // The proxy learns of the client's end by its connection.
    while proxy.get("/a", &[("cache-control", "only-if-cached")]).await.status() != 504 {
        sleep(Duration::from_millis(5)).await;
    }
    let cut = proxy.get("/a", &[]).await;
    assert!(cut.into_body().collect().await.is_err(), "the client sees that it is not all");
    assert_eq!(proxy.text("/a").await.1, "hello world");
    assert_eq!(proxy.text("/a").await.1, "hello world");
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn an_origin_that_is_away_is_a_502_or_what_it_said_before() {
    let origin = Upstream::start().await;
    origin.on("/a", Reply::ok("hello").header("cache-control", "max-age=0, stale-if-error=60"));
    let url = origin.url();
    let proxy = Running::before(&url).await;
    assert_eq!(proxy.text("/a").await.1, "hello");
    drop(origin);
    let (stale, body) = proxy.text("/a").await;
    assert_eq!(body, "hello");
    assert!(stale.headers()["cache-status"].to_str().unwrap().contains("stale-if-error"));
    assert_eq!(proxy.text("/b").await.0.status(), 502);
}

#[tokio::test]
async fn many_clients_at_once_are_one_request_to_the_origin() {
    let origin = Upstream::start().await;
    let reply = Reply::ok("x".repeat(100_000)).header("cache-control", "max-age=60");
    origin.on("/a", reply.after(Duration::from_millis(100)));
    let proxy = std::sync::Arc::new(Running::before(&origin.url()).await);
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move { proxy.text("/a").await.1.len() })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 100_000);
    }
    assert_eq!(origin.requests().len(), 1);
}

/// A request as it is written, and the whole answer.
async fn raw(proxy: &Running, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_stored_is_stored_for_the_host_that_the_origin_was_asked_for() {
    let origin = Upstream::start().await;
    origin.on("/a", Reply::ok("hello").header("cache-control", "max-age=60"));
    let proxy = Running::before(&origin.url()).await;
    raw(&proxy, "GET http://victim/a HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n").await;
    raw(&proxy, "GET /a HTTP/1.1\r\nHost: other\r\nConnection: close, host, accept\r\nAccept: x\r\n\r\n")
        .await;
    let asked = origin.requests();
    assert_eq!(
        (&asked[0].headers["host"], &asked[1].headers["host"]),
        (&"victim".parse().unwrap(), &"other".parse().unwrap())
    );
    assert!(!asked[1].headers.contains_key("accept"), "it was for the proxy");
    for bad in [
        "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: evil@victim\r\nConnection: close\r\n\r\n",
    ] {
        let answer = raw(&proxy, bad).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn connection_does_not_take_away_what_forbids_to_store() {
    let origin = Upstream::start().await;
    let reply = Reply::ok("secret")
        .header("cache-control", "no-store")
        .header("expires", "Fri, 01 Jan 2100 00:00:00 GMT");
    origin.on("/a", reply.header("connection", "cache-control"));
    let proxy = Running::before(&origin.url()).await;
    for _ in 0..2 {
        assert_eq!(proxy.text("/a").await.0.headers()["cache-control"], "no-store");
    }
    assert_eq!(origin.requests().len(), 2);
}
