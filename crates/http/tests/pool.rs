//! Connections are used again, given up, and survive what callers do.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use buttress_core::{Metric, Observe, Value};
use buttress_http::{Error, HttpClient};
use buttress_testkit::{Fault, FaultProxy, Reply, Upstream};
use http::{Request, StatusCode, Version};
use support::{Body, answer, build, call, client, get, ms, read_head, server, text};
use tokio::{io::AsyncReadExt, time::sleep};

#[tokio::test]
async fn one_connection_serves_calls_made_one_after_the_other() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("hello"));
    let client = client();
    for _ in 0..20 {
        assert_eq!(text(&client, &upstream.url()).await.unwrap(), "hello");
    }
    assert_eq!((upstream.connections(), upstream.requests().len()), (1, 20));
    assert_eq!((client.connections().opened(), client.connections().failed()), (1, 0));
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_whatever_version_it_came_in() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Reply::status(201));
    let request = Request::post(format!("{}/orders?id=7", upstream.url()))
        .version(Version::HTTP_2)
        .header("x-trace", "abc")
        .body(Body::from("two of them"))
        .unwrap();
    let response = call(&client(), request).await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::CREATED, Version::HTTP_11));
    let recorded = &upstream.requests()[0];
    assert_eq!((recorded.method.as_str(), recorded.path.as_str()), ("POST", "/orders?id=7"));
    assert_eq!(
        (&recorded.headers["x-trace"], &recorded.body[..]),
        (&"abc".parse().unwrap(), &b"two of them"[..])
    );
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_replaced() {
    let addr = server(|mut stream, number| async move {
        read_head(&mut stream).await?;
        answer(&mut stream, &number.to_string()).await
    })
    .await;
    let client = client();
    for number in 0..5 {
        assert_eq!(text(&client, &format!("http://{addr}/")).await.unwrap(), number.to_string());
        sleep(ms(20)).await;
    }
    assert_eq!(client.connections().opened(), 5);
}

/// The race that cannot be won: the server closes while the request is on its way.
#[tokio::test]
async fn a_request_that_was_written_to_a_closing_connection_is_not_repeated() {
    let upstream = Upstream::start().await;
    upstream.on("/", [Reply::ok("first"), Reply::disconnect(), Reply::ok("third")]);
    let client = client();
    assert_eq!(text(&client, &upstream.url()).await.unwrap(), "first");
    let error = text(&client, &upstream.url()).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }) && error.sent(), "{error:?}");
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(text(&client, &upstream.url()).await.unwrap(), "third");
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn idle_connections_are_closed_by_a_timer_although_no_call_comes() {
    let closed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&closed);
    let addr = server(move |mut stream, _| {
        let closed = Arc::clone(&seen);
        async move {
            read_head(&mut stream).await?;
            answer(&mut stream, "").await?;
            assert_eq!(stream.read(&mut [0]).await?, 0);
            closed.store(true, SeqCst);
            Ok(())
        }
    })
    .await;
    let client = build(HttpClient::builder().pool_idle_timeout(ms(100)));
    text(&client, &format!("http://{addr}/")).await.unwrap();
    sleep(ms(30)).await;
    assert!(!closed.load(SeqCst), "it is kept at first");
    for _ in 0..100 {
        if closed.load(SeqCst) {
            return;
        }
        sleep(ms(10)).await;
    }
    panic!("the connection is still open");
}

#[tokio::test]
async fn without_an_idle_time_no_connection_is_kept() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("hello"));
    let client = build(HttpClient::builder().pool_idle_timeout(ms(0)));
    for _ in 0..3 {
        text(&client, &upstream.url()).await.unwrap();
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn calls_dropped_halfway_leave_the_pool_as_it_was() {
    let upstream = Upstream::start().await;
    upstream.on("/slow", Reply::ok("slow").after(ms(300)));
    upstream.on("/", Reply::ok("hello"));
    let client = client();
    assert_eq!(text(&client, &upstream.url()).await.unwrap(), "hello");
    for _ in 0..10 {
        let dropped = tokio::time::timeout(ms(10), text(&client, &format!("{}/slow", upstream.url()))).await;
        assert!(dropped.is_err(), "{dropped:?}");
        assert_eq!(text(&client, &upstream.url()).await.unwrap(), "hello", "and not another call's answer");
    }
}

#[tokio::test]
async fn a_connection_that_was_cut_is_replaced() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("hello"));
    let proxy = FaultProxy::start(upstream.addr()).await;
    let (client, url) = (client(), format!("http://{}/", proxy.addr()));
    assert_eq!(text(&client, &url).await.unwrap(), "hello");
    proxy.cut();
    sleep(ms(20)).await;
    assert_eq!(text(&client, &url).await.unwrap(), "hello");
    proxy.set(Fault::Reset);
    text(&client, &url).await.unwrap_err();
    proxy.set(Fault::Pass);
    assert_eq!(text(&client, &url).await.unwrap(), "hello");
}

#[tokio::test]
async fn many_calls_at_once_each_get_their_own_answer() {
    let upstream = Upstream::start().await;
    for n in 0..32 {
        upstream.on(&format!("/{n}"), Reply::ok(n.to_string()));
    }
    let client = client();
    let calls: Vec<_> = (0..32)
        .map(|n| {
            let (client, url) = (client.clone(), format!("{}/{n}", upstream.url()));
            tokio::spawn(async move {
                for _ in 0..10 {
                    assert_eq!(text(&client, &url).await.unwrap(), n.to_string());
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn the_figures_of_the_connections_can_be_observed() {
    let upstream = Upstream::start().await;
    let client = build(HttpClient::builder().name("observed"));
    call(&client, get(&upstream.url())).await.unwrap();
    let mut figures = Vec::new();
    client.connections().observe(&mut |metric| figures.push(metric));
    assert_eq!(
        figures,
        [
            Metric::new("connections_opened", Value::Counter(1)),
            Metric::new("connections_failed", Value::Counter(0)),
        ]
    );
    assert_eq!(client.connections().origin().name(), "observed");
}
