//! A breaker for each key.
#![cfg(feature = "keyed")]

use std::{
    fmt,
    hash::{Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use buttress_circuit_breaker::{Breakers, CircuitBreakerLayer, KeyedLayer, State, Trip};
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
    for key in ["idle", "used"] {
        breakers.breaker(&key).force_open();
    }
    // Only a new key looks for old ones.
    for new in ["1", "2", "3", "4", "5"] {
        sleep(Duration::from_secs(61)).await;
        breakers.breaker(&"used");
        breakers.breaker(&new);
    }
    assert!(breakers.get(&"idle").is_none());
    assert_eq!(breakers.get(&"used").unwrap().state(), State::ForcedOpen, "the same all the time");
    assert!(breakers.get(&"1").is_none());
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

/// Changes the settings of all while its breaker is made, and goes on for ever when it is asked for its name.
#[derive(Clone)]
struct Hostile(Arc<OnceLock<Breakers<Hostile>>>);

impl Hash for Hostile {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Hostile {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hostile {}

impl fmt::Debug for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let breakers = self.0.get().unwrap();
        breakers.configure(breakers.settings().trip(Trip::consecutive(1).unwrap()));
        loop {
            f.write_str("ää")?;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn settings_reach_a_breaker_that_is_being_made_and_a_long_name_is_cut() {
    let key = Hostile(Arc::default());
    let by_itself = key.clone();
    let layer = CircuitBreakerLayer::builder("hostile").keyed(move |(): &()| by_itself.clone());
    let breakers = key.0.get_or_init(|| layer.breakers());
    let breaker = breakers.breaker(&key);
    breaker.acquire().unwrap().finish(Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn any_capacity_will_do() {
    for most in [0, 1, 2, 3, 33, 1_000, usize::MAX] {
        let breakers = by_host(1).capacity(most).breakers();
        breakers.breaker(&"a").acquire().unwrap().finish(Outcome::Failure);
        assert_eq!(breakers.get(&"a").map(|breaker| breaker.state()), Some(State::Open), "{most}");
    }
}

/// Cannot be named.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Unspeakable;

impl fmt::Debug for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no name")
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_harms_no_other() {
    let layer = CircuitBreakerLayer::builder("panics").keyed(|named: &bool| (!named).then_some(Unspeakable));
    let breakers = layer.breakers();
    for _ in 0..3 {
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| breakers.breaker(&Some(Unspeakable))));
        assert!(panicked.is_err());
        assert!(breakers.breaker(&None).acquire().is_ok());
    }
    assert_eq!(breakers.len(), 1);
}
