//! Connections are used again, given up, and survive what callers do.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_core::{Metric, Observe, Value};
use buttress_http::{Error, HttpClient};
use buttress_testkit::{Fault, FaultProxy, Reply, Upstream};
use http::{Request, StatusCode, Version};
use support::{Body, answer, build, call, client, ms, read_head, server, text};
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
    let shown = format!("{:?}", client.connections());
    assert!(shown.starts_with("Connections { opened: 1, failed: 0, open: 1, idle: "), "{shown}");
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

/// A server that keeps every connection open until the client closes it, and how many are open.
async fn counting_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    let addr = server(move |mut stream, _| {
        let open = Arc::clone(&counted);
        async move {
            open.fetch_add(1, SeqCst);
            while read_head(&mut stream).await.is_ok() {
                answer(&mut stream, "hello").await?;
            }
            open.fetch_sub(1, SeqCst);
            Ok(())
        }
    })
    .await;
    (addr, open)
}

#[tokio::test]
async fn without_an_idle_time_no_connection_is_kept() {
    let (addr, open) = counting_server().await;
    for builder in
        [HttpClient::builder().pool_idle_timeout(ms(0)), HttpClient::builder().pool_max_idle_per_host(0)]
    {
        let client = build(builder);
        for _ in 0..3 {
            assert_eq!(text(&client, &format!("http://{addr}/")).await.unwrap(), "hello");
        }
        assert_eq!(client.connections().opened(), 3);
        for _ in 0..100 {
            if open.load(SeqCst) == 0 {
                break;
            }
            sleep(ms(10)).await;
        }
        assert_eq!(open.load(SeqCst), 0, "they are closed while the client lives");
    }
}

#[tokio::test]
async fn the_longest_idle_time_keeps_a_connection() {
    let (addr, open) = counting_server().await;
    let panics = Arc::new(AtomicUsize::new(0));
    let client = build(HttpClient::builder().pool_idle_timeout(Duration::MAX));
    let hook = std::panic::take_hook();
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, SeqCst);
        hook(info);
    }));
    for _ in 0..3 {
        text(&client, &format!("http://{addr}/")).await.unwrap();
        // So that the pool's own task runs.
        sleep(ms(20)).await;
    }
    drop(std::panic::take_hook());
    assert_eq!(panics.load(SeqCst), 0);
    assert_eq!((client.connections().opened(), open.load(SeqCst)), (1, 1));
}

/// As the kernel tells: the timer of a socket, of which 02 is that of TCP's keep-alive, and the time until it rings.
#[cfg(target_os = "linux")]
fn timer_of(local: SocketAddr, remote: SocketAddr) -> (u8, Duration) {
    // A port is used again while connections to other servers still wait for their last packets.
    let [local, remote] = [local, remote].map(|addr| format!(":{:04X}", addr.port()));
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let socket = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let timer = socket
        .filter(|words| words[1].ends_with(&local) && words[2].ends_with(&remote))
        .map(|words| words[5].to_owned())
        .next()
        .unwrap();
    let (kind, hundredths) = timer.split_once(':').unwrap();
    let hundredths = u64::from_str_radix(hundredths, 16).unwrap();
    (u8::from_str_radix(kind, 16).unwrap(), ms(hundredths * 10))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_silent_connection_is_probed_after_a_minute() {
    let (sender, client_addr) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let addr = server(move |mut stream, _| {
        let sender = sender.lock().unwrap().take();
        async move {
            read_head(&mut stream).await?;
            let _ = sender.unwrap().send(stream.peer_addr()?);
            std::future::pending().await
        }
    })
    .await;
    let client = client();
    let url = format!("http://{addr}/");
    let waiting = async {
        let local = client_addr.await.unwrap();
        // Until the request is acknowledged, the timer is that of its repetition.
        for _ in 0..100 {
            if let (2, rings_in) = timer_of(local, addr) {
                assert!(rings_in > ms(50_000) && rings_in <= ms(60_000), "{rings_in:?}");
                return;
            }
            sleep(ms(10)).await;
        }
        panic!("no keep-alive: {:?}", timer_of(local, addr));
    };
    tokio::select! {
        () = waiting => {}
        answer = text(&client, &url) => panic!("{answer:?}"),
    }
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
    text(&client, &upstream.url()).await.unwrap();
    let mut figures = Vec::new();
    client.connections().observe(&mut |metric| figures.push(metric));
    assert_eq!(
        figures,
        [
            Metric::new("connections_opened", Value::Counter(1)),
            Metric::new("connections_failed", Value::Counter(0)),
            Metric::new("connections_open", Value::Gauge(1.0)),
            Metric::new("connections_idle", Value::Gauge(1.0)),
            Metric::new("calls_waiting", Value::Gauge(0.0)),
        ]
    );
    assert_eq!(client.connections().origin().name(), "observed");
}
