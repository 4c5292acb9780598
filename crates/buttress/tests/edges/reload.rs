use std::time::Duration;

use buttress::{Config, ReloadError, System, http::Body, postgres::Query};
use buttress_testkit::{Reply, TestDatabase, Upstream};
use http::{Request, StatusCode};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn config(toml: &str) -> Config {
    Config::from_toml(toml).expect("a configuration")
}

#[tokio::test]
async fn the_wait_for_a_rate_limit_changes_with_the_limit() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("here"));
    let of =
        |limit: &str| config(&format!("[http.a]\nbase_url = {:?}\nrate_limit = {limit}", upstream.url()));
    let system = System::start(of(r#"{ limit = 1, per = "300ms", max_wait = "0s" }"#)).await.unwrap();
    let get = async || system.http("a").unwrap().get("/").send().await;
    get().await.unwrap();
    get().await.expect_err("it does not wait");
    system.reload(of(r#"{ limit = 1, per = "300ms", max_wait = "10s" }"#)).unwrap();
    get().await.expect("it waits from here on");
    system.reload(of(r#"{ limit = 1, per = "1h", max_wait = "0s" }"#)).unwrap();
    get().await.expect_err("it waits no more, and what was taken counts on");
}

#[tokio::test]
async fn what_counts_as_slow_changes_for_transactions_and_inserts_too() {
    let database = TestDatabase::new().await;
    let of = |slow: &str| {
        config(&format!(
            "telemetry.slow_call = {slow:?}\n[database]\nurl = {:?}\npool_size = 2",
            database.url()
        ))
    };
    let system = System::start(of("1h")).await.unwrap();
    let run = async || {
        let work = async |tx: &buttress::postgres::Transaction<'_>| {
            tx.query(Query::new("select pg_sleep(0.02)")).await?;
            Ok::<_, buttress::Error>(())
        };
        system.transaction(work).await.unwrap();
    };
    run().await;
    assert_eq!(system.slow_calls(10).len(), 0);
    system.reload(of("10ms")).unwrap();
    run().await;
    assert_eq!(system.slow_calls(10).len(), 1);
}

/// What `reload` began to make is gone where it failed, so that the same names can be taken by the next.
#[tokio::test]
async fn a_reload_that_fails_leaves_no_names_behind() {
    let system = System::start(config("")).await.unwrap();
    // A layer of the program's own bears the name of an API to be.
    let own = buttress::telemetry::TelemetryLayer::builder("http.b", system.registry()).build().unwrap();
    let two =
        config("[http.a]\nbase_url = \"http://127.0.0.1:1\"\n[http.b]\nbase_url = \"http://127.0.0.1:1\"");
    let before = system.registry().handles().len();
    let error = system.reload(two.clone()).unwrap_err();
    assert!(matches!(error, ReloadError::Start(_)), "{error}");
    assert_eq!(system.registry().handles().len(), before, "{:?}", system.registry());
    drop(own);
    system.registry().remove("telemetry", "http.b");
    system.reload(two).unwrap();
    system.http("a").unwrap();
}

#[tokio::test]
async fn an_api_that_is_gone_is_seen_no_more() {
    let api = config("[http.a]\nbase_url = \"http://127.0.0.1:1\"\nattempt_timeout = \"1s\"");
    let system = System::start(config("")).await.unwrap();
    let before = system.registry().handles().len();
    for _ in 0..3 {
        system.reload(api.clone()).unwrap();
        let kept = system.http_service("a").unwrap();
        system.reload(config("")).unwrap();
        assert_eq!(system.registry().handles().len(), before, "{:?}", system.registry());
        drop(kept);
    }
}

#[tokio::test]
async fn calls_go_on_while_reloads_race() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("here"));
    let url = upstream.url();
    let system = System::start(config(&format!("[http.a]\nbase_url = {url:?}"))).await.unwrap();
    let calls = (0..8).map(|_| {
        let system = system.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                system.http("a").unwrap().get("/").send().await.unwrap();
            }
        })
    });
    let calls: Vec<_> = calls.collect();
    let reloads = (0..4).map(|n| {
        let (system, url) = (system.clone(), url.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                let extra = [
                    "",
                    "retry.retries = 0",
                    "circuit_breaker.enabled = false",
                    "bulkhead = { limit = 50, queue = 9 }",
                ];
                let extra = extra[(n + round) % 4];
                let other =
                    if round % 2 == 0 { format!("[http.b]\nbase_url = {url:?}") } else { String::new() };
                system.reload(config(&format!("[http.a]\nbase_url = {url:?}\n{extra}\n{other}"))).unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    for reload in reloads.collect::<Vec<_>>() {
        reload.await.unwrap();
    }
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn two_systems_share_nothing_but_names() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::status(500));
    let of = |extra: &str| config(&format!("[http.a]\nbase_url = {:?}\n{extra}", upstream.url()));
    let breaks =
        "retry.retries = 0\ncircuit_breaker = { failures = 1 }\nrate_limit = { limit = 2, per = \"1h\" }";
    let (one, two) = (System::start(of(breaks)).await.unwrap(), System::start(of(breaks)).await.unwrap());
    let get = async |system: &System| {
        let request = Request::get(upstream.url()).body(Body::empty()).unwrap();
        let mut service = system.http_service("a").unwrap();
        tower::Service::call(&mut service, request).await.map(|answer| answer.status())
    };
    assert_eq!(get(&one).await.unwrap(), StatusCode::INTERNAL_SERVER_ERROR);
    get(&one).await.expect_err("open");
    assert_eq!(get(&two).await.unwrap(), StatusCode::INTERNAL_SERVER_ERROR);
    let figures = |system: &System| system.stats().to_string();
    assert_ne!(figures(&one), "");
    one.shutdown(secs(1)).await;
    get(&two).await.expect_err("open by itself");
    assert_eq!(upstream.requests().len(), 2);
}
