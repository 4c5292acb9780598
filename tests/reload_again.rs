//! An API that one reload takes out and the next one brings back, while a call to it is still on its way.

use std::time::Duration;

use buttress::{Config, System, config};
use buttress_testkit::{Reply, Upstream};
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_52_an_api_comes_back_while_calls_to_what_it_was_are_on_their_way() {
    let upstream = Upstream::start().await;
    upstream.on("/slow", Reply::ok("1").after(Duration::from_secs(2)));
    upstream.on("/quick", Reply::ok("2"));
    let without = Config::default();
    let mut with = Config::default();
    with.http.insert("x".into(), config::Http::new(upstream.url()));
    let system = System::start(with.clone()).await.unwrap();
    let api = system.http("x").unwrap();
    let slow = tokio::spawn(async move { api.get("/slow").send().await.unwrap().status().as_u16() });
    let began = Instant::now();
    while upstream.requests().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(1), "it is sent");
        sleep(Duration::from_millis(5)).await;
    }

    system.reload(without).unwrap();
    assert!(system.http("x").is_err());
    system.reload(with).unwrap();
    let answer = system.http("x").unwrap().get("/quick").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!slow.is_finished(), "its call was on its way all the time");
    let seen = system.registry().snapshot();
    let calls: Vec<_> = seen.calls.iter().filter(|calls| calls.name == "http.x").collect();
    assert_eq!(calls.len(), 1, "what it was is not shown any more");
    assert_eq!(slow.await.unwrap(), 200);
}
