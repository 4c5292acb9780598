//! Real servers that die, freeze and come back.
#![cfg(all(feature = "http", feature = "postgres", feature = "redis"))]
#![expect(clippy::print_stdout, reason = "the figures of the run")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_health::{Health, Part, Probe, Report, State, Status, Watch};
use buttress_http::HttpClient;
use buttress_postgres::{Postgres, PostgresConfig};
use buttress_redis::{Redis, RedisConfig};
use buttress_testkit::{Fault, FaultProxy, PostgresServer, RedisServer, Reply, Upstream};
use http_body_util::Empty;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

const INTERVAL: Duration = Duration::from_secs(2);
/// Until a server that is back is seen: a few rechecks, and what the client takes to connect anew.
const BACK: Duration = Duration::from_secs(30);

fn http() -> HttpClient<Empty<&'static [u8]>> {
    HttpClient::builder().name("stock").build().unwrap()
}

fn postgres(url: &str) -> Postgres {
    Postgres::new(PostgresConfig::from_url(url).unwrap()).unwrap()
}

async fn redis(url: &str) -> Redis {
    let config = RedisConfig::from_url(url).unwrap();
    let config = config.with_reconnect(Duration::from_millis(100), Duration::from_millis(500));
    Redis::connect(config).await.unwrap()
}

/// Waits for a report of which this holds, so long at most.
async fn within(watch: &mut Watch, limit: Duration, holds: impl Fn(&Report) -> bool) -> Report {
    let seen = timeout(limit, async {
        loop {
            let report = watch.report();
            if holds(&report) {
                return report;
            }
            watch.changed().await.expect("the health runs");
        }
    });
    seen.await.unwrap_or_else(|_| panic!("not within {limit:?}: {:?}", watch.report()))
}

fn is(part: &str, state: State) -> impl Fn(&Report) -> bool {
    move |report| report.part(part).unwrap().state == state
}

/// That part is down within two intervals, and alone; ready goes with it if it is critical.
async fn goes_down(watch: &mut Watch, part: &str) {
    let begun = Instant::now();
    let report = within(watch, 2 * INTERVAL, is(part, State::Down)).await;
    println!(
        "{part}: down is seen after {:?}: {}",
        begun.elapsed(),
        report.part(part).unwrap().cause.as_ref().unwrap()
    );
    for other in report.parts() {
        assert_eq!(other.state == State::Down, other.name == part, "{report:?}");
    }
    assert_eq!(report.is_ready(), !report.part(part).unwrap().critical, "{report:?}");
    assert!(report.is_live() && report.is_started());
}

async fn comes_back(watch: &mut Watch, part: &str) {
    let begun = Instant::now();
    let report = within(watch, BACK, is(part, State::Up)).await;
    println!("{part}: up again is seen after {:?}", begun.elapsed());
    assert!(report.is_ready(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_killed_in_turn_and_recovers_by_itself() {
    let (db, sessions, stock) =
        tokio::join!(PostgresServer::start(), RedisServer::start(), Upstream::start());
    stock.on("/healthz", Reply::ok("well"));
    let proxy = FaultProxy::start(stock.addr()).await;
    let health = Health::builder()
        .part(Part::new("postgres", Probe::postgres(postgres(&db.url()))).critical().interval(INTERVAL))
        .part(Part::new("redis", Probe::redis(redis(&sessions.url()).await)).critical().interval(INTERVAL))
        .part(
            Part::new("stock", Probe::http(http(), format!("http://{}/healthz", proxy.addr())).unwrap())
                .interval(INTERVAL),
        )
        .start()
        .unwrap();
    health.wait_ready(BACK).await.unwrap();
    let mut watch = health.watch();
    within(&mut watch, BACK, is("stock", State::Up)).await;

    db.kill().await;
    goes_down(&mut watch, "postgres").await;
    db.restart().await;
    comes_back(&mut watch, "postgres").await;

    sessions.kill().await;
    goes_down(&mut watch, "redis").await;
    sessions.restart().await;
    comes_back(&mut watch, "redis").await;

    proxy.set(Fault::Refuse);
    proxy.cut();
    goes_down(&mut watch, "stock").await;
    proxy.set(Fault::Pass);
    comes_back(&mut watch, "stock").await;

    health.shutdown().await;
    let asked = stock.requests().len();
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(stock.requests().len(), asked, "nobody is asked any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_frozen_is_down_by_its_timeout_and_a_tcp_probe_is_fooled() {
    let (db, sessions, stock) =
        tokio::join!(PostgresServer::start(), RedisServer::start(), Upstream::start());
    stock.on("/healthz", Reply::ok("well"));
    let before_db = FaultProxy::start(db.addr()).await;
    let before_sessions = FaultProxy::start(sessions.addr()).await;
    let before_stock = FaultProxy::start(stock.addr()).await;
    let proxies = [&before_db, &before_sessions, &before_stock];

    let db = postgres(&format!("postgres://postgres@{}/postgres", before_db.addr()));
    let sessions = redis(&format!("redis://{}", before_sessions.addr())).await;
    let failures = Arc::new(AtomicUsize::new(0));
    let seen = failures.clone();
    let part = |name: &str, probe| Part::new(name, probe).interval(INTERVAL).critical();
    let health = Health::builder()
        .part(part("postgres", Probe::postgres(db)))
        .part(part("redis", Probe::redis(sessions)))
        .part(part("stock", Probe::http(http(), format!("http://{}/healthz", before_stock.addr())).unwrap()))
        .part(part("fooled", Probe::tcp(before_stock.addr())))
        .part(
            part("not fooled", Probe::tcp(before_stock.addr()))
                .passive(move || Status::down_if(seen.load(SeqCst) > 2, "calls time out")),
        )
        .start()
        .unwrap();
    health.wait_ready(BACK).await.unwrap();
    let mut watch = health.watch();

    proxies.iter().for_each(|proxy| proxy.set(Fault::BlackHole));
    let begun = Instant::now();
    failures.store(3, SeqCst);
    for name in ["postgres", "redis", "stock", "not fooled"] {
        let left = (2 * INTERVAL).saturating_sub(begun.elapsed());
        let report = within(&mut watch, left, is(name, State::Down)).await;
        let cause = report.part(name).unwrap().cause.clone().unwrap();
        println!("{name}: down is seen after {:?}: {cause}", begun.elapsed());
        if name != "not fooled" {
            assert_eq!(cause.as_str(), "no answer within 400ms", "{name}");
        }
    }
    assert_eq!(health.report().part("fooled").unwrap().state, State::Up, "somebody accepts");

    proxies.iter().for_each(|proxy| proxy.set(Fault::Pass));
    failures.store(0, SeqCst);
    within(&mut watch, BACK, Report::is_ready).await;
    println!("all are up again");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_down_and_says_so() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://user:hunter2@{nobody}/private/hunter2?token=hunter2");
    let health = Health::builder()
        .part(Part::new("http", Probe::http(http(), url).unwrap()))
        .part(Part::new("tcp", Probe::tcp(nobody)))
        .part(Part::new("name", Probe::tcp("localhost:0")))
        .part(Part::new("odd", Probe::tcp("no port")))
        .part(Part::new("postgres", Probe::postgres(postgres(&format!("postgres://a:hunter2@{nobody}/b")))))
        .start()
        .unwrap();
    let mut watch = health.watch();
    for part in ["http", "tcp", "name", "odd", "postgres"] {
        let report = within(&mut watch, BACK, is(part, State::Down)).await;
        let cause = report.part(part).unwrap().cause.clone().unwrap();
        println!("{part}: {cause}");
        assert!(cause.as_str().contains("no connection"), "{part}: {cause}");
        assert!(!format!("{cause} {health:?}").contains("hunter2"), "{part}: {cause}");
    }
    assert!(Probe::http(http(), "http://a b").is_err());
}

#[tokio::test]
async fn what_a_postgres_says_is_not_shown() {
    const SAYS: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mhunter2 at db-7.internal\0\0";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://shop@{}/shop?sslmode=disable", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_u8(b'E').await;
            let _ = stream.write_u32(SAYS.len() as u32 + 4).await;
            let _ = stream.write_all(SAYS).await;
        }
    });
    let health = Health::builder().part(Part::new("postgres", Probe::postgres(postgres(&url)))).start();
    let health = health.unwrap();
    let report = within(&mut health.watch(), BACK, is("postgres", State::Down)).await;
    let cause = report.parts()[0].cause.clone().unwrap();
    println!("{cause}");
    assert!(cause.as_str().contains("28P01") && !cause.as_str().contains("hunter2"), "{cause}");
}
