//! Endpoints from a real DNS server: what has appeared, what is gone, and what an outage changes (nothing).

#![cfg(feature = "dns")]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use buttress_balance::{Change, Dns, DnsEndpoints, DnsError, Endpoint, InvalidDns};
use buttress_core::{Backoff, Observe};
use buttress_testkit::DnsServer;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

/// `+` or `-` and the address, or the error. `None`: there was nothing within that time.
async fn next<F>(endpoints: &mut DnsEndpoints<F>, within: Duration) -> Option<String>
where
    F: FnMut(SocketAddr) -> Endpoint<SocketAddr>,
{
    let change = timeout(within, endpoints.next()).await.ok()?;
    Some(match change.expect("the stream never ends") {
        Ok(Change::Insert(addr, _)) => format!("+{addr}"),
        Ok(Change::Remove(addr)) => format!("-{addr}"),
        Err(error) => error.to_string(),
    })
}

fn ips(ips: &[&str]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn dns(server: &DnsServer) -> Dns {
    let backoff = Backoff::exponential(Duration::from_millis(20), Duration::from_millis(200)).unwrap();
    Dns::new("stock.test", 80).server(server.addr()).backoff(backoff)
}

fn stock(server: &DnsServer) -> DnsEndpoints<impl FnMut(SocketAddr) -> Endpoint<SocketAddr> + use<>> {
    dns(server).endpoints(Endpoint::new).unwrap()
}

/// More than a TTL of 1 s, its tenth, and a busy machine.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn addresses_of_both_families_appear_and_only_the_difference_is_told() {
    let server = DnsServer::start(1).await;
    server.set("stock.test", &ips(&["127.0.0.2", "127.0.0.1", "::1"])).await;
    let mut endpoints = stock(&server);
    for expected in ["+127.0.0.1:80", "+127.0.0.2:80", "+[::1]:80"] {
        assert_eq!(next(&mut endpoints, SOON).await.unwrap(), expected);
    }
    server.set("stock.test", &ips(&["127.0.0.2", "127.0.0.3", "::1"])).await;
    let changed = Instant::now();
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), "+127.0.0.3:80");
    assert!(changed.elapsed() < Duration::from_secs(2), "the TTL and a second: {:?}", changed.elapsed());
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), "-127.0.0.1:80");
    assert_eq!(next(&mut endpoints, SOON).await, None);
}

#[tokio::test]
async fn an_answer_is_kept_for_its_ttl_within_its_bounds() {
    let server = DnsServer::start(0).await;
    server.set("stock.test", &ips(&["127.0.0.1"])).await;
    let hourly = DnsServer::start(3600).await;
    hourly.set("stock.test", &ips(&["127.0.0.1"])).await;
    let second = Duration::from_secs(1);
    // No TTL at all, and still not more than one lookup in a second; an hour, and still one; an hour, and none.
    let mut floor = stock(&server);
    let mut ceiling = dns(&hourly).ttl_between(second, second).endpoints(Endpoint::new).unwrap();
    let mut kept = stock(&hourly);
    assert_eq!(next(&mut floor, SOON).await.unwrap(), "+127.0.0.1:80");
    assert_eq!(next(&mut ceiling, SOON).await.unwrap(), "+127.0.0.1:80");
    assert_eq!(next(&mut kept, SOON).await.unwrap(), "+127.0.0.1:80");
    let while_ = Duration::from_millis(3_500);
    tokio::join!(next(&mut floor, while_), next(&mut ceiling, while_), next(&mut kept, while_));
    assert!((3..=4).contains(&floor.resolution().lookups()), "{}", floor.resolution().lookups());
    assert!((3..=4).contains(&ceiling.resolution().lookups()), "{}", ceiling.resolution().lookups());
    assert_eq!(kept.resolution().lookups(), 1);
}

#[tokio::test]
async fn an_outage_changes_nothing_and_is_told_once() {
    let server = DnsServer::start(1).await;
    server.set("stock.test", &ips(&["127.0.0.1"])).await;
    let mut endpoints = stock(&server);
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), "+127.0.0.1:80");
    server.kill().await;
    // A lookup may take all the time of its attempts.
    let long = Duration::from_secs(20);
    let killed = Instant::now();
    let told = next(&mut endpoints, long).await.unwrap();
    eprintln!("told after {:?}: {told}", killed.elapsed());
    assert!(told.starts_with("the lookup of stock.test: "), "{told}");
    assert_eq!(next(&mut endpoints, SOON).await, None);
    let resolution = endpoints.resolution();
    assert!(resolution.failures() >= 1);
    assert_eq!(resolution.addresses(), 1);
    assert!(resolution.age().unwrap() > SOON, "{:?}", resolution.age());

    server.set("stock.test", &ips(&["127.0.0.2"])).await;
    server.restart().await;
    let back = Instant::now();
    assert_eq!(next(&mut endpoints, long).await.unwrap(), "+127.0.0.2:80");
    eprintln!("found again after {:?}", back.elapsed());
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), "-127.0.0.1:80");
    assert!(resolution.age().unwrap() < SOON);
}

#[tokio::test]
async fn a_name_that_is_gone_keeps_its_addresses_and_one_that_comes_is_found() {
    let nothing = "the lookup of stock.test: no such name, or no address of it";
    let server = DnsServer::start(1).await;
    let mut endpoints = stock(&server);
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), nothing);
    assert_eq!(endpoints.resolution().age(), None);
    server.set("stock.test", &ips(&["127.0.0.1"])).await;
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), "+127.0.0.1:80");
    server.set("stock.test", &[]).await;
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), nothing);
    assert_eq!(next(&mut endpoints, SOON).await, None);
    assert_eq!(endpoints.resolution().addresses(), 1);
}

#[tokio::test]
async fn addresses_that_nobody_can_have_are_none() {
    let server = DnsServer::start(1).await;
    server.set("stock.test", &ips(&["0.0.0.0", "224.0.0.1", "::", "ff02::1", "127.0.0.1"])).await;
    let mut endpoints = stock(&server);
    assert_eq!(next(&mut endpoints, SOON).await.unwrap(), "+127.0.0.1:80");
    assert_eq!(next(&mut endpoints, Duration::from_secs(1)).await, None);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_whole_and_the_lowest_are_used() {
    let server = DnsServer::start(60).await;
    let address = |n: u16| IpAddr::from([127, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
    let all: Vec<IpAddr> = (0..1_500).map(address).collect();
    server.set("stock.test", &all).await;
    let mut endpoints = stock(&server);
    for ip in &all[..1_000] {
        assert_eq!(next(&mut endpoints, SOON).await.unwrap(), format!("+{ip}:80"));
    }
    assert_eq!(next(&mut endpoints, Duration::from_secs(1)).await, None);
    assert_eq!(endpoints.resolution().addresses(), 1_500);
}

#[tokio::test]
async fn figures_are_observed_under_the_host() {
    let server = DnsServer::start(1).await;
    server.set("stock.test", &ips(&["127.0.0.1"])).await;
    let mut endpoints = stock(&server);
    let resolution = endpoints.resolution();
    assert_eq!((resolution.origin().layer(), resolution.origin().name()), ("dns", "stock.test"));
    let names = || {
        let mut names = Vec::new();
        resolution.observe(&mut |metric| names.push(metric.name));
        names
    };
    assert_eq!(names(), ["lookups", "failures", "addresses"]);
    next(&mut endpoints, SOON).await.unwrap();
    assert_eq!(names(), ["lookups", "failures", "addresses", "answer_age"]);
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_refused_before() {
    let refused = |dns: Dns| dns.endpoints(Endpoint::<SocketAddr>::new).unwrap_err();
    let label = "a".repeat(64);
    for host in ["", ".", "stock..test", &label] {
        assert!(matches!(refused(Dns::new(host, 80)), InvalidDns::Host { .. }), "{host:?}");
    }
    assert!(matches!(refused(Dns::new("stock.test", 0)), InvalidDns::PortZero));
    for (floor, ceiling) in [(0, 1), (2, 1)] {
        let (floor, ceiling) = (Duration::from_secs(floor), Duration::from_secs(ceiling));
        assert!(matches!(
            refused(Dns::new("stock.test", 80).ttl_between(floor, ceiling)),
            InvalidDns::Ttl { .. }
        ));
    }
}

#[tokio::test]
async fn an_address_is_its_own_answer() {
    for (host, expected) in [("127.0.0.7", "+127.0.0.7:80"), ("::7", "+[::7]:80")] {
        let server = DnsServer::start(1).await;
        let mut endpoints = Dns::new(host, 80).server(server.addr()).endpoints(Endpoint::new).unwrap();
        assert_eq!(next(&mut endpoints, SOON).await.unwrap(), expected);
        assert_eq!(next(&mut endpoints, Duration::from_millis(500)).await, None);
        assert_eq!(endpoints.resolution().addresses(), 1);
    }
}

/// It is sent to a task, and its error to wherever.
#[test]
fn a_stream_of_endpoints_is_send() {
    fn send<T: Send + 'static>(_: T) {}
    fn error<T: std::error::Error + Send + Sync + Clone + 'static>(_: Option<T>) {}
    let dns = Dns::new("stock.test", 80).server(([127, 0, 0, 1], 53).into());
    send(dns.endpoints(Endpoint::<SocketAddr>::new).unwrap());
    error(None::<DnsError>);
}

/// Who never wants to ask again: an answer that holds for ever is none that panics.
#[tokio::test]
async fn an_answer_may_hold_for_ever() {
    let server = DnsServer::start(0).await;
    server.set("stock.test", &ips(&["127.0.0.1"])).await;
    let dns = dns(&server).ttl_between(Duration::MAX, Duration::MAX);
    let mut endpoints = dns.endpoints(Endpoint::new).unwrap();
    assert_eq!(next(&mut endpoints, Duration::from_secs(5)).await.unwrap(), "+127.0.0.1:80");
    assert_eq!(next(&mut endpoints, Duration::from_millis(50)).await, None);
}
