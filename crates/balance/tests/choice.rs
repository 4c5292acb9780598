//! Zones, sticky keys, events: at the service.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_balance::{Balance, Change, Ejection, Endpoint};
use buttress_core::{Origin, Reason, Rejected};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// It answers with its number, or refuses.
type Named = BoxCloneSyncService<u64, u32, Rejected>;

fn named(n: u32, refuses: &Arc<AtomicBool>) -> Endpoint<Named> {
    let refuses = Arc::clone(refuses);
    Endpoint::new(BoxCloneSyncService::new(service_fn(move |_: u64| {
        let origin = Origin::new("circuit-breaker", "choice");
        std::future::ready(if refuses.load(Relaxed) {
            Err(origin.reject(Reason::CircuitOpen))
        } else {
            Ok(n)
        })
    })))
}

fn well() -> Arc<AtomicBool> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn the_nearest_are_preferred_while_half_of_them_are_well() {
    let zones = ["a", "a", "a", "b", "b"];
    let endpoints = (0..5).map(|n| (n, named(n, &well()).zone(zones[n as usize])));
    let balance = Balance::builder("zones").zone("a").build(endpoints);
    let seen = async || {
        let mut seen = [false; 5];
        for n in 0..200 {
            seen[balance.clone().oneshot(n).await.unwrap() as usize] = true;
        }
        seen
    };
    assert_eq!(seen().await, [true, true, true, false, false]);
    balance.balancer().eject(&0);
    assert_eq!(seen().await, [false, true, true, false, false], "two of three");
    balance.balancer().eject(&1);
    assert_eq!(seen().await, [false, false, true, true, true], "one of three");
    balance.balancer().restore(&1);
    assert_eq!(seen().await, [false, true, true, false, false]);
    for near in 0..3 {
        balance.members().apply(Change::Remove(near));
    }
    assert_eq!(seen().await, [false, false, false, true, true], "none is near");
}

/// They are in the rotation, but none of them wants a call: those further away do.
#[tokio::test(start_paused = true)]
async fn where_all_of_the_nearest_refuse_the_others_are_asked() {
    let (near, far) = (well(), well());
    let endpoints = || [(0, named(0, &near).zone("a")), (1, named(1, &far).zone("b")), (2, named(2, &far))];
    let by_load = Balance::builder("zones").zone("a").build(endpoints());
    let by_key = Balance::builder("zones").zone("a").sticky(|n: &u64| Some(*n)).build(endpoints());
    near.store(true, Relaxed);
    let refused = by_load.clone().oneshot(0).await.unwrap_err();
    assert!(refused.is_by_one_of_several(), "those further away are others, too");
    by_key.clone().oneshot(0).await.unwrap_err();
    for n in 0..50 {
        assert_ne!(by_load.clone().oneshot(n).await.unwrap(), 0);
        assert_ne!(by_key.clone().oneshot(n).await.unwrap(), 0);
    }
    far.store(true, Relaxed);
    for n in 0..50 {
        by_load.clone().oneshot(n).await.unwrap_err();
    }
    assert!(!by_load.clone().oneshot(0).await.unwrap_err().is_by_one_of_several(), "all have refused");
    near.store(false, Relaxed);
    far.store(false, Relaxed);
    tokio::time::sleep(Duration::from_millis(101)).await;
    for n in 0..50 {
        assert_eq!(by_load.clone().oneshot(n).await.unwrap(), 0);
        assert_eq!(by_key.clone().oneshot(n).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_to_its_endpoint_and_comes_back_to_it() {
    let refuses = well();
    let never = well();
    let endpoint = |n| (n, named(n, if n == 2 { &refuses } else { &never }));
    let endpoints: Vec<_> = (0..6).map(endpoint).collect();
    let sticky = || {
        let key = |n: &u64| n.checked_sub(1);
        Balance::builder("sticky").slow_start(Duration::ZERO).sticky(key).build(endpoints.clone())
    };
    let (balance, twin) = (sticky(), sticky());
    let owners = async |balance: &Balance<u32, Named, _>| {
        let mut owners = Vec::new();
        for key in 1..=200 {
            owners.push(balance.clone().oneshot(key).await.unwrap());
        }
        owners
    };
    let before = owners(&balance).await;
    assert_eq!(before, owners(&balance).await);
    assert_eq!(before, owners(&twin).await, "another balancer over the same");
    assert!((0..6).all(|n| before.contains(&n)));

    balance.balancer().eject(&4);
    let without = owners(&balance).await;
    assert!(before.iter().zip(&without).all(|(before, now)| *now != 4 && (before == now || *before == 4)));
    balance.balancer().restore(&4);
    assert_eq!(owners(&balance).await, before);

    // Its owner refuses: one call learns of that, the next ones go to the second in the key's order.
    let key = 1 + before.iter().position(|owner| *owner == 2).unwrap() as u64;
    refuses.store(true, Relaxed);
    balance.clone().oneshot(key).await.unwrap_err();
    assert_ne!(balance.clone().oneshot(key).await.unwrap(), 2);
    refuses.store(false, Relaxed);
    tokio::time::sleep(Duration::from_millis(101)).await;
    assert_eq!(balance.clone().oneshot(key).await.unwrap(), 2);

    // Without a key it goes anywhere.
    let mut seen = [false; 6];
    for _ in 0..300 {
        seen[balance.clone().oneshot(0).await.unwrap() as usize] = true;
    }
    assert_eq!(seen, [true; 6]);
}

/// What the events say, in words.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("buttress_balance")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Words(String);
        impl Visit for Words {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() != "time" {
                    self.0 += &format!("{}={value:?} ", field.name());
                }
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lock().unwrap().push(words.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn what_happens_rarely_is_told_with_its_reason() {
    let told = Told::default();
    let _guard = tracing::subscriber::set_default(told.clone());
    let fails = |_: &Result<u32, Rejected>| buttress_core::Outcome::Failure;
    let ejection = Ejection::try_new(2, Duration::from_secs(1), 0.5).unwrap();
    let balance = Balance::builder("events")
        .ejection(ejection)
        .classify(fails)
        .build([(0, named(0, &well())), (1, named(1, &well()))]);
    let take = || std::mem::take(&mut *told.0.lock().unwrap());
    while is_silent(&told) {
        balance.clone().oneshot(1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let said = take();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("ejected an endpoint") && said[0].contains("cause=2 consecutive failures"),
        "{said:?}"
    );
    assert!(said[0].contains("name=\"events\"") && said[0].contains("endpoint="), "{said:?}");
    balance.balancer().eject(&0);
    balance.balancer().eject(&1);
    let said = take();
    assert!(
        said[0].contains("by hand")
            && said.iter().any(|it| it.contains("panics") && it.contains("in_rotation=0")),
        "{said:?}"
    );
    balance.balancer().restore(&0);
    balance.balancer().restore(&1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    _ = balance.balancer().snapshot();
    let said = take();
    assert!(
        said.iter().any(|it| it.contains("on trial")) && said.iter().any(|it| it.contains("no more")),
        "{said:?}"
    );
}

fn is_silent(told: &Told) -> bool {
    told.0.lock().unwrap().is_empty()
}
