//! The caps on connections and the close, where one connection carries all calls of a host.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use buttress_http::{Builder, Error, HttpClient, Roots};
use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use support::{Client, authority::Authority, build, call, get, ms, server, text};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// An HTTPS server that answers each request after `pause`.
struct Https {
    addr: SocketAddr,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    authority: Authority,
}

impl Https {
    async fn start(pause: u64, protocols: &[&[u8]]) -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor_with("localhost", None, protocols);
        let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&open), Arc::clone(&most));
        let addr = server(move |stream, _| {
            let (acceptor, (open, most)) = (acceptor.clone(), counts.clone());
            async move {
                most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
                if let Ok(stream) = acceptor.accept(stream).await {
                    let hello = service_fn(move |_| async move {
                        sleep(ms(pause)).await;
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))))
                    });
                    let serving = auto::Builder::new(TokioExecutor::new());
                    // A client that goes away is no failure of the test.
                    let _ = serving.serve_connection(TokioIo::new(stream), hello).await;
                }
                open.fetch_sub(1, SeqCst);
                Ok(())
            }
        })
        .await;
        Self { addr, open, most, authority }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/", self.addr.port())
    }
}

fn trusting(builder: Builder, servers: &[&Https]) -> Client {
    let authorities: String = servers.iter().map(|server| server.authority.pem()).collect();
    build(builder.roots(Roots::Given).root_certificates(authorities))
}

fn spawn(client: &Client, url: String) -> JoinHandle<Result<String, Error>> {
    let client = client.clone();
    tokio::spawn(async move { text(&client, &url).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_connection_carries_all_calls_also_those_that_began_without_one() {
    let server = Https::start(20, &[b"h2", b"http/1.1"]).await;
    for cap in [1, 4, 100] {
        let client = trusting(HttpClient::builder().max_connections_per_host(cap), &[&server]);
        let calls: Vec<_> = (0..64).map(|_| spawn(&client, server.url())).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), "hello");
        }
        // Those that had begun to connect find out that one is enough.
        for _ in 0..100 {
            if client.connections().open() == 1 {
                break;
            }
            sleep(ms(10)).await;
        }
        assert_eq!((client.connections().open(), client.connections().waiting()), (1, 0));
        let start = Instant::now();
        let calls: Vec<_> = (0..64).map(|_| spawn(&client, server.url())).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), "hello");
        }
        assert!(start.elapsed() < ms(1000), "side by side: {:?}", start.elapsed());
        assert_eq!(client.connections().open(), 1);
        client.close(ms(2000)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_chooses_http1_gets_no_more_than_the_cap() {
    let server = Https::start(2, &[b"http/1.1"]).await;
    let client = trusting(HttpClient::builder().max_connections_per_host(3), &[&server]);
    let calls: Vec<_> = (0..48).map(|_| spawn(&client, server.url())).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "hello");
    }
    assert_eq!((server.most.load(SeqCst), client.connections().open()), (3, 3));
}

#[tokio::test]
async fn an_idle_http2_connection_makes_room_for_another_host() {
    let (one, other) = (Https::start(0, &[b"h2"]).await, Https::start(0, &[b"h2", b"http/1.1"]).await);
    let third = Https::start(0, &[b"http/1.1"]).await;
    let servers = [&one, &other, &third];
    let client = trusting(HttpClient::builder().max_connections(2), &servers);
    for n in 0..30 {
        let start = Instant::now();
        assert_eq!(text(&client, &servers[n % 3].url()).await.unwrap(), "hello");
        assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
        assert!(client.connections().open() <= 2);
    }
}

#[tokio::test]
async fn calls_in_flight_end_before_the_connection_is_closed() {
    let server = Https::start(200, &[b"h2"]).await;
    let client = trusting(HttpClient::builder(), &[&server]);
    assert_eq!(call(&client, get(&server.url())).await.unwrap().version(), Version::HTTP_2);
    let calls: Vec<_> = (0..8).map(|_| spawn(&client, server.url())).collect();
    sleep(ms(50)).await;
    client.close(ms(3000)).await.unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "hello");
    }
    for _ in 0..100 {
        if server.open.load(SeqCst) == 0 {
            return;
        }
        sleep(ms(10)).await;
    }
    panic!("the server has a connection yet");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let server = Https::start(60_000, &[b"h2"]).await;
    let client = trusting(HttpClient::builder(), &[&server]);
    let calls: Vec<_> = (0..3).map(|_| spawn(&client, server.url())).collect();
    sleep(ms(300)).await;
    let cut = client.close(ms(100)).await.unwrap_err();
    assert_eq!((cut.calls, cut.connections), (3, 1));
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Closed { .. }) && error.sent(), "{error:?}");
    }
}
