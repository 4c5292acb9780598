//! The dashboard on an address of its own, over real connections.

#![cfg(feature = "dashboard")]

#[path = "dashboard/world.rs"]
#[expect(dead_code, reason = "the other tests need the rest")]
mod world;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_telemetry::{Dashboard, DashboardBuilder, Registry};
use serde_json::json;
use tokio::time::{sleep, timeout};

use self::world::Lever;

fn registry() -> (Registry, Lever) {
    let (registry, lever) = (Registry::new(), Lever::new("one"));
    registry.stack("orders").layer(&lever).register().unwrap();
    (registry, lever)
}

/// A client of the lowest kind, to say what no other would.
async fn say(stream: &mut tokio::net::TcpStream, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn served_it_is_for_this_machine_alone() {
    let (registry, _lever) = registry();
    let serving = on_any_port(Dashboard::builder(&registry)).serve().await.unwrap();
    let address = serving.address();
    assert!(address.ip().is_loopback());
    for (host, status) in [
        (address.to_string(), 200),
        ("localhost".into(), 200),
        ("LocalHost:80".into(), 200),
        ("[::1]:9900".into(), 200),
        ("evil.test".into(), 421),
        ("127.0.0.1.evil.test:9900".into(), 421),
        ("192.168.0.7".into(), 421),
        ("".into(), 421),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let answer = say(&mut stream, &format!("GET /snapshot.json HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        assert!(status == 200 || !answer.contains("orders"), "{answer}");
    }
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let answer = say(&mut stream, "GET /snapshot.json HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 421 "), "{answer}");
    drop(serving);
    let closed = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), closed).await.expect("dropped, the port is closed");
}

fn on_any_port(builder: DashboardBuilder) -> Dashboard {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    builder.address(any).every(Duration::from_millis(100)).build().unwrap()
}

#[tokio::test]
async fn a_viewer_whose_connection_breaks_ends_the_sampler() {
    let (registry, _lever) = registry();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let builder = Dashboard::builder(&registry).alerts_from(move || json!(counter.fetch_add(1, Relaxed)));
    let serving = on_any_port(builder).serve().await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(serving.address()).await.unwrap();
    let answer = say(&mut stream, "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let running = async {
        while asked.load(Relaxed) < 3 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), running).await.expect("it runs");
    drop(stream);
    let quiet = async {
        loop {
            let before = asked.load(Relaxed);
            sleep(Duration::from_millis(350)).await;
            if asked.load(Relaxed) == before {
                return;
            }
        }
    };
    timeout(Duration::from_secs(10), quiet).await.expect("it ends");
}

#[tokio::test]
async fn dropped_it_closes_the_connection_of_who_reads_nothing_too() {
    let (registry, _lever) = registry();
    let builder = Dashboard::builder(&registry).alerts_from(|| json!(["x".repeat(8 << 20)]));
    let serving = on_any_port(builder).serve().await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(serving.address()).await.unwrap();
    say(&mut stream, "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    sleep(Duration::from_secs(1)).await;
    drop(serving);
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), ended).await.expect("all tasks end");
}
