//! The registry with real layers: who is in it, under which name, and for how long.

use std::{sync::Arc, thread, time::Duration};

use buttress_batch::BatchLayer;
use buttress_bulkhead::{BulkheadLayer, Limit, Limiter};
use buttress_cache::Cache;
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::{BoxError, Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};
use buttress_health::{Health, Part, Probe, Status};
use buttress_hedge::{CloneRequest, HedgeLayer};
use buttress_rate_limit::{Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{RegisterError, Registry, Snapshot};
use buttress_timeout::TimeoutLayer;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

fn limiter(name: &str) -> Limiter {
    BulkheadLayer::new(name, Limit::fixed(3).unwrap()).limiter()
}

fn names(registry: &Registry) -> Vec<(&'static str, &'static str)> {
    let handles = registry.handles();
    let origins = handles.iter().map(|handle| handle.observe.origin());
    origins.map(|origin| (origin.layer(), origin.name())).collect()
}

fn stack(snapshot: &Snapshot, name: &str) -> Vec<&'static str> {
    let stack = snapshot.stacks.iter().find(|stack| stack.name == name);
    stack.into_iter().flat_map(|stack| &stack.layers).map(|place| snapshot.layers[*place].layer).collect()
}

#[tokio::test(start_paused = true)]
async fn a_whole_stack_is_seen_in_its_order_with_its_figures() {
    let registry = Registry::new();
    let users: Cache<u32, u32> = Cache::builder("whole").ttl(Duration::from_secs(60)).build();
    let timeout = TimeoutLayer::new(Duration::from_secs(1)).name("whole");
    let limit = RateLimitLayer::new("whole", Rate::per_second(100));
    let retry = RetryLayer::new("whole");
    let hedge = HedgeLayer::new("whole", CloneRequest);
    let breaker = CircuitBreakerLayer::builder("whole").build();
    let bulkhead = BulkheadLayer::new("whole", Limit::fixed(3).unwrap());
    registry
        .stack("profiles")
        .layer(&users)
        .layer(&timeout)
        .layer(&limit.limiter())
        .layer(&retry.retrier())
        .layer(&hedge.hedger())
        .layer(&breaker.breaker())
        .layer(&bulkhead.limiter())
        .register()
        .unwrap();
    let many =
        async |ids: Vec<u32>| Ok::<Vec<Result<u32, BoxError>>, BoxError>(ids.into_iter().map(Ok).collect());
    let batch = BatchLayer::new("whole").layer(service_fn(many));
    registry.register(&batch.batch()).unwrap();
    let always = Part::new("always", Probe::from_fn(|| async { Status::Well }));
    let health = Health::builder().part(always).start().unwrap();
    registry.register(&health).unwrap();

    let service = ServiceBuilder::new()
        .layer(users.layer(|id: &u32| Some(*id)))
        .layer(timeout)
        .layer(limit)
        .layer(retry)
        .layer(hedge)
        .layer(breaker)
        .layer(bulkhead)
        .service(service_fn(async |id: u32| Ok::<_, BoxError>(id)));
    for _ in 0..5 {
        assert_eq!(service.clone().oneshot(7).await.unwrap(), 7);
    }

    let snapshot = registry.snapshot();
    assert_eq!(
        stack(&snapshot, "profiles"),
        ["cache", "timeout", "rate-limit", "retry", "hedge", "circuit-breaker", "bulkhead"]
    );
    assert_eq!(snapshot.layers.len(), 9);
    let figure = |layer, name| snapshot.layer(layer, "whole").unwrap().figure(name, None);
    assert_eq!((figure("cache", "hits"), figure("cache", "misses")), (Some(4.0), Some(1.0)));
    assert_eq!((figure("retry", "calls"), figure("hedge", "calls")), (Some(1.0), Some(1.0)));
    assert_eq!(figure("bulkhead", "limit"), Some(3.0));
    let stats = snapshot.performance_stats();
    let cache = stats.layers.iter().find(|layer| layer.layer == "cache").unwrap();
    assert_eq!(cache.hit_share, Some(0.8));
    assert!(serde_json::to_string(&snapshot).unwrap().contains("circuit-breaker"));
    health.shutdown().await;
}

#[test]
fn names_are_unique_for_each_kind_of_layer_and_the_error_says_what_to_do() {
    let registry = Registry::new();
    let (one, other) = (limiter("unique"), limiter("unique"));
    let breaker = CircuitBreakerLayer::builder("unique").build().breaker();
    registry.register(&one).unwrap();
    registry.register(&breaker).unwrap();
    registry.register(&one).expect("the same one again");

    let taken = registry.register(&other).unwrap_err();
    assert_eq!(taken, RegisterError::NameTaken { origin: one.origin() });
    assert_eq!(
        taken.to_string(),
        "another bulkhead is registered as `unique`: give each a name of its own, or remove that one from the registry"
    );
    let fine = limiter("unique fine");
    let refused = registry.stack("unique").layer(&fine).layer(&other).register();
    assert_eq!(refused, Err(taken));
    assert_eq!(names(&registry).len(), 2, "of a stack that is refused nothing is registered");

    let within = registry.stack("unique").layer(&fine).layer(&limiter("unique fine")).register();
    assert!(matches!(within, Err(RegisterError::NameTaken { .. })), "also of two in one stack");
    registry.stack("unique").layer(&fine).register().unwrap();
    let again = registry.stack("unique").layer(&one).register().unwrap_err();
    assert_eq!(again.to_string(), "a stack `unique` is registered already: give each a name of its own");
}

#[test]
fn regression_40_a_layer_that_is_made_anew_is_seen_under_its_old_name() {
    let registry = Registry::new();
    let old = limiter("refreshed");
    registry.stack("orders").layer(&old).layer(&limiter("dropped at once")).register().unwrap();
    let permit = old.try_acquire().unwrap();
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.layer("bulkhead", "refreshed").unwrap().figure("in_flight", None), Some(1.0));

    drop((old, permit));
    let new = limiter("refreshed");
    new.set_limit(2).unwrap();
    registry.stack("orders").layer(&new).register().expect("the old one is gone, and its stack with it");
    let snapshot = registry.snapshot();
    let seen = snapshot.layer("bulkhead", "refreshed").unwrap();
    assert_eq!((seen.figure("limit", None), seen.figure("in_flight", None)), (Some(2.0), Some(0.0)));
    assert_eq!((stack(&snapshot, "orders"), snapshot.layers.len()), (vec!["bulkhead"], 1));
}

#[test]
fn a_stack_is_replaced_while_its_old_layers_are_still_in_use() {
    let registry = Registry::new();
    let pool = limiter("replaced pool");
    let (old, other) = (limiter("replaced"), limiter("replaced other"));
    registry.stack("orders").layer(&old).layer(&other).layer(&pool).register().unwrap();
    registry.stack("users").layer(&old).layer(&pool).register().unwrap();
    let _in_flight = old.try_acquire().unwrap();

    let new = limiter("replaced");
    new.set_limit(7).unwrap();
    assert!(registry.stack("orders").layer(&new).layer(&pool).register().is_err());
    registry.stack("orders").layer(&new).layer(&pool).replace().unwrap();
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.layer("bulkhead", "replaced").unwrap().figure("limit", None), Some(7.0));
    assert_eq!((stack(&snapshot, "orders").len(), stack(&snapshot, "users").len()), (2, 2));
    assert_eq!(snapshot.layers.len(), 3, "what was in the old stack alone stays while it lives");
    drop(other);
    assert_eq!(registry.snapshot().layers.len(), 2);

    let twice = registry.stack("orders").layer(&old).layer(&new).replace();
    assert!(matches!(twice, Err(RegisterError::NameTaken { .. })));
    assert_eq!(stack(&registry.snapshot(), "orders").len(), 2, "then all is as before");
    registry.stack("fresh").layer(&new).replace().expect("nothing need be there");
}

#[test]
fn regression_41_names_that_come_and_go_do_not_pile_up_where_nobody_reads() {
    let registry = Registry::new();
    let kept = limiter("kept");
    registry.stack("kept").layer(&kept).register().unwrap();
    for n in 0..3 * Registry::MAX_LAYERS {
        let passing = limiter(&format!("tenant {}", n % 2000));
        registry.stack(&format!("stack {n}")).layer(&passing).register().unwrap();
    }
    // Its Debug reads no layer, so it shows what is kept.
    let held = || format!("{registry:?}").matches("tenant").count();
    assert!(held() <= 128, "{} layers that are gone", held());
    assert_eq!(names(&registry), [("bulkhead", "kept")]);
    assert_eq!(registry.snapshot().stacks.len(), 1, "stacks leave too");
    assert_eq!(held(), 0);
}

#[test]
fn one_handle_stands_in_two_stacks_and_is_counted_once() {
    let registry = Registry::new();
    let pool = limiter("shared pool");
    let (reads, writes) = (limiter("reads"), limiter("writes"));
    registry.stack("reads").layer(&reads).layer(&pool).register().unwrap();
    registry.stack("writes").layer(&writes).layer(&pool).layer(&pool).register().unwrap();
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.layers.len(), 3);
    let place = snapshot.layers.iter().position(|layer| layer.name == "shared pool").unwrap();
    for stack in &snapshot.stacks {
        assert_eq!((stack.layers.len(), stack.layers[1]), (2, place));
    }
    let handles = registry.handles();
    let of_pool = handles.iter().find(|handle| handle.observe.origin().name() == "shared pool").unwrap();
    assert_eq!(of_pool.stacks.iter().map(|stack| &**stack).collect::<Vec<_>>(), ["reads", "writes"]);

    drop((handles, reads));
    let snapshot = registry.snapshot();
    assert_eq!(stack(&snapshot, "reads").len(), 1, "one that is dropped leaves the others of its stack");
    assert_eq!(stack(&snapshot, "writes").len(), 2);
}

#[derive(Clone)]
struct Limited(u64);

impl Observe for Limited {
    fn origin(&self) -> Origin {
        Origin::new("limited", "stateless")
    }
    fn observe(&self, _: &mut dyn FnMut(Metric)) {}
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::stateless(self)
    }
    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        visit(Setting::new("limit", SettingValue::Count(self.0)));
    }
}

#[test]
fn one_without_a_state_stays_until_it_is_removed() {
    let registry = Registry::new();
    let timeout = || TimeoutLayer::new(Duration::from_secs(1)).name("stateless");
    registry.stack("stateless").layer(&timeout()).register().unwrap();
    registry.register(&timeout()).expect("it is set alike");
    assert_eq!(names(&registry), [("timeout", "stateless")]);
    assert!(!registry.remove("timeout", "other") && !registry.remove("bulkhead", "stateless"));
    assert!(registry.remove("timeout", "stateless") && !registry.remove("timeout", "stateless"));
    let snapshot = registry.snapshot();
    assert!(snapshot.layers.is_empty() && snapshot.stacks.is_empty());

    registry.register(&Limited(1)).unwrap();
    registry.register(&Limited(1)).unwrap();
    assert!(matches!(registry.register(&Limited(2)), Err(RegisterError::NameTaken { .. })));
    registry.remove("limited", "stateless");
    registry.register(&Limited(2)).unwrap();
}

#[derive(Clone)]
struct Plain(Arc<Origin>);

impl Plain {
    fn new(name: &str) -> Self {
        Self(Arc::new(Origin::new("plain", name)))
    }
}

impl Observe for Plain {
    fn origin(&self) -> Origin {
        *self.0
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("one", Value::Counter(1)));
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

#[test]
fn there_are_never_more_than_the_bound_and_the_place_of_one_that_is_gone_is_free() {
    let registry = Registry::new();
    let mut layers: Vec<Plain> =
        (0..Registry::MAX_LAYERS).map(|n| Plain::new(&format!("bound {n}"))).collect();
    layers.iter().for_each(|layer| registry.register(layer).unwrap());
    let one_more = Plain::new("one more");
    let full = registry.register(&one_more).unwrap_err();
    assert_eq!(full, RegisterError::Full);
    assert_eq!(full.to_string(), "10000 layers or stacks are registered: names that clients choose?");
    registry.register(&layers[5]).expect("it is registered already");
    layers.pop();
    registry.register(&one_more).unwrap();
    assert_eq!(registry.handles().len(), Registry::MAX_LAYERS);
}

#[test]
fn many_threads_register_read_and_drop_at_once() {
    let registry = Registry::new();
    let shared = limiter("threads share");
    registry.register(&shared).unwrap();
    let work = |thread: usize| {
        for n in 0..500 {
            let (name, stack) = (format!("thread {thread} layer {}", n % 10), format!("thread {thread}"));
            let own = limiter(&name);
            // Somebody may be reading the one of before.
            registry.stack(&stack).layer(&own).layer(&shared).replace().unwrap();
            registry.register(&shared).expect("it is there already");
            assert!(registry.snapshot().layer("bulkhead", &name).is_some());
            assert!(registry.stack(&stack).layer(&own).register().is_err());
        }
    };
    thread::scope(|scope| {
        let work = &work;
        let writers: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            // Four have one each, and those of one name are there once.
            let living = names(&registry);
            assert!((1..=41).contains(&living.len()), "{living:?}");
            assert!(living.iter().all(|one| living.iter().filter(|other| one == *other).count() == 1));
            assert!(format!("{registry:?}").starts_with("Registry"));
        }
    });
    assert_eq!(names(&registry), [("bulkhead", "threads share")]);
}

#[test]
fn handles_outlive_the_registry_and_it_keeps_nothing_alive() {
    let registry = Registry::new();
    let layer = Plain::new("outlives");
    registry.register(&layer).unwrap();
    let handles = registry.handles();
    drop(registry);
    assert_eq!(handles[0].observe.origin().name(), "outlives");
    drop(handles);
    assert_eq!(Arc::strong_count(&layer.0), 1);

    let registry = Registry::new();
    registry.register(&layer).unwrap();
    _ = registry.snapshot();
    assert_eq!((Arc::strong_count(&layer.0), Arc::weak_count(&layer.0)), (1, 1));
    let reader = registry.clone();
    drop(registry);
    assert_eq!(reader.handles().len(), 1, "a clone is the same registry");
    drop(reader);
    assert_eq!(Arc::weak_count(&layer.0), 0);
}
