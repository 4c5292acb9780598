//! HTTP/2 connections whose server goes away, or refuses some of the requests.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::{io, net::SocketAddr};

use buttress_http::{Error, HttpClient, Roots};
use support::{Client, authority::Authority, build, call, get, server, text};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
/// Error `NO_ERROR`; the first stream is the last one that was looked at.
const GOAWAY_AFTER_THE_FIRST: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

/// An answer's head, status 200, that ends the stream or leaves its body open.
fn head(stream: [u8; 4], ends: bool) -> [u8; 10] {
    let [a, b, c, d] = stream;
    [0, 0, 1, 1, if ends { 5 } else { 4 }, a, b, c, d, 0x88]
}

/// `REFUSED_STREAM`.
fn refusal(stream: [u8; 4]) -> [u8; 13] {
    let [a, b, c, d] = stream;
    [0, 0, 4, 3, 0, a, b, c, d, 0, 0, 0, 7]
}

/// What a server does with the requests of one connection.
#[derive(Clone, Copy)]
enum Way {
    Answers,
    /// It leaves the body of its first answer open. The next request makes it say that it goes away, and it looks at
    /// nothing else.
    Leaves,
    /// It leaves the body of its first answer open, and refuses the others.
    Refuses,
    /// It answers once, says that it goes away, and closes.
    AnswersOnce,
}

async fn speak(mut stream: TlsStream<TcpStream>, way: Way) -> io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&SETTINGS).await?;
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await?;
        let [high, middle, low, kind, flags, id @ ..] = frame;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        stream.read_exact(&mut payload).await?;
        match (kind, way) {
            (4, _) if flags == 0 => stream.write_all(&SETTINGS_ACK).await?,
            (1, Way::AnswersOnce) => {
                stream.write_all(&head(id, true)).await?;
                stream.write_all(&GOAWAY_AFTER_THE_FIRST).await?;
                return stream.shutdown().await;
            }
            (1, Way::Answers) => stream.write_all(&head(id, true)).await?,
            (1, _) if id == [0, 0, 0, 1] => stream.write_all(&head(id, false)).await?,
            (1, Way::Leaves) => stream.write_all(&GOAWAY_AFTER_THE_FIRST).await?,
            (1, Way::Refuses) => stream.write_all(&refusal(id)).await?,
            _ => {}
        }
        stream.flush().await?;
    }
}

/// A server for `localhost` whose first connection goes that way; the others answer.
async fn https(authority: &Authority, first: Way) -> String {
    server_of(authority, first, Way::Answers).await
}

async fn server_of(authority: &Authority, first: Way, others: Way) -> String {
    let acceptor = authority.acceptor_with("localhost", None, &[b"h2"]);
    let addr: SocketAddr = server(move |stream, number| {
        let acceptor = acceptor.clone();
        async move { speak(acceptor.accept(stream).await?, if number == 0 { first } else { others }).await }
    })
    .await;
    format!("https://localhost:{}/", addr.port())
}

fn trusting(authority: &Authority) -> Client {
    build(HttpClient::builder().roots(Roots::Given).root_certificates(authority.pem().into_bytes()))
}

fn was_not_looked_at(error: &Error) -> bool {
    matches!(error, Error::Canceled { .. }) && !error.sent()
}

#[tokio::test]
async fn a_connection_whose_server_goes_away_fails_the_call_in_flight_alone() {
    let authority = Authority::new();
    let (leaving, other) = (https(&authority, Way::Leaves).await, https(&authority, Way::Answers).await);
    let client = trusting(&authority);
    let earlier = call(&client, get(&leaving)).await.unwrap();
    let mut failed = 0;
    for _ in 0..6 {
        if let Err(error) = text(&client, &leaving).await {
            assert!(was_not_looked_at(&error), "{error:?}");
            failed += 1;
        }
        text(&client, &other).await.unwrap();
    }
    assert_eq!(failed, 1, "the connection that its server leaves is given to later calls");
    assert_eq!(client.connections().opened(), 3);
    drop(earlier);
}

#[tokio::test]
async fn calls_that_fail_together_need_one_new_connection() {
    let authority = Authority::new();
    let leaving = https(&authority, Way::Leaves).await;
    let client = trusting(&authority);
    let earlier = call(&client, get(&leaving)).await.unwrap();
    let (one, other) = tokio::join!(text(&client, &leaving), text(&client, &leaving));
    assert!([one, other].into_iter().all(|result| was_not_looked_at(&result.unwrap_err())));
    for _ in 0..3 {
        text(&client, &leaving).await.unwrap();
    }
    assert_eq!(client.connections().opened(), 2);
    drop(earlier);
}

#[tokio::test]
async fn a_server_that_refuses_single_requests_keeps_its_connection() {
    let authority = Authority::new();
    let refusing = https(&authority, Way::Refuses).await;
    let client = trusting(&authority);
    let earlier = call(&client, get(&refusing)).await.unwrap();
    for _ in 0..6 {
        let error = text(&client, &refusing).await.unwrap_err();
        assert!(was_not_looked_at(&error), "{error:?}");
    }
    assert_eq!(client.connections().opened(), 1);
    drop(earlier);
}

/// Connections that are made while others end leave hyper's pool with errors of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_the_pool_gives_up_were_not_sent_and_are_no_mistake_of_the_callers() {
    let authority = Authority::new();
    let url = server_of(&authority, Way::AnswersOnce, Way::AnswersOnce).await;
    let client = trusting(&authority);
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                for _ in 0..80 {
                    let result = text(&client, &url).await;
                    assert!(!matches!(result, Err(Error::Invalid { .. })), "{result:?}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}
