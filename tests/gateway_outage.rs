//! The gateway under load while its Postgres goes away for five seconds and comes back.

#![expect(clippy::print_stdout, reason = "the figures are half of what this test is for")]

#[path = "../examples/gateway/app/mod.rs"]
#[expect(dead_code, reason = "there is no live page here")]
mod app;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_http::HttpClient;
use buttress_testkit::{Fault, FaultProxy, PostgresServer, RedisServer};
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, sleep_until},
};
use tower::ServiceExt;

use self::app::{App, Settings};

const CALLERS: u32 = 16;
const OUTAGE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Answer {
    /// Since the load began.
    at: Duration,
    took: Duration,
    status: u16,
    retry_after: Option<String>,
    body: String,
}

impl Answer {
    fn end(&self) -> Duration {
        self.at + self.took
    }

    fn is_from_the_open_breaker(&self) -> bool {
        self.status == 503 && self.body.contains("the circuit is open")
    }
}

struct Outage {
    answers: Vec<Answer>,
    from: Duration,
    until: Duration,
}

/// Load on a gateway whose Postgres stands behind the proxy, which does as `fault` says for a while.
async fn outage(fault: Fault) -> Outage {
    let postgres = PostgresServer::start().await;
    let proxy = FaultProxy::start(postgres.addr()).await;
    let redis = RedisServer::start().await;
    let app = App::start(Settings {
        database_url: Some(format!("postgres://postgres@{}/postgres", proxy.addr())),
        redis_url: Some(redis.url()),
        ..Settings::default()
    })
    .await
    .unwrap();
    println!("a gateway with {}", app.description());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = app.router();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let start = Instant::now();
    let from = Duration::from_secs(1);
    let until = from + OUTAGE;
    let end = until + Duration::from_secs(3);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let client = HttpClient::builder().build::<Empty<bytes::Bytes>>().unwrap();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (client, url, answers) = (client.clone(), url.clone(), Arc::clone(&answers));
            tokio::spawn(async move {
                while start.elapsed() < end {
                    let at = start.elapsed();
                    // Nobody has this number, so the cache does not help and every request is the database's.
                    let request = Request::get(format!("{url}/users/{}", 1_000_000 + caller))
                        .body(Empty::new())
                        .unwrap();
                    let response = client.clone().oneshot(request).await.unwrap();
                    let status = response.status().as_u16();
                    let retry_after =
                        response.headers().get("retry-after").map(|v| v.to_str().unwrap().into());
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    let (took, body) = (start.elapsed() - at, String::from_utf8_lossy(&body).into_owned());
                    answers.lock().unwrap().push(Answer { at, took, status, retry_after, body });
                    sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    sleep_until(start + from).await;
    proxy.set(fault);
    if fault == Fault::Refuse {
        proxy.cut();
    }
    sleep_until(start + until).await;
    proxy.set(Fault::Pass);
    for caller in callers {
        caller.await.unwrap();
    }
    server.abort();
    app.close(Duration::from_secs(5)).await;
    let mut answers = answers.lock().unwrap().clone();
    answers.sort_by_key(|answer| answer.at);
    Outage { answers, from, until }
}

/// What must hold whatever the fault: nothing hangs, and the service is back soon.
fn assert_back_in_time(Outage { answers, from, until }: &Outage) {
    let before = answers.iter().filter(|answer| answer.end() < *from);
    assert!(before.clone().count() > 100 && before.clone().all(|answer| answer.status == 404), "well before");
    let longest = answers.iter().map(|answer| answer.took).max().unwrap();
    assert!(longest < Duration::from_millis(3500), "none hangs: {longest:?}");
    let back =
        answers.iter().find(|answer| answer.at > *until && answer.status == 404).expect("it comes back");
    let after = back.end() - *until;
    println!("back {after:?} after Postgres; longest answer {longest:?}; {} answers", answers.len());
    assert!(after < Duration::from_secs(2), "{after:?}");
    let late = answers.iter().filter(|answer| answer.at > *until + Duration::from_secs(2));
    assert!(late.clone().count() > 50 && late.clone().all(|answer| answer.status == 404), "well after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_killed_for_five_seconds() {
    let outage = outage(Fault::Refuse).await;
    assert_back_in_time(&outage);
    let Outage { answers, from, until } = &outage;
    let opened = answers.iter().find(|answer| answer.is_from_the_open_breaker()).expect("the breaker opens");
    println!("open {:?} after the kill", opened.end().saturating_sub(*from));
    assert!(opened.end().saturating_sub(*from) < Duration::from_secs(1), "it opens soon");
    let mut open: Vec<_> = answers.iter().filter(|a| a.at > opened.end() && a.end() < *until).collect();
    open.sort_by_key(|answer| answer.took);
    let late = open.iter().filter(|answer| answer.took > Duration::from_millis(50)).count();
    let (median, longest) = (open[open.len() / 2], open.last().unwrap());
    println!(
        "while open: {} answers, median {:?}, longest {:?}, {late} over 50 ms",
        open.len(),
        median.took,
        longest.took
    );
    assert!(open.len() > 1000);
    for answer in &open {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(
            answer.retry_after.as_deref().is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s >= 1)),
            "{answer:?}"
        );
        // Measured alone all are far below 50 ms; a machine that does something else meanwhile may hold up a few.
        assert!(answer.took < Duration::from_millis(500), "{answer:?}");
    }
    assert!(late * 100 < open.len(), "{late} of {} took longer than 50 ms", open.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_in_a_black_hole_for_five_seconds() {
    let outage = outage(Fault::BlackHole).await;
    assert_back_in_time(&outage);
    let Outage { answers, from, until } = &outage;
    let opened = answers.iter().find(|answer| answer.is_from_the_open_breaker()).expect("the breaker opens");
    println!("open {:?} after the fall", opened.end().saturating_sub(*from));
    // Only a probe waits for a backend that swallows everything.
    let open: Vec<_> = answers.iter().filter(|a| a.at > opened.end() && a.end() < *until).collect();
    let slow = open.iter().filter(|answer| answer.took >= Duration::from_millis(50)).count();
    println!("while open: {} answers, {slow} of them waited", open.len());
    assert!(open.len() > 1000 && slow * 20 < open.len(), "{slow} of {}", open.len());
}
