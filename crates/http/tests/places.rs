//! The caps on connections hold, the queue for them is fair, and nobody is lost in it.

mod support;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use buttress_core::Classify;
use buttress_core::{Deadline, Outcome, Reason, Rejectable};
use buttress_http::{Error, HttpClient, InvalidConfig, StatusClassifier};
use support::{
    Body, Client, answer, build, call, get, ms, read_head, text,
    watched::{free, shut, until, watched},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tower::Service;

fn spawn(client: &Client, url: String) -> tokio::task::JoinHandle<Result<String, Error>> {
    let client = client.clone();
    tokio::spawn(async move { text(&client, &url).await })
}

fn overloaded(error: &Error) -> bool {
    let rejected = error.rejected();
    rejected.is_some_and(|rejected| {
        (rejected.layer(), rejected.reason(), rejected.sent()) == ("http", Reason::Overloaded, false)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_many_callers_no_server_sees_more_connections_than_the_cap() {
    let (addr, watched) = watched(free()).await;
    let client = build(HttpClient::builder().max_connections_per_host(4));
    let calls: Vec<_> = (0..64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                for turn in 0..40 {
                    let url = format!("http://{addr}/{n}-{turn}");
                    if (n + turn) % 7 == 0 {
                        // Callers who lose patience, at any moment.
                        let patience = Duration::from_micros((n * 41 + turn * 97) % 3000);
                        let _ = timeout(patience, text(&client, &url)).await;
                    } else {
                        assert_eq!(text(&client, &url).await.unwrap(), format!("/{n}-{turn}"));
                    }
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    // A server learns a moment after the client that a connection is closed.
    assert!((1..=5).contains(&watched.most()), "{}", watched.most());
    assert!(client.connections().open() <= 4);
    assert_eq!(client.connections().waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_only_wait_open_nothing_and_exactly_the_cap_is_used() {
    let permits = shut();
    let (addr, watched) = watched(Arc::clone(&permits)).await;
    let client = build(HttpClient::builder().max_connections_per_host(4));
    let calls: Vec<_> = (0..64).map(|n| spawn(&client, format!("http://{addr}/{n}"))).collect();
    until("the others wait", || client.connections().waiting() == 60 && watched.paths().len() == 4).await;
    assert_eq!((client.connections().open(), watched.most()), (4, 4));
    permits.add_permits(64);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((client.connections().opened(), watched.most()), (4, 4));
    assert_eq!((client.connections().waiting(), client.connections().idle()), (0, 4));
}

#[tokio::test]
async fn who_waits_is_served_in_the_order_of_coming() {
    // With a pool, and without one, where each call needs a connection of its own.
    for idle in [100, 0] {
        let permits = shut();
        let (addr, watched) = watched(Arc::clone(&permits)).await;
        let client = build(HttpClient::builder().max_connections_per_host(1).pool_max_idle_per_host(idle));
        let mut calls = Vec::new();
        for n in 0..8 {
            calls.push(spawn(&client, format!("http://{addr}/{n}")));
            until("it waits or is sent", || client.connections().waiting() + watched.paths().len() > n).await;
        }
        permits.add_permits(8);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let expected: Vec<_> = (0..8).map(|n| format!("/{n}")).collect();
        assert_eq!(watched.paths(), expected);
        assert_eq!(watched.most(), 1);
    }
}

#[tokio::test]
async fn a_waiter_that_is_dropped_leaves_the_queue_and_passes_on_its_turn() {
    let permits = shut();
    let (addr, watched) = watched(Arc::clone(&permits)).await;
    let client = build(HttpClient::builder().max_connections_per_host(1).pool_max_idle_per_host(0));
    let first = spawn(&client, format!("http://{addr}/first"));
    until("it is sent", || watched.paths().len() == 1).await;
    let dropped: Vec<_> = (0..5).map(|_| spawn(&client, format!("http://{addr}/dropped"))).collect();
    until("they wait", || client.connections().waiting() == 5).await;
    let last = spawn(&client, format!("http://{addr}/last"));
    until("it waits", || client.connections().waiting() == 6).await;
    for call in &dropped {
        call.abort();
    }
    until("they have left", || client.connections().waiting() == 1).await;
    permits.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap(), "/first");
    assert_eq!(last.await.unwrap().unwrap(), "/last");
    assert_eq!(watched.paths(), ["/first", "/last"]);
}

/// Its turn comes, and it is dropped before it is polled again.
#[tokio::test]
async fn a_place_that_nobody_picks_up_goes_to_the_next() {
    let permits = shut();
    let (addr, watched) = watched(Arc::clone(&permits)).await;
    let client = build(HttpClient::builder().max_connections_per_host(1).pool_max_idle_per_host(0));
    let first = spawn(&client, format!("http://{addr}/first"));
    until("it is sent", || watched.paths().len() == 1).await;
    let mut service = client.clone();
    let mut asleep = Box::pin(service.call(get(&format!("http://{addr}/asleep"))));
    assert!(futures_now(asleep.as_mut()).await.is_none());
    let last = spawn(&client, format!("http://{addr}/last"));
    until("both wait", || client.connections().waiting() == 2).await;
    permits.add_permits(2);
    first.await.unwrap().unwrap();
    until("it has its turn", || client.connections().waiting() == 1).await;
    sleep(ms(20)).await;
    assert!(!last.is_finished());
    drop(asleep);
    assert_eq!(last.await.unwrap().unwrap(), "/last");
    assert_eq!(watched.paths(), ["/first", "/last"]);
}

/// The result of one poll.
async fn futures_now<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn who_waits_too_long_is_refused_and_it_is_no_failure_of_the_servers() {
    let permits = shut();
    let (addr, watched) = watched(Arc::clone(&permits)).await;
    let client =
        build(HttpClient::builder().name("crowded").max_connections_per_host(1).connect_timeout(ms(100)));
    let first = spawn(&client, format!("http://{addr}/first"));
    until("it is sent", || watched.paths().len() == 1).await;

    let start = Instant::now();
    let result = call(&client, get(&format!("http://{addr}/second"))).await;
    assert!((ms(95)..ms(500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(StatusClassifier.classify(&result), Outcome::Ignored);
    let error = result.unwrap_err();
    assert!(overloaded(&error) && !error.sent(), "{error:?}");
    assert_eq!(error.rejected().unwrap().name(), "crowded");

    let late = Deadline::after(ms(30)).scope(call(&client, get(&format!("http://{addr}/third")))).await;
    assert_eq!(StatusClassifier.classify(&late), Outcome::Ignored);
    let rejected = *late.unwrap_err().rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::DeadlineExceeded, false));

    permits.add_permits(1);
    first.await.unwrap().unwrap();
    assert_eq!((client.connections().failed(), client.connections().waiting()), (0, 0));
    assert_eq!(watched.paths(), ["/first"]);
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let permits = shut();
    let (addr, watched) = watched(Arc::clone(&permits)).await;
    let client = build(HttpClient::builder().max_connections_per_host(1).max_waiting(2));
    let mut calls = vec![spawn(&client, format!("http://{addr}/0"))];
    until("it is sent", || watched.paths().len() == 1).await;
    calls.extend((1..3).map(|n| spawn(&client, format!("http://{addr}/{n}"))));
    until("they wait", || client.connections().waiting() == 2).await;
    let start = Instant::now();
    assert!(overloaded(&text(&client, &format!("http://{addr}/3")).await.unwrap_err()));
    assert!(start.elapsed() < ms(200), "at once");
    permits.add_permits(3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(watched.paths().len(), 3);
}

#[test]
fn a_cap_of_zero_is_refused() {
    for builder in
        [HttpClient::builder().max_connections(0), HttpClient::builder().max_connections_per_host(0)]
    {
        let error = builder.build::<Body>().unwrap_err();
        assert!(matches!(error, InvalidConfig::NoConnections), "{error:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_another_host() {
    let (one, at_one) = watched(free()).await;
    let (other, at_other) = watched(free()).await;
    let client = build(HttpClient::builder().max_connections(2));
    let both = [spawn(&client, format!("http://{one}/")), spawn(&client, format!("http://{one}/"))];
    for call in both {
        call.await.unwrap().unwrap();
    }
    for (n, addr) in [one, other, one, other, other, one].into_iter().cycle().take(60).enumerate() {
        let start = Instant::now();
        assert_eq!(text(&client, &format!("http://{addr}/{n}")).await.unwrap(), format!("/{n}"));
        assert!(start.elapsed() < ms(500), "{:?}", start.elapsed());
        assert!(client.connections().open() <= 2);
    }
    assert!(at_one.most() <= 2 && at_other.most() <= 2);
}

/// One host has enough to do for every connection that there may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_host_does_not_starve_another_and_no_call_is_lost() {
    let (busy, at_busy) = watched(free()).await;
    let (rare, at_rare) = watched(free()).await;
    let client = build(HttpClient::builder().max_connections(4));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..16)
        .map(|_| {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(SeqCst) {
                    text(&client, &format!("http://{busy}/")).await.unwrap();
                    assert!(client.connections().open() <= 4);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for n in 0..200 {
        let start = Instant::now();
        assert_eq!(text(&client, &format!("http://{rare}/{n}")).await.unwrap(), format!("/{n}"));
        assert!(start.elapsed() < ms(3000), "{:?}", start.elapsed());
        assert!(client.connections().open() <= 4);
        // It gives its connection up again.
        if n % 10 == 0 {
            sleep(ms(5)).await;
        }
    }
    stop.store(true, SeqCst);
    let mut calls = 0;
    for task in load {
        calls += task.await.unwrap();
    }
    assert!(calls > 200, "{calls}");
    // What the client has closed is there for a server until its task has run, which takes longer where all are busy.
    assert!(at_busy.most() <= 8 && at_rare.most() <= 8, "{} {}", at_busy.most(), at_rare.most());
}

#[tokio::test]
async fn hosts_are_forgotten_with_their_connections() {
    let client = build(HttpClient::builder().max_connections(8).max_connections_per_host(2));
    for _ in 0..50 {
        // A port where nobody listens, another each time.
        let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        text(&client, &format!("http://{addr}/")).await.unwrap_err();
    }
    assert_eq!((client.connections().open(), client.connections().waiting()), (0, 0));
    assert_eq!(client.connections().failed(), 50);
}

/// As the field lost seven of them.
#[tokio::test]
async fn regression_27_eight_wait_for_one_reconnect_and_all_wake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = build(HttpClient::builder().max_connections_per_host(1));
    let first = spawn(&client, format!("http://{addr}/"));
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await.unwrap();
    let waiting: Vec<_> = (0..8).map(|_| spawn(&client, format!("http://{addr}/"))).collect();
    until("they wait", || client.connections().waiting() == 8).await;
    // The server dies, and one connection alone is made again.
    drop(stream);
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    let (mut stream, _) = listener.accept().await.unwrap();
    for _ in 0..8 {
        read_head(&mut stream).await.unwrap();
        answer(&mut stream, "back").await.unwrap();
    }
    for call in waiting {
        assert_eq!(call.await.unwrap().unwrap(), "back");
    }
    assert_eq!(client.connections().opened(), 2);
}

#[tokio::test]
async fn waiters_of_a_host_that_is_gone_all_get_their_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = build(HttpClient::builder().max_connections_per_host(1));
    let first = spawn(&client, format!("http://{addr}/"));
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await.unwrap();
    let waiting: Vec<_> = (0..8).map(|_| spawn(&client, format!("http://{addr}/"))).collect();
    until("they wait", || client.connections().waiting() == 8).await;
    drop((listener, stream));
    first.await.unwrap().unwrap_err();
    for call in waiting {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    }
    assert_eq!((client.connections().open(), client.connections().waiting()), (0, 0));
}
