use std::{future::pending, time::Duration};

use buttress::{Config, Error, System};
use buttress_testkit::{Fault, FaultProxy, RedisServer};

fn config(toml: &str) -> Config {
    Config::from_toml(toml).expect("a configuration")
}

async fn local(extra: &str) -> System {
    System::start(config(&format!("[cache]\n{extra}"))).await.unwrap()
}

/// A look that finds nothing is no load that failed.
#[tokio::test]
async fn a_look_into_the_shared_cache_takes_no_load_along() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start(redis.addr()).await;
    let file = format!("[redis]\nurl = \"redis://{}\"\n[cache]\nshared = true", proxy.addr());
    let system = System::start(config(&file)).await.unwrap();
    proxy.set(Fault::Latency(Duration::from_millis(200)));
    let cache = system.cache().unwrap();
    let look = async { cache.get::<u32>("k").await.unwrap() };
    let load = async { cache.get_or_load("k", async || Ok::<_, Error>(7_u32)).await };
    let (found, loaded) = tokio::join!(look, load);
    assert_eq!((found, loaded.unwrap()), (None, 7));
}

#[tokio::test]
async fn for_no_time_nothing_is_kept() {
    let system = local("stale_while_revalidate = \"1h\"\nstale_if_error = \"1h\"").await;
    let cache = system.cache().unwrap();
    cache.set("k", &1).await.unwrap();
    cache.set_for("k", &2, Duration::ZERO).await.unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
    let loaded = cache.get_or_load("k", async || Ok::<_, Error>(3_u32)).await.unwrap();
    assert_eq!(loaded, 3);
}

#[tokio::test]
async fn odd_names_and_types_do_no_harm() {
    let system = local("").await;
    let cache = system.cache().unwrap();
    for name in ["", "\0\r\n\u{1b}[0m", "a:b:c", &"x".repeat(5_000), "\u{202e}ab"] {
        cache.set(name, &name).await.unwrap();
        assert_eq!(cache.get::<String>(name).await.unwrap().as_deref(), Some(name));
        assert_eq!(cache.get::<u32>(name).await.unwrap(), None);
        assert_eq!(cache.get_or_load(name, async || Ok::<_, Error>(5_u32)).await.unwrap(), 5);
        assert_eq!(cache.get::<u32>(name).await.unwrap(), Some(5));
        cache.invalidate(name).await.unwrap();
    }
    cache.set_for("long", &1, Duration::MAX).await.unwrap();
    assert_eq!(cache.get::<u32>("long").await.unwrap(), Some(1));
    cache.set("nan", &f64::NAN).await.unwrap();
    let unfit = std::collections::BTreeMap::from([((1, 2), 3)]);
    cache.set("unfit", &unfit).await.expect_err("a key of JSON is a text");
}

#[tokio::test]
async fn a_value_that_is_too_large_takes_the_old_one_along() {
    let system = local("max_bytes = 1_000").await;
    let cache = system.cache().unwrap();
    cache.set("k", "small").await.unwrap();
    cache.set("k", &"x".repeat(10_000)).await.unwrap();
    assert_eq!(cache.get::<String>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_load_that_panics_or_is_dropped_blocks_nobody() {
    let system = local("").await;
    let other = system.clone();
    let panics = tokio::spawn(async move {
        other.cache().unwrap().get_or_load("k", async || -> Result<u32, Error> { panic!("as meant") }).await
    });
    assert!(panics.await.unwrap_err().is_panic());
    let cache = system.cache().unwrap();
    let hangs = cache.get_or_load("k", async || pending::<Result<u32, Error>>().await);
    tokio::time::timeout(Duration::from_millis(50), hangs).await.unwrap_err();
    assert_eq!(cache.get_or_load("k", async || Ok::<_, Error>(1_u32)).await.unwrap(), 1);
}

/// A number that is none is written as `null`, which is read as none.
#[tokio::test]
async fn what_json_cannot_say_is_given_to_all_who_wait() {
    let system = local("stale_while_revalidate = \"1h\"").await;
    let cache = system.cache().unwrap();
    for _ in 0..2 {
        let load = || cache.get_or_load("nan", async || Ok::<_, Error>(f64::NAN));
        let (one, two) = tokio::join!(load(), load());
        assert!(one.unwrap().is_nan() && two.unwrap().is_nan());
    }
}

#[tokio::test]
async fn a_look_into_the_shared_cache_sees_what_is_fresh_and_counts_as_no_load() {
    let redis = RedisServer::start().await;
    let file = format!(
        "[redis]\nurl = {:?}\n[cache]\nshared = true\nstale_while_revalidate = \"1h\"\nstale_if_error = \"1h\"",
        redis.url()
    );
    let (one, two) =
        (System::start(config(&file)).await.unwrap(), System::start(config(&file)).await.unwrap());
    one.cache().unwrap().set_for("k", &1, Duration::from_millis(300)).await.unwrap();
    let cache = two.cache().unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(1));
    tokio::time::sleep(Duration::from_millis(400)).await;
    for _ in 0..3 {
        assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
        assert_eq!(cache.get::<u32>("none").await.unwrap(), None);
    }
    for handle in two.registry().handles().iter().filter(|handle| handle.observe.origin().layer() == "cache")
    {
        handle.observe.observe(&mut |metric| {
            if metric.name.contains("fail") {
                assert_eq!(metric.value, buttress::core::Value::Counter(0), "{metric:?}");
            }
        });
    }
    let loaded = cache.get_or_load("k", async || Ok::<_, Error>(2_u32)).await.unwrap();
    assert_eq!(loaded, 2, "the looks have not put off the load");
}
