//! A breaker for each key.
#![cfg(feature = "keyed")]

use std::time::Duration;

use buttress_circuit_breaker::{CircuitBreakerLayer, KeyedLayer, State, Trip};
use buttress_core::{Metric, Observe, Outcome, Reason, Rejectable, Value};
use buttress_testkit::probe::{self, Backend, BoxError};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

type Request = (&'static str, bool);

fn by_host(trip: u32) -> KeyedLayer<&'static str, impl Fn(&Request) -> &'static str + Clone> {
    CircuitBreakerLayer::builder("hosts")
        .trip(Trip::consecutive(trip).unwrap())
        .keyed(|request: &Request| request.0)
}

fn upstream() -> impl Service<Request, Response = (), Error = BoxError, Future: Send> + Clone {
    service_fn(async |(_, works): Request| if works { Ok(()) } else { Err(BoxError::from("down")) })
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_is_cut_off_and_the_others_are_not() {
    let layer = by_host(2);
    let mut service = layer.layer(upstream());
    for request in [("a", false), ("b", true), ("a", false), ("b", true)] {
        let _answer = service.ready().await.unwrap().call(request).await;
    }
    let refused = service.ready().await.unwrap().call(("a", true)).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::CircuitOpen);
    // Another service of the same layer knows it as well.
    let mut other = layer.layer(upstream()).clone();
    assert!(other.ready().await.unwrap().call(("a", true)).await.is_err());
    assert!(other.ready().await.unwrap().call(("b", true)).await.is_ok());
    let breakers = layer.breakers();
    assert_eq!(breakers.get(&"a").unwrap().state(), State::Open);
    assert_eq!(breakers.get(&"b").unwrap().state(), State::Closed);
    assert!(breakers.get(&"c").is_none(), "asking makes none");

    let mut metrics = Vec::new();
    breakers.observe(&mut |metric| metrics.push(metric));
    assert!(metrics.contains(&Metric::new("keys", Value::Gauge(2.0))));
    assert!(metrics.contains(&Metric::new("breakers", Value::Gauge(1.0)).with_label("state", "open")));
    assert!(metrics.contains(&Metric::new("breakers", Value::Gauge(1.0)).with_label("state", "closed")));
}

#[tokio::test(start_paused = true)]
async fn random_keys_neither_fill_the_memory_nor_hide_a_host_that_is_down() {
    let layer = CircuitBreakerLayer::builder("flood")
        .trip(Trip::consecutive(2).unwrap())
        .keyed(|key: &u64| *key)
        .capacity(100);
    let breakers = layer.breakers();
    (0..2).for_each(|_| breakers.breaker(&0).acquire().unwrap().finish(Outcome::Failure));
    let mut refused = 0;
    for key in 1..200_000 {
        breakers.breaker(&key).acquire().unwrap().finish(Outcome::Success);
        if key % 50 == 0 {
            refused += u32::from(breakers.breaker(&0).acquire().is_err());
        }
        assert!(breakers.len() <= breakers.capacity() && breakers.capacity() <= 128);
    }
    // Its open time does not end: the clock stands.
    assert_eq!(refused, 3_999, "open all the time");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_asks_for_is_forgotten() {
    let breakers = by_host(1).idle(Duration::from_secs(60)).breakers();
    breakers.breaker(&"idle").force_open();
    for _ in 0..5 {
        sleep(Duration::from_secs(61)).await;
        breakers.breaker(&"used");
        // Only a new key looks for old ones.
        breakers.breaker(&["1", "2", "3", "4", "5"][fastrand::usize(..5)]);
    }
    assert!(breakers.get(&"idle").is_none());
    assert!(breakers.get(&"used").is_some());
}

#[tokio::test(start_paused = true)]
async fn settings_reach_those_that_are_there_and_those_to_come() {
    let layer = by_host(2);
    let breakers = layer.breakers();
    let early = breakers.breaker(&"early");
    breakers.configure(breakers.settings().trip(Trip::consecutive(1).unwrap()));
    for breaker in [early, breakers.breaker(&"late")] {
        breaker.acquire().unwrap().finish(Outcome::Failure);
        assert_eq!(breaker.state(), State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn it_owes_what_every_layer_owes() {
    let layer = || {
        CircuitBreakerLayer::builder("contract").trip(Trip::consecutive(1).unwrap()).keyed(|_: &u32| "one")
    };
    probe::calls_only_ready(layer()).await;
    probe::releases_readiness(layer()).await;
    probe::survives_panic(layer()).await;
    probe::cancel_everywhere(layer(), |_: &Backend| {}, |_: &Backend| {}).await;
}
