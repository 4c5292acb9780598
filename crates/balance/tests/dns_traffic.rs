//! Calls follow the DNS, and go on without it.

#![cfg(feature = "dns")]

mod support;

use std::{net::IpAddr, time::Duration};

use buttress_balance::{Balance, Dns, Endpoint};
use buttress_http::StatusClassifier;
use buttress_testkit::DnsServer;
use tokio::time::sleep;

use self::support::{Load, Replica, at, client, errors, get, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_follows_the_dns_within_its_ttl_and_a_second_and_goes_on_without_it() {
    let ips: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec();
    let replicas = Replica::start_on(&ips, Duration::from_millis(2)).await;
    let ttl = 1;
    let follows = Duration::from_secs(u64::from(ttl) + 1);
    let server = DnsServer::start(ttl).await;
    server.set("stock.test", &ips[..1]).await;

    let client = client();
    let source = Dns::new("stock.test", replicas[0].addr().port())
        .server(server.addr())
        .endpoints(move |addr| Endpoint::new(at(&client, addr)))
        .unwrap();
    let resolution = source.resolution();
    let balance = Balance::builder("dns").classify(StatusClassifier).discover(source);
    let load = {
        let balance = balance.clone();
        // The first of them wait for the first answer.
        Load::start(4, move || get(balance.clone()))
    };
    until(follows, "the first is called", || replicas[0].calls() > 100).await;
    assert_eq!(replicas[1].calls(), 0);

    server.set("stock.test", &ips).await;
    let appeared = until(follows, "an address that appeared is called", || replicas[1].calls() > 0).await;
    server.set("stock.test", &ips[1..]).await;
    let mut last = (0, 0);
    // Until a quarter of a second has passed without a call.
    let mut quiet = tokio::time::Instant::now();
    let gone = until(follows + Duration::from_millis(250), "an address that is gone is left alone", || {
        if replicas[0].calls() != last.0 {
            last.0 = replicas[0].calls();
            quiet = tokio::time::Instant::now();
        }
        quiet.elapsed() > Duration::from_millis(250)
    })
    .await;
    eprintln!("appeared after {appeared:?}, gone after {:?}", gone - Duration::from_millis(250));

    server.kill().await;
    let (one, two) = (replicas[0].calls(), replicas[1].calls());
    until(Duration::from_secs(20), "a lookup fails", || resolution.failures() > 0).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(replicas[0].calls(), one);
    assert!(replicas[1].calls() > two + 100);

    let calls = load.stop().await;
    eprintln!("{} calls", calls.len());
    assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
    drop(balance);
}
