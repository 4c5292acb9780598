//! A real nginx closes connections under our calls, and no caller notices whose request may be repeated.

mod support;

use std::{sync::Arc, time::Duration};

use buttress_core::Backoff;
use buttress_http::{Builder, HttpClient, StatusClassifier, is_idempotent};
use buttress_retry::RetryLayer;
use buttress_testkit::Nginx;
use http::{Request, Version};
use http_body_util::BodyExt;
use support::{Body, build, get, ms};
use tower::{Layer, Service, ServiceExt};

/// So many callers, each with so many requests; after each it waits so long. All must be answered; gives back how many
/// connections that took.
async fn all_are_answered(
    client: Builder,
    url: &str,
    (callers, each): (usize, usize),
    pause: fn(usize) -> Duration,
    version: Version,
) -> u64 {
    let client = build(client);
    let layer = RetryLayer::new("nginx")
        .classify(StatusClassifier)
        .backoff(Backoff::constant(ms(5)))
        .requests(|request: &Request<Body>| is_idempotent(request.method()).then(|| request.clone()));
    let service = layer.layer(client.clone());
    let url: Arc<str> = url.into();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (mut service, url) = (service.clone(), Arc::clone(&url));
            tokio::spawn(async move {
                for number in 0..each {
                    let response = service.ready().await.unwrap().call(get(&url)).await;
                    let response =
                        response.unwrap_or_else(|error| panic!("call {number}: {error} ({error:?})"));
                    assert_eq!(response.version(), version);
                    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
                    tokio::time::sleep(pause(caller + number)).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    client.connections().opened()
}

/// nginx closes a connection that was idle for 20 ms, and each after its tenth request. The callers come just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_are_closed_under_a_request_reach_no_caller() {
    let nginx =
        Nginx::start("keepalive_timeout 20ms; keepalive_requests 10; location / { return 200 'hello'; }")
            .await;
    let around_it = |number| Duration::from_micros(19_000 + 100 * (number as u64 * 7 % 20));
    let opened =
        all_are_answered(HttpClient::builder(), &nginx.url(), (32, 60), around_it, Version::HTTP_11).await;
    assert!(opened > 100, "the connections did not close under the calls: {opened} were enough");
}

/// nginx says GOAWAY after each 200 requests (1,000 are usual), and twice because it gets a new worker.
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_goes_on_over_goaways_and_reloads() {
    let authority = support::authority::Authority::new();
    let (chain, key) = authority.issue("localhost");
    let site = "keepalive_requests 200; location / { return 200 'hello'; }";
    let nginx = Nginx::start_tls(site, &chain, &key).await;

    let client = HttpClient::builder().root_certificates(authority.pem());
    let url = nginx.url();
    let calls = all_are_answered(client, &url, (32, 60), |_| ms(2), Version::HTTP_2);
    let reloads = async {
        for _ in 0..2 {
            tokio::time::sleep(ms(40)).await;
            nginx.reload();
        }
    };
    let (opened, ()) = tokio::join!(calls, reloads);
    assert!(opened > 1_920 / 200, "a connection was used beyond its 200 requests: {opened}");
}
