//! One of three servers is ten times slower than the others: the callers must hardly notice.

mod support;

use std::time::Duration;

use buttress_balance::{Balance, Endpoint};
use buttress_http::StatusClassifier;
use tokio::time::sleep;

use self::support::{Load, Replica, Shares, at, client, errors, get, percentile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_costs_no_more_than_three_tenths_of_p99() {
    // Long enough that the noise of a busy machine is small beside it.
    let fast = Duration::from_millis(30);
    let replicas = [Replica::start(fast).await, Replica::start(fast).await, Replica::start(10 * fast).await];
    let client = client();
    let balance = |name: &str, replicas: &[Replica]| {
        let endpoints =
            replicas.iter().map(|replica| (replica.addr(), Endpoint::new(at(&client, replica.addr()))));
        Balance::builder(name).classify(StatusClassifier).build(endpoints.collect::<Vec<_>>())
    };
    let (two, three) = (balance("two", &replicas[..2]), balance("three", &replicas));

    // In turn, so that a machine that is busy for a while is so for both.
    let mut rounds = Vec::new();
    let mut shares = Shares::of(&replicas);
    for _ in 0..6 {
        let mut p99s = Vec::new();
        for balance in [&two, &three] {
            shares.next();
            let balance = balance.clone();
            let load = Load::start(16, move || get(balance.clone()));
            sleep(Duration::from_millis(1_500)).await;
            let calls = load.stop().await;
            assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
            assert!(calls.len() > 300, "too few for a p99: {}", calls.len());
            p99s.push(percentile(&calls, 0.99));
        }
        rounds.push((p99s[0], p99s[1], shares.next()[2]));
    }
    for (alone, beside, slow) in &rounds {
        eprintln!(
            "p99: two alone {alone:.1?}, beside a slow one {beside:.1?}, which got {:.2} %",
            100.0 * slow
        );
    }
    // Before the first round nobody knows how fast they are. Of the others the quietest for each: what else runs on the
    // machine makes a round slower and never faster, and a slow endpoint would do so in every one.
    let alone = rounds[1..].iter().map(|round| round.0).min().unwrap();
    let beside = rounds[1..].iter().map(|round| round.1).min().unwrap();
    eprintln!("the quietest: {alone:.1?} and {beside:.1?}");
    assert!(beside < alone.mul_f64(1.3), "{beside:?} is more than 1.3 times {alone:?}");
    let slow = rounds[1..].iter().map(|round| round.2).sum::<f64>() / 5.0;
    assert!(slow < 0.005, "p99 has room for one call in a hundred: {slow}");
    // It was tried, or nobody would know that it is slow.
    assert!(replicas[2].calls() > 0);
}
