//! The caps on connections hold, the queue for them is fair, and nobody is lost in it.

mod support;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::Classify;
use buttress_core::{Deadline, Outcome, Reason, Rejectable};
use buttress_http::{Error, HttpClient, InvalidConfig, StatusClassifier};
use bytes::Bytes;
use http::Request;
use hyper::body::Frame;
use support::{Body, Client, answer, build, call, get, ms, read, read_head, server, text};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceExt};

/// What a server sees of the connections to it.
#[derive(Default)]
struct Watched {
    open: AtomicUsize,
    most: AtomicUsize,
    paths: Mutex<Vec<String>>,
}

impl Watched {
    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

struct Open(Arc<Watched>);

impl Open {
    fn new(watched: &Arc<Watched>) -> Self {
        let open = watched.open.fetch_add(1, SeqCst) + 1;
        watched.most.fetch_max(open, SeqCst);
        Self(Arc::clone(watched))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// Answers each request with its path, after having waited for `permits`; each connection as long as the client keeps it.
async fn watched(permits: Arc<Semaphore>) -> (SocketAddr, Arc<Watched>) {
    let watched = Arc::new(Watched::default());
    let seen = Arc::clone(&watched);
    let addr = server(move |mut stream, _| {
        let (watched, permits) = (Arc::clone(&seen), Arc::clone(&permits));
        async move {
            let open = Open::new(&watched);
            loop {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
                watched.paths.lock().unwrap().push(path.clone());
                permits.acquire().await.unwrap().forget();
                if path == "/last" {
                    // What the client does not use any more counts no longer.
                    drop(open);
                    return answer(&mut stream, &path).await;
                }
                answer(&mut stream, &path).await?;
            }
        }
    })
    .await;
    (addr, watched)
}

fn free() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2))
}

fn shut() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        sleep(ms(5)).await;
    }
    panic!("never: {what}");
}

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

/// A body that panics on its first, or second, frame.
struct Bomb(u8);

impl hyper::body::Body for Bomb {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        assert!(self.0 > 0, "a panic in a body");
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}

#[tokio::test]
async fn a_body_that_panics_gives_its_place_back() {
    let (addr, _) = watched(free()).await;
    let client: HttpClient<Bomb> = HttpClient::builder().max_connections_per_host(1).build().unwrap();
    for frames in [0, 1, 0, 1] {
        let request = Request::post(format!("http://{addr}/")).body(Bomb(frames)).unwrap();
        let mut client = client.clone();
        let result = timeout(ms(2000), async { client.ready().await.unwrap().call(request).await });
        result.await.expect("it waits for a place that nobody has").unwrap_err();
    }
    until("all are closed", || client.connections().open() == 0).await;
}

#[tokio::test]
async fn an_answer_that_is_dropped_unread_gives_its_place_back() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nbegun").await?;
        let _ = stream.read_u8().await;
        Ok(())
    })
    .await;
    let client = build(HttpClient::builder().max_connections_per_host(1));
    for _ in 0..5 {
        let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
        assert_eq!(client.connections().idle(), 0);
        drop(body);
    }
    until("all are closed", || client.connections().open() == 0).await;
}

#[tokio::test]
async fn a_connection_is_idle_where_its_answer_was_read_to_the_end() {
    let (addr, _) = watched(free()).await;
    let client = build(HttpClient::builder());
    for _ in 0..3 {
        let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
        assert_eq!((client.connections().open(), client.connections().idle()), (1, 0));
        read(body).await.unwrap();
        assert_eq!((client.connections().open(), client.connections().idle()), (1, 1));
    }
}
