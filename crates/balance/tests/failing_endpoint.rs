//! One of three servers fails at once, or is gone: it gets hardly any calls, and is back soon after it is well.

mod support;

use std::{net::SocketAddr, time::Duration};

use buttress_balance::{Balance, Ejection, Endpoint};
use buttress_http::{StatusClassifier, is_idempotent};
use buttress_retry::RetryLayer;
use http::Request;
use tokio::time::sleep;
use tower::{Layer, Service};

use self::support::{Body, Load, Replica, Shares, at, client, errors, get, until};

const EJECTED: Duration = Duration::from_millis(300);
/// It grows to ten times the first.
const EJECTED_AT_MOST: Duration = Duration::from_secs(3);

fn stock(
    name: &str,
    replicas: &[Replica],
) -> impl Service<Request<Body>, Response = support::Answer, Error = buttress_http::Error, Future: Send>
+ Clone
+ Send
+ Sync
+ use<> {
    let client = client();
    let endpoints: Vec<(SocketAddr, _)> =
        replicas.iter().map(|replica| (replica.addr(), Endpoint::new(at(&client, replica.addr())))).collect();
    Balance::builder(name)
        .classify(StatusClassifier)
        .ejection(Ejection::try_new(5, EJECTED, 0.5).unwrap())
        .slow_start(Duration::from_millis(500))
        .build(endpoints)
}

async fn three() -> [Replica; 3] {
    let delay = Duration::from_millis(10);
    [Replica::start(delay).await, Replica::start(delay).await, Replica::start(delay).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_at_once_gets_under_two_per_cent_and_is_back_within_its_ejection_time() {
    let replicas = three().await;
    let balance = stock("failing fast", &replicas);
    replicas[2].fail(true);
    let load = Load::start(16, move || get(balance.clone()));
    let mut shares = Shares::of(&replicas);
    for second in 1..=5 {
        sleep(Duration::from_secs(1)).await;
        eprintln!("second {second}: shares {:.3?}", shares.next());
    }
    sleep(Duration::from_secs(4)).await;
    let later = shares.next();
    eprintln!("seconds 6 to 9: shares {later:.4?}");
    assert!(later[2] < 0.02, "{later:?}");

    replicas[2].fail(false);
    let seen = replicas[2].calls();
    // An ejection that has just begun, and then a fair share of some hundred calls a second.
    let back =
        until(EJECTED_AT_MOST + Duration::from_secs(1), "it is back", || replicas[2].calls() > seen + 50)
            .await;
    eprintln!("back in rotation after {back:?}");
    shares.next();
    sleep(Duration::from_secs(1)).await;
    let well = shares.next();
    eprintln!("well again: shares {well:.3?}");
    assert!(well[2] > 0.15, "{well:?}");
    let calls = load.stop().await;
    eprintln!("{} calls, errors {:?}", calls.len(), errors(&calls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_killed_and_comes_back_on_its_port_costs_no_call_behind_a_retry() {
    let replicas = three().await;
    let retry = RetryLayer::new("killed")
        .classify(StatusClassifier)
        .requests(|request: &Request<Body>| is_idempotent(request.method()).then(|| request.clone()));
    let balance = retry.layer(stock("killed", &replicas));
    let load = Load::start(16, move || get(balance.clone()));
    sleep(Duration::from_millis(500)).await;
    assert!(replicas[2].calls() > 20);

    replicas[2].kill().await;
    let seen = replicas[2].calls();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(replicas[2].calls(), seen, "it is dead");
    replicas[2].restart().await;
    let back =
        until(EJECTED_AT_MOST + Duration::from_secs(1), "it is back", || replicas[2].calls() > seen + 50)
            .await;
    let calls = load.stop().await;
    eprintln!("{} calls, back in rotation after {back:?}", calls.len());
    assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
    assert!(calls.len() > 1_000);
}
