//! A real gRPC server with the health service.
#![cfg(feature = "grpc")]

use std::{net::SocketAddr, time::Duration};

use buttress_health::{Health, Part, Probe, State, Watch};
use buttress_testkit::{Fault, FaultProxy};
use tokio::{task::JoinHandle, time::timeout};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    server::{HealthReporter, health_reporter},
};

const INTERVAL: Duration = Duration::from_secs(2);

struct Grpc {
    addr: SocketAddr,
    reporter: HealthReporter,
    serving: JoinHandle<()>,
}

impl Grpc {
    async fn start(addr: SocketAddr) -> Self {
        let incoming = TcpIncoming::bind(addr).unwrap();
        let addr = incoming.local_addr().unwrap();
        let (reporter, service) = health_reporter();
        reporter.set_service_status("shop", ServingStatus::Serving).await;
        let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
        let serving = tokio::spawn(async { serving.await.unwrap() });
        Self { addr, reporter, serving }
    }
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn channel(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy()
}

fn part(name: &str, addr: SocketAddr, service: &str) -> Part {
    Part::new(name, Probe::grpc(channel(addr), service)).critical().interval(INTERVAL)
}

/// Waits for this state, and gives the cause.
async fn becomes(watch: &mut Watch, part: &str, state: State, limit: Duration) -> String {
    timeout(limit, async {
        loop {
            let report = watch.report();
            let part = report.part(part).unwrap();
            if part.state == state {
                return part.cause.as_ref().map(ToString::to_string).unwrap_or_default();
            }
            watch.changed().await.expect("the health runs");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not {state:?} within {limit:?}: {:?}", watch.report()))
}

#[tokio::test]
async fn serving_is_up_and_everything_else_is_down() {
    let server = Grpc::start(anywhere()).await;
    let proxy = FaultProxy::start(server.addr).await;
    let health = Health::builder()
        .part(part("whole", proxy.addr(), ""))
        .part(part("shop", proxy.addr(), "shop"))
        .part(part("unknown", server.addr, "hunter2"))
        .start()
        .unwrap();
    let mut watch = health.watch();
    let first = Duration::from_secs(10);
    becomes(&mut watch, "whole", State::Up, first).await;
    becomes(&mut watch, "shop", State::Up, first).await;
    let cause = becomes(&mut watch, "unknown", State::Down, first).await;
    assert_eq!(cause, "the server does not know this service");

    server.reporter.set_service_status("shop", ServingStatus::NotServing).await;
    let cause = becomes(&mut watch, "shop", State::Down, 2 * INTERVAL).await;
    assert_eq!(cause, "it says NOT_SERVING");
    assert_eq!(watch.report().part("whole").unwrap().state, State::Up);
    server.reporter.set_service_status("shop", ServingStatus::Serving).await;
    becomes(&mut watch, "shop", State::Up, 2 * INTERVAL).await;

    proxy.set(Fault::BlackHole);
    let cause = becomes(&mut watch, "whole", State::Down, 2 * INTERVAL).await;
    assert_eq!(cause, "no answer within 400ms");
    // What lost a byte is dead for ever, and only its keep-alive would notice.
    proxy.cut();
    proxy.set(Fault::Pass);
    becomes(&mut watch, "whole", State::Up, 10 * INTERVAL).await;
}

#[tokio::test]
async fn a_server_that_dies_comes_back() {
    let server = Grpc::start(anywhere()).await;
    let proxy = FaultProxy::start(server.addr).await;
    let health = Health::builder().part(part("shop", proxy.addr(), "shop")).start().unwrap();
    let mut watch = health.watch();
    becomes(&mut watch, "shop", State::Up, Duration::from_secs(10)).await;
    server.serving.abort();
    let _ = server.serving.await;
    proxy.set(Fault::Refuse);
    proxy.cut();
    let cause = becomes(&mut watch, "shop", State::Down, 2 * INTERVAL).await;
    assert_eq!(cause, "The service is currently unavailable");
    let again = Grpc::start(server.addr).await;
    proxy.set(Fault::Pass);
    becomes(&mut watch, "shop", State::Up, 10 * INTERVAL).await;
    drop(again);
}

#[tokio::test]
async fn a_server_without_the_health_service_is_down() {
    let incoming = TcpIncoming::bind(anywhere()).unwrap();
    let addr = incoming.local_addr().unwrap();
    tokio::spawn(Server::builder().add_routes(Routes::default()).serve_with_incoming(incoming));
    let health = Health::builder().part(part("shop", addr, "")).start().unwrap();
    let cause = becomes(&mut health.watch(), "shop", State::Down, Duration::from_secs(10)).await;
    assert_eq!(cause, "the server has no grpc.health.v1.Health");
}
