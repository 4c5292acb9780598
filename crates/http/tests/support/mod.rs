//! What several tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub(crate) mod authority;
pub(crate) mod proxies;
pub(crate) mod watched;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use buttress_http::{Builder, Error, HttpClient, ResponseBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Service, ServiceExt};

pub(crate) type Body = Full<Bytes>;
pub(crate) type Client = HttpClient<Body>;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn client() -> Client {
    build(HttpClient::builder())
}

pub(crate) fn build(builder: Builder) -> Client {
    builder.build().unwrap()
}

pub(crate) fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::default()).unwrap()
}

pub(crate) async fn call(client: &Client, request: Request<Body>) -> Result<Response<ResponseBody>, Error> {
    let mut client = client.clone();
    soon(async move { client.ready().await?.call(request).await }).await
}

/// Fails a test that would hang.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(ms(5000), future).await.expect("it hangs")
}

/// The answer's body, read to the end, so that its connection is free again.
pub(crate) async fn text(client: &Client, url: &str) -> Result<String, Error> {
    read(call(client, get(url)).await?.into_body()).await
}

pub(crate) async fn read(body: ResponseBody) -> Result<String, Error> {
    Ok(String::from_utf8(soon(body.collect()).await?.to_bytes().to_vec()).unwrap())
}

/// A server that does with each connection what `serve` says, which is told how many there were before.
pub(crate) async fn server<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve(stream, number));
        }
    });
    addr
}

/// Reads a request without a body.
pub(crate) async fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}

pub(crate) async fn answer(stream: &mut (impl AsyncWriteExt + Unpin), body: &str) -> io::Result<()> {
    let length = body.len();
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes()).await
}
