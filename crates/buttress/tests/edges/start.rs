use std::time::Duration;

use buttress::{
    Config, Error, StartError, System,
    postgres::{Query, Transaction},
};
use buttress_testkit::{RedisServer, TestDatabase};

use super::shutdown::connections;

fn config(toml: &str) -> Config {
    Config::from_toml(toml).expect("a configuration")
}

#[tokio::test]
async fn a_start_that_fails_late_leaves_nothing_behind() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = format!(
        "telemetry.dashboard = \"{}\"\n[database]\nurl = {:?}\n[redis]\nurl = {:?}\n[cache]\nshared = true",
        taken.local_addr().unwrap(),
        database.url(),
        redis.url()
    );
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let error = System::start(config(&file)).await.unwrap_err();
    assert!(matches!(error, StartError::Part { .. }), "{error}");
    let mut after = usize::MAX;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if after <= before {
            break;
        }
    }
    assert_eq!(connections(&redis).await, 0);
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_configuration_is_explained_as_the_system_that_it_makes() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let layers = "rate_limit = { limit = 10, per = \"1s\", max_wait = \"2s\" }\nbulkhead = { limit = 5, queue = 7, max_wait = \"1s\" }";
    for layers in ["", layers] {
        let config = config(&format!(
            "[database]\nurl = {:?}\n{layers}\n[redis]\nurl = {:?}\n{layers}\n[cache]\n[http.a]\nbase_url = \"http://127.0.0.1:1\"\nattempt_timeout = \"2s\"\n{layers}",
            database.url(),
            redis.url()
        ));
        let told = config.explain().unwrap();
        let system = System::start(config).await.unwrap();
        assert_eq!(told.to_string(), system.explain().to_string());
        assert!(!told.has_errors());
    }
}

fn spawned<F: Future + Send>(future: F) -> F {
    future
}

/// Whatever a handler of axum awaits has to be `Send`.
#[tokio::test]
async fn all_futures_may_go_to_other_threads() {
    let system = System::start(config("[cache]")).await.unwrap();
    let other = system.clone();
    spawned(async move {
        let cache = other.cache()?;
        cache.set("k", &1).await?;
        let _: Option<u32> = cache.get("k").await?;
        let of = other.clone();
        let load = || {
            let of = of.clone();
            async move { of.execute(Query::new("select 1")).await }
        };
        let _: u64 = cache.get_or_load("l", load).await.unwrap_or_default();
        cache.invalidate("k").await?;
        other.shutdown(Duration::ZERO).await;
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    let other = system.clone();
    drop(spawned(async move {
        other
            .transaction(async |tx: &Transaction<'_>| {
                tx.query(Query::new("x")).await?;
                Ok::<_, Error>(())
            })
            .await
    }));
    drop(spawned(async move {
        let load = async || system.execute(Query::new("select 1")).await;
        system.cache()?.get_or_load("k", load).await
    }));
}
