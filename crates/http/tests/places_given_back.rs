//! A place comes back whatever becomes of its answer.

mod support;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use buttress_http::HttpClient;
use bytes::Bytes;
use http::Request;
use hyper::body::Frame;
use support::{
    build, call, get, ms, read, read_head, server,
    watched::{free, until, watched},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tower::{Service, ServiceExt};

/// A body that panics on its first, or second, frame.
struct Bomb(u8);

impl hyper::body::Body for Bomb {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        assert!(self.0 > 0, "a panic in a body");
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}

#[tokio::test]
async fn a_body_that_panics_gives_its_place_back() {
    let (addr, _) = watched(free()).await;
    let client: HttpClient<Bomb> = HttpClient::builder().max_connections_per_host(1).build().unwrap();
    for frames in [0, 1, 0, 1] {
        let request = Request::post(format!("http://{addr}/")).body(Bomb(frames)).unwrap();
        let mut client = client.clone();
        let result = timeout(ms(2000), async { client.ready().await.unwrap().call(request).await });
        result.await.expect("it waits for a place that nobody has").unwrap_err();
    }
    until("all are closed", || client.connections().open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_is_dropped_unread_gives_its_place_back() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nbegun").await?;
        let _ = stream.read_u8().await;
        Ok(())
    })
    .await;
    let client = build(HttpClient::builder().max_connections_per_host(1));
    for _ in 0..5 {
        let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
        assert_eq!(client.connections().idle(), 0);
        drop(body);
    }
    until("all are closed", || client.connections().open() == 0).await;
}

#[tokio::test]
async fn a_connection_is_idle_where_its_answer_was_read_to_the_end() {
    let (addr, _) = watched(free()).await;
    let client = build(HttpClient::builder());
    for _ in 0..3 {
        let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
        assert_eq!((client.connections().open(), client.connections().idle()), (1, 0));
        read(body).await.unwrap();
        assert_eq!((client.connections().open(), client.connections().idle()), (1, 1));
    }
}
