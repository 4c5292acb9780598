use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};
use tonic::Code;

use buttress_testkit::{Answer, Collector};

use super::{
    received::Received,
    support::{Setup, call, subscribe},
};
use crate::{Flush, Side, source::End};

const CALLS: u64 = 10_000;
/// So many spans wait at most.
const QUEUE: u64 = 4096;

/// How long the calls took, all and the longest.
async fn calls() -> (Duration, Duration) {
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..CALLS {
        let began = Instant::now();
        call(Side::Client, "GET /users/{id}", End::Success, async {}).await;
        longest = longest.max(began.elapsed());
    }
    (began.elapsed(), longest)
}

/// Makes the calls and shuts down while the collector at that address is of no use. How many spans were lost by then.
async fn endures(url: &str) -> u64 {
    let healthy = {
        let Setup { collector, telemetry, _subscriber } = subscribe(Collector::start().await, None, 1.0);
        let (all, _) = calls().await;
        assert_eq!(telemetry.shutdown(Duration::from_secs(10)).await.spans, Flush::Sent);
        assert!(collector.spans().len() as u64 >= QUEUE);
        all
    };
    let Setup { telemetry, _subscriber, .. } = subscribe(Collector::start().await, Some(url), 1.0);
    let (all, longest) = calls().await;
    assert!(all < 3 * healthy + Duration::from_millis(200), "{all:?} instead of {healthy:?}");
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    let lost = telemetry.spans_lost();
    assert!(lost >= CALLS - QUEUE, "{lost}");

    let began = Instant::now();
    let flushed = telemetry.shutdown(Duration::from_millis(300)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Where all is lost already, nothing waits any more.
    match flushed.spans {
        Flush::Sent => assert_eq!(flushed.spans_lost, CALLS),
        Flush::TimedOut | Flush::Failed(_) => {}
        Flush::Off => panic!("{flushed:?}"),
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_leaves_room_for_more() {
    const ROUND: usize = 2048;
    let setup = subscribe(Collector::start().await, None, 1.0);
    for round in 1..=4 {
        for _ in 0..ROUND {
            call(Side::Client, "GET", End::Success, async {}).await;
        }
        // Less than a batch waits for a while.
        setup.collector.arrived(round * ROUND - 511).await;
    }
    assert_eq!(setup.flush().await.spans().len(), 4 * ROUND);
}

/// A server that does that with every connection.
async fn server(answer: &'static [u8], stays: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The client may go away at any time.
                _ = stream.write_all(answer).await;
                let mut buffer = [0; 4096];
                while stays && stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    format!("http://{address}")
}

async fn refusing(answer: Answer) -> (Collector, String) {
    let collector = Collector::start().await;
    collector.answer(answer);
    let url = collector.url();
    (collector, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_costs_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    endures(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_costs_a_full_queue_and_no_more() {
    assert_eq!(endures(&server(b"", true).await).await, CALLS - QUEUE);
    assert_eq!(endures(&refusing(Answer::Never).await.1).await, CALLS - QUEUE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_collector_costs_nothing() {
    endures(&server(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nno!", true).await).await;
    endures(&server(&[0xa5; 70_000], true).await).await;
    endures(&server(b"", false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_costs_nothing() {
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Unauthenticated] {
        let (collector, url) = refusing(Answer::Status(code)).await;
        endures(&url).await;
        assert!(collector.spans().is_empty());
    }
}
