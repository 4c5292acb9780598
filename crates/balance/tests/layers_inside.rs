//! A breaker and a bulkhead of each endpoint's own, inside the balancer.

mod support;

use std::{net::SocketAddr, time::Duration};

use buttress_balance::{Balance, Ejection, Endpoint};
use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_circuit_breaker::{CircuitBreakerLayer, State, Trip};
use buttress_http::{StatusClassifier, is_idempotent};
use buttress_retry::RetryLayer;
use http::Request;
use tokio::time::sleep;
use tower::Layer;

use self::support::{Body, Load, Replica, Shares, at, client, errors, get};

fn retry(
    name: &str,
) -> RetryLayer<StatusClassifier, impl Fn(&Request<Body>) -> Option<Request<Body>> + Clone> {
    RetryLayer::new(name)
        .classify(StatusClassifier)
        .requests(|request: &Request<Body>| is_idempotent(request.method()).then(|| request.clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_whose_breaker_is_open_is_left_alone() {
    let delay = Duration::from_millis(10);
    let replicas = [Replica::start(delay).await, Replica::start(delay).await, Replica::start(delay).await];
    let client = client();
    let mut breakers = Vec::new();
    let endpoints: Vec<(SocketAddr, _)> = replicas
        .iter()
        .map(|replica| {
            let layer = CircuitBreakerLayer::builder("stock endpoint").trip(Trip::consecutive(3).unwrap());
            let layer = layer.classify(StatusClassifier).build();
            breakers.push(layer.breaker());
            (replica.addr(), Endpoint::new(layer.layer(at(&client, replica.addr()))))
        })
        .collect();
    // The breakers alone are to tell.
    let balance =
        Balance::builder("breakers").classify(StatusClassifier).ejection(Ejection::off()).build(endpoints);
    let balance = retry("breakers").layer(balance);
    replicas[2].fail(true);
    let load = Load::start(16, move || get(balance.clone()));
    let mut shares = Shares::of(&replicas);
    sleep(Duration::from_secs(2)).await;
    eprintln!("at first: shares {:.3?}", shares.next());
    sleep(Duration::from_secs(2)).await;
    let later = shares.next();
    let calls = load.stop().await;
    eprintln!("{} calls; then: shares {later:.4?}; {:?}", calls.len(), breakers[2].state());
    assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
    assert_eq!(breakers[2].state(), State::Open);
    assert_eq!(later[2], 0.0, "{later:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_whose_bulkhead_is_full_is_passed_over() {
    // One holds each call for long, so that its two places are always taken.
    let replicas = [
        Replica::start(Duration::from_millis(5)).await,
        Replica::start(Duration::from_millis(5)).await,
        Replica::start(Duration::from_millis(200)).await,
    ];
    let client = client();
    let endpoints: Vec<(SocketAddr, _)> = replicas
        .iter()
        .map(|replica| {
            let places = if replica.addr() == replicas[2].addr() { 2 } else { 100 };
            let layer = BulkheadLayer::new("stock endpoint", Limit::fixed(places).unwrap());
            (replica.addr(), Endpoint::new(layer.layer(at(&client, replica.addr()))))
        })
        .collect();
    let balance = Balance::builder("bulkheads").classify(StatusClassifier).build(endpoints);
    let balance = retry("bulkheads").layer(balance);
    let load = Load::start(16, move || get(balance.clone()));
    sleep(Duration::from_secs(2)).await;
    let calls = load.stop().await;
    eprintln!("{} calls", calls.len());
    assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
    assert!(calls.len() > 1_000);
}
