//! Every fault, in front of real servers.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use buttress_testkit::{Fault, FaultProxy, PostgresServer, RedisServer, TestDatabase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls};

/// Long enough that a healthy answer would have come.
const SILENCE: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

struct Client(TcpStream);

impl Client {
    async fn connect(proxy: &FaultProxy) -> Self {
        Self(TcpStream::connect(proxy.addr()).await.unwrap())
    }

    async fn ping(&mut self) -> std::io::Result<()> {
        self.0.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        self.0.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"+PONG\r\n");
        Ok(())
    }

    async fn is_dead(&mut self) -> bool {
        timeout(SILENCE, self.ping()).await.is_err()
    }
}

async fn redis_behind_proxy() -> (RedisServer, FaultProxy) {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    (server, proxy)
}

#[tokio::test]
async fn passes_postgres_through() {
    let database = TestDatabase::new().await;
    let proxy = FaultProxy::start(database.addr()).await;
    let mut config: Config = format!("postgres://postgres@{}", proxy.addr()).parse().unwrap();
    let (client, connection) = config.dbname(database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT repeat('x', 5000000)", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0).len(), 5_000_000);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn leads_to_a_unix_socket_too() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.unix_path()).await;
    Client::connect(&proxy).await.ping().await.unwrap();
}

#[tokio::test]
async fn latency_is_added_once_to_a_round_trip_and_spares_throughput() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client
        .0
        .write_all(
            format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n{}\r\n", "x".repeat(1_000_000)).as_bytes(),
        )
        .await
        .unwrap();
    let mut ok = [0; 5];
    client.0.read_exact(&mut ok).await.unwrap();

    let latency = Duration::from_millis(100);
    proxy.set(Fault::Latency(latency));
    let start = now();
    client.ping().await.unwrap();
    assert!(start.elapsed() >= latency);

    // A million bytes are 62 chunks, each of which is late by the same time.
    let start = now();
    client.0.write_all(b"GET k\r\n").await.unwrap();
    client.0.read_exact(&mut vec![0; 1_000_012]).await.unwrap();
    assert!((latency..latency * 10).contains(&start.elapsed()), "{:?}", start.elapsed());

    proxy.set(Fault::Pass);
    timeout(latency, client.ping()).await.expect("the latency is gone").unwrap();
}

#[tokio::test]
async fn bandwidth_bounds_throughput() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    proxy.set(Fault::Bandwidth(50_000));
    let start = now();
    let value = "x".repeat(5_000);
    client.0.write_all(format!("ECHO {value}\r\n").as_bytes()).await.unwrap();
    client.0.read_exact(&mut vec![0; 5_009]).await.unwrap();
    // 100 ms there and nearly as much back, as the last portion is not waited for.
    assert!(
        (Duration::from_millis(150)..Duration::from_secs(2)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_black_hole_swallows_and_what_lost_a_byte_stays_dead() {
    let (_server, proxy) = redis_behind_proxy().await;
    let (mut talks, mut is_silent) = (Client::connect(&proxy).await, Client::connect(&proxy).await);
    talks.ping().await.unwrap();
    is_silent.ping().await.unwrap();

    proxy.set(Fault::BlackHole);
    assert!(talks.is_dead().await);
    let mut new = Client::connect(&proxy).await;
    assert!(new.is_dead().await);

    proxy.set(Fault::Pass);
    is_silent.ping().await.unwrap();
    Client::connect(&proxy).await.ping().await.unwrap();
    assert!(talks.is_dead().await);
    assert!(new.is_dead().await);
    proxy.cut();
    assert_eq!(talks.0.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn refuses_new_connections_and_listens_again_on_the_same_port() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client.ping().await.unwrap();
    for _ in 0..20 {
        proxy.set(Fault::Refuse);
        let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.set(Fault::Pass);
        Client::connect(&proxy).await.ping().await.unwrap();
    }
    client.ping().await.unwrap();
}

#[tokio::test]
async fn resets_what_is_there_and_what_comes() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client.ping().await.unwrap();
    proxy.set(Fault::Reset);
    assert_eq!(client.0.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The kernel accepts before the proxy resets, so the connect itself may succeed.
    let new = async { TcpStream::connect(proxy.addr()).await?.read_u8().await };
    assert_eq!(new.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.set(Fault::Pass);
    Client::connect(&proxy).await.ping().await.unwrap();
}

#[tokio::test]
async fn reset_holds_after_refuse() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client.ping().await.unwrap();
    proxy.set(Fault::Refuse);
    client.ping().await.unwrap();
    proxy.set(Fault::Reset);
    assert_eq!(client.0.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_resets_every_connection_that_was_established() {
    let (_server, proxy) = redis_behind_proxy().await;
    for _ in 0..50 {
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(Client::connect(&proxy).await);
        }
        proxy.cut();
        for client in &mut clients {
            assert_eq!(client.0.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(proxy.accepted(), 250);
    Client::connect(&proxy).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_half_closed_connection_still_takes_what_the_client_sends() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client.ping().await.unwrap();
    proxy.set(Fault::HalfClose);
    assert_eq!(client.0.read(&mut [0; 8]).await.unwrap(), 0);
    client.0.write_all(b"SET sent late\r\n").await.unwrap();

    proxy.set(Fault::Pass);
    let mut observer = Client::connect(&proxy).await;
    timeout(Duration::from_secs(10), async {
        let mut answer = [0; 64];
        while observer.0.write_all(b"GET sent\r\n").await.is_ok() {
            let n = observer.0.read(&mut answer).await.unwrap();
            if &answer[..n] == b"$4\r\nlate\r\n" {
                break;
            }
        }
    })
    .await
    .expect("the command goes through");
}

#[tokio::test]
async fn an_end_goes_through_in_either_direction() {
    let (server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client.0.write_all(b"QUIT\r\n").await.unwrap();
    let mut answer = Vec::new();
    client.0.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"+OK\r\n");

    let mut client = Client::connect(&proxy).await;
    client.ping().await.unwrap();
    client.0.shutdown().await.unwrap();
    assert_eq!(client.0.read(&mut [0; 8]).await.unwrap(), 0);
    drop(server);
}

#[tokio::test]
async fn a_target_that_is_down_is_a_reset() {
    let server = PostgresServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    server.kill().await;
    let read = async { TcpStream::connect(proxy.addr()).await?.read_u8().await };
    assert_eq!(read.await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    server.restart().await;
    let config: Config = format!("postgres://postgres@{}/postgres", proxy.addr()).parse().unwrap();
    config.connect(NoTls).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_harms_nobody() {
    for _ in 0..10 {
        let start = FaultProxy::start(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let _ = timeout(Duration::ZERO, start).await;
    }
    let (_server, proxy) = redis_behind_proxy().await;
    Client::connect(&proxy).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_port_and_connections() {
    let (_server, proxy) = redis_behind_proxy().await;
    let mut client = Client::connect(&proxy).await;
    client.ping().await.unwrap();
    let addr = proxy.addr();
    drop(proxy);
    assert!(!matches!(client.0.read(&mut [0; 8]).await, Ok(1..)));
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
