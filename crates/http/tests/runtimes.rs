//! One client, and runtimes that come and go.

mod support;

use buttress_http::HttpClient;
use buttress_testkit::{Reply, Upstream};
use support::{Client, build, client, ms, text};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep, timeout},
};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server that lives on a thread of its own.
fn upstream() -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let upstream = Upstream::start().await;
            upstream.on("/", Reply::ok("hello"));
            sender.send(upstream.url()).unwrap();
            sleep(ms(60_000)).await;
        });
    });
    receiver.recv().unwrap()
}

async fn hello(client: &Client, url: &str) {
    assert_eq!(text(client, url).await.unwrap(), "hello");
}

#[test]
fn close_is_ready_at_once_also_after_the_runtime_of_the_first_call_has_ended() {
    let (client, url) = (client(), upstream());
    for _ in 0..20 {
        runtime().block_on(hello(&client, &url));
    }
    runtime().block_on(async {
        hello(&client, &url).await;
        sleep(ms(20)).await;
        let start = Instant::now();
        client.close(ms(3000)).await.unwrap();
        assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
    });
}

#[test]
fn idle_connections_make_room_also_after_the_runtime_of_the_first_call_has_ended() {
    let (url, other) = (upstream(), upstream());
    let client = build(HttpClient::builder().max_connections(1).connect_timeout(ms(1000)));
    runtime().block_on(hello(&client, &url));
    runtime().block_on(async {
        hello(&client, &url).await;
        hello(&client, &other).await;
    });
}

#[test]
fn idle_connections_end_in_time_also_after_the_runtime_of_the_first_call_has_ended() {
    let url = upstream();
    let client = build(HttpClient::builder().pool_idle_timeout(ms(100)));
    runtime().block_on(hello(&client, &url));
    runtime().block_on(async {
        hello(&client, &url).await;
        timeout(ms(2000), async {
            while client.connections().open() > 0 {
                sleep(ms(5)).await;
            }
        })
        .await
        .unwrap();
    });
}
