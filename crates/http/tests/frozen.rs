//! A server that is there and does nothing keeps no connection of a call that is over.

mod support;

use buttress_http::HttpClient;
use bytes::Bytes;
use http::Request;
use support::{Body, Client, answer, build, call, ms, read, read_head, server};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

const LARGE: usize = 32 * 1024 * 1024;

fn upload(url: &str) -> Request<Body> {
    Request::post(url).body(Body::new(Bytes::from(vec![0; LARGE]))).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        sleep(ms(5)).await;
    }
    panic!("never: {what}");
}

/// A call whose request the server does not take, given up.
async fn give_up(client: &Client, url: &str) {
    assert!(timeout(ms(200), call(client, upload(url))).await.is_err());
}

#[tokio::test]
async fn an_upload_that_nobody_takes_gives_its_place_back_when_the_call_is_dropped() {
    let addr = server(|stream, _| async move {
        sleep(ms(60_000)).await;
        drop(stream);
        Ok(())
    })
    .await;
    let client = build(HttpClient::builder());
    give_up(&client, &format!("http://{addr}/")).await;
    until("the connection is closed", || client.connections().open() == 0).await;
}

/// Reads requests of 256 KiB, each a little at a time, and answers them.
async fn slow() -> std::net::SocketAddr {
    server(|mut stream, _| async move {
        while read_head(&mut stream).await.is_ok() {
            for _ in 0..4 {
                stream.read_exact(&mut [0; 65_536]).await?;
                sleep(ms(1)).await;
            }
            answer(&mut stream, "hello").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_are_dropped_at_any_time_harm_no_other_call() {
    let url = format!("http://{}/", slow().await);
    let client = build(HttpClient::builder().max_connections_per_host(4));
    let request = || Request::post(&url).body(Body::new(Bytes::from(vec![0; 4 * 65_536]))).unwrap();
    let callers = (0..8_u64).map(|caller| {
        let (client, request) = (client.clone(), &request);
        async move {
            for number in 0..40 {
                let patience = std::time::Duration::from_micros((caller * 40 + number) * 7919 % 12_000);
                let _ = timeout(patience, call(&client, request())).await;
                let kept = call(&client, request()).await.unwrap();
                assert_eq!(read(kept.into_body()).await.unwrap(), "hello");
            }
        }
    });
    futures_util::future::join_all(callers).await;
    assert!(client.connections().open() <= 4);
    client.close(ms(2000)).await.unwrap();
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
mod over_tls {
    use buttress_http::{Builder, Roots};

    use super::{support::authority::Authority, *};

    /// It takes the handshake and nothing else.
    async fn frozen(builder: Builder) -> (Client, String) {
        let authority = Authority::new();
        let acceptor = authority.acceptor("localhost", None);
        let addr = server(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(stream).await?;
                sleep(ms(60_000)).await;
                drop(stream);
                Ok(())
            }
        })
        .await;
        let builder = builder.roots(Roots::Given).root_certificates(authority.pem().into_bytes());
        (build(builder), format!("https://localhost:{}/", addr.port()))
    }

    /// TLS says goodbye, which has to wait for its turn behind what the server does not take.
    #[tokio::test]
    async fn an_upload_that_nobody_takes_gives_its_place_back_when_the_call_is_dropped() {
        let (client, url) = frozen(HttpClient::builder().max_connections_per_host(1)).await;
        give_up(&client, &url).await;
        until("the connection is closed", || client.connections().open() == 0).await;
    }
}
