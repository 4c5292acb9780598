//! A client that is closed refuses, finishes, and says what it cut off.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use buttress_core::Classify;
use buttress_core::{Outcome, Reason, Rejectable};
use buttress_http::{Error, HttpClient, StatusClassifier};
use buttress_testkit::{Fault, FaultProxy, Reply, Upstream};
use http_body_util::BodyExt;
use support::{Client, answer, build, call, client, get, ms, read, read_head, server, text};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

fn spawn(client: &Client, url: String) -> tokio::task::JoinHandle<Result<String, Error>> {
    let client = client.clone();
    tokio::spawn(async move { text(&client, &url).await })
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

async fn refuses(client: &Client, url: &str) {
    let result = call(client, get(url)).await;
    assert_eq!(StatusClassifier.classify(&result), Outcome::Ignored);
    let rejected = *result.unwrap_err().rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent(), rejected.layer()), (Reason::Closed, false, "http"));
}

/// Answers half of a body, and the rest when `more` allows it.
async fn halves(more: Arc<Semaphore>) -> SocketAddr {
    server(move |mut stream, _| {
        let more = Arc::clone(&more);
        async move {
            while read_head(&mut stream).await.is_ok() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await?;
                more.acquire().await.unwrap().forget();
                stream.write_all(b"half").await?;
            }
            Ok(())
        }
    })
    .await
}

#[tokio::test]
async fn idle_connections_are_closed_and_all_clones_refuse() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("hello"));
    let client = client();
    let clone = client.clone();
    text(&client, &upstream.url()).await.unwrap();
    assert_eq!(client.connections().open(), 1);
    let start = Instant::now();
    client.close(ms(5000)).await.unwrap();
    assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
    assert_eq!(client.connections().open(), 0);
    refuses(&client, &upstream.url()).await;
    refuses(&clone, &upstream.url()).await;
    clone.close(ms(5000)).await.unwrap();
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_client_that_never_called_is_closed_at_once() {
    let client = client();
    client.close(ms(0)).await.unwrap();
    refuses(&client, "http://127.0.0.1:9/").await;
}

#[tokio::test]
async fn calls_in_flight_end_with_their_bodies_also_those_that_wait() {
    let more = Arc::new(Semaphore::new(0));
    let addr = halves(Arc::clone(&more)).await;
    let client = build(HttpClient::builder().max_connections_per_host(2));
    let mut body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    let calls: Vec<_> = (0..6).map(|_| spawn(&client, format!("http://{addr}/"))).collect();
    until("the others wait", || client.connections().waiting() == 5).await;

    let closer = client.clone();
    let closing = tokio::spawn(async move { closer.close(ms(5000)).await });
    sleep(ms(50)).await;
    refuses(&client, &format!("http://{addr}/")).await;
    assert!(!closing.is_finished());
    more.add_permits(7);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "halfhalf");
    }
    assert_eq!(read(body).await.unwrap(), "half");
    closing.await.unwrap().unwrap();
    assert_eq!(client.connections().open(), 0);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off_and_counted() {
    let addr = halves(Arc::new(Semaphore::new(0))).await;
    let client = client();
    let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    let silent = server(|stream, _| async move {
        sleep(ms(60_000)).await;
        drop(stream);
        Ok(())
    })
    .await;
    let waiting = spawn(&client, format!("http://{silent}/"));
    until("both are connected", || client.connections().open() == 2).await;
    sleep(ms(20)).await;

    let start = Instant::now();
    let cut = client.close(ms(100)).await.unwrap_err();
    assert!((ms(95)..ms(1000)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((cut.calls, cut.connections), (2, 2));
    assert_eq!(cut.to_string(), "the HTTP client was closed with 2 calls in flight and 2 connections open");
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed { .. }) && error.sent(), "{error:?}");
    assert!(matches!(read(body).await.unwrap_err(), Error::Body { .. }));
    until("all are closed", || client.connections().open() == 0).await;
    client.close(ms(1000)).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_held_after_the_cut_keeps_no_task() {
    let addr = halves(Arc::new(Semaphore::new(0))).await;
    let client = client();
    let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..8 {
        assert_eq!(client.close(ms(0)).await.unwrap_err().calls, 1);
    }
    until("those who closed are done", || tasks() <= before).await;
    drop(body);
}

/// Nobody reads it, so that hyper does not read from the connection either.
#[tokio::test]
async fn an_answer_that_nobody_reads_does_not_keep_its_connection() {
    let (sender, ended) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let addr = server(move |mut stream, _| {
        let sender = sender.lock().unwrap().take();
        async move {
            read_head(&mut stream).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n").await?;
            while stream.write_all(&[b'a'; 65536]).await.is_ok() {}
            let _ = sender.unwrap().send(());
            Ok(())
        }
    })
    .await;
    let client = client();
    let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    sleep(ms(100)).await;
    let cut = client.close(ms(50)).await.unwrap_err();
    assert_eq!((cut.calls, cut.connections), (1, 1));
    timeout(ms(2000), ended).await.expect("it is still open").unwrap();
    drop(body);
}

#[tokio::test]
async fn whoever_waits_for_a_place_is_let_go_at_the_end() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        sleep(ms(60_000)).await;
        Ok(())
    })
    .await;
    let client = build(HttpClient::builder().max_connections_per_host(1));
    let first = spawn(&client, format!("http://{addr}/"));
    until("it is connected", || client.connections().open() == 1).await;
    let second = spawn(&client, format!("http://{addr}/"));
    until("it waits", || client.connections().waiting() == 1).await;
    let cut = client.close(ms(50)).await.unwrap_err();
    assert_eq!((cut.calls, cut.connections), (2, 1));
    first.await.unwrap().unwrap_err();
    let rejected = *second.await.unwrap().unwrap_err().rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::Closed, false));
}

#[tokio::test]
async fn a_dropped_close_stays_closed_and_cuts_nothing_off() {
    let more = Arc::new(Semaphore::new(0));
    let addr = halves(Arc::clone(&more)).await;
    let client = client();
    let slow = spawn(&client, format!("http://{addr}/"));
    until("it is connected", || client.connections().open() == 1).await;
    // Once polled, and once not.
    assert!(timeout(ms(30), client.close(ms(100))).await.is_err());
    drop(client.close(ms(1)));
    sleep(ms(150)).await;
    refuses(&client, &format!("http://{addr}/")).await;
    assert!(!slow.is_finished());
    more.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap(), "halfhalf");
    until("all are closed", || client.connections().open() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_each_call_is_answered_or_refused_and_nothing_else() {
    let addr = server(|mut stream, _| async move {
        while read_head(&mut stream).await.is_ok() {
            answer(&mut stream, "hello").await?;
        }
        Ok(())
    })
    .await;
    for round in 0..20 {
        let client = build(HttpClient::builder().max_connections_per_host(4));
        let answered_so_far = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..32)
            .map(|_| {
                let (client, answered_so_far) = (client.clone(), Arc::clone(&answered_so_far));
                tokio::spawn(async move {
                    let mut answered = 0;
                    loop {
                        match text(&client, &format!("http://{addr}/")).await {
                            Ok(answer) => assert_eq!(answer, "hello"),
                            Err(error) => {
                                let rejected = error.rejected().map(|rejected| rejected.reason());
                                assert_eq!(rejected, Some(Reason::Closed), "{error:?}");
                                return answered;
                            }
                        }
                        answered += 1;
                        answered_so_far.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        until("some are answered", || answered_so_far.load(SeqCst) > 20 * round).await;
        client.close(ms(3000)).await.unwrap();
        assert_eq!(client.connections().open(), 0);
        let mut answered = 0;
        for call in calls {
            answered += call.await.unwrap();
        }
        assert!(answered > 0);
    }
}

#[tokio::test]
async fn a_connection_to_a_server_that_is_gone_is_closed_too() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("hello"));
    let proxy = FaultProxy::start(upstream.addr()).await;
    let client = client();
    text(&client, &format!("http://{}/", proxy.addr())).await.unwrap();
    proxy.set(Fault::BlackHole);
    client.close(ms(3000)).await.unwrap();
}

/// Another protocol's connection is in use until it is dropped.
#[tokio::test]
async fn an_upgraded_connection_is_in_use_and_is_cut_off() {
    let addr = server(|mut stream: TcpStream, _| async move {
        read_head(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await?;
        loop {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
        }
    })
    .await;
    let client = client();
    let mut request = get(&format!("http://{addr}/"));
    let headers = request.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "echo".parse().unwrap());
    let response = call(&client, request).await.unwrap();
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    let mut stream = hyper_util::rt::TokioIo::new(upgraded);
    assert_eq!(client.connections().idle(), 0);
    let closer = client.clone();
    let closing = tokio::spawn(async move { closer.close(ms(200)).await });
    sleep(ms(50)).await;
    stream.write_all(b"a").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
    let cut = closing.await.unwrap().unwrap_err();
    assert_eq!(cut.connections, 1);
    timeout(ms(1000), stream.read_u8()).await.expect("it is still open").unwrap_err();
}
