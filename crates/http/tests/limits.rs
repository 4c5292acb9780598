//! What bounds an answer beside deadlines: the time to its head, silences, its size.

mod support;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Classify, Deadline, Outcome, Reason, Rejectable};
use buttress_http::{Builder, Error, HttpClient, InvalidConfig, ResponseBody, StatusClassifier};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use support::{answer, build, call, get, ms, read, read_head, server, text};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

fn outcome(error: Error) -> Outcome {
    StatusClassifier.classify(&Err::<Response<()>, _>(error))
}

/// A server that accepts, reads and never answers.
async fn silent() -> SocketAddr {
    server(|mut stream, _| async move {
        let mut buf = vec![0; 65_536];
        while stream.read(&mut buf).await? > 0 {}
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_after_the_first_byte_timeout() {
    let addr = silent().await;
    let client = build(HttpClient::builder().first_byte_timeout(ms(150)));
    let start = Instant::now();
    let error = text(&client, &format!("http://alice:hunter2@{addr}/account?token=7")).await.unwrap_err();
    assert!((ms(145)..ms(600)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!(error, Error::FirstByteTimeout { limit, .. } if limit == ms(150)), "{error:?}");
    assert!(error.is_timeout() && error.sent());
    assert_eq!(
        error.to_string(),
        format!("{addr} was sent the request and did not begin to answer within 150ms")
    );
    assert_eq!(error.peer().and_then(|peer| peer.port()), Some(addr.port()));
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(outcome(error), Outcome::Failure);
}

#[tokio::test]
async fn the_earlier_of_first_byte_timeout_and_deadline_ends_a_call_and_gives_its_error() {
    let addr = silent().await;
    let client = build(HttpClient::builder().first_byte_timeout(ms(200)));
    let url = format!("http://{addr}/");
    let error = Deadline::after(ms(80)).scope(text(&client, &url)).await.unwrap_err();
    let rejected = error.rejected().expect("the deadline");
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::DeadlineExceeded, true));
    let error = Deadline::after(ms(2000)).scope(text(&client, &url)).await.unwrap_err();
    assert!(matches!(error, Error::FirstByteTimeout { .. }), "{error:?}");
}

#[tokio::test]
async fn connecting_does_not_count_as_waiting_for_the_first_byte() {
    // Its handshake is never answered.
    let addr = silent().await;
    let limits = HttpClient::builder().first_byte_timeout(ms(50)).connect_timeout(ms(300));
    #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
    {
        let error = text(&build(limits), &format!("https://{addr}/")).await.unwrap_err();
        assert!(matches!(error, Error::ConnectTimeout { .. }) && !error.sent(), "{error:?}");
    }
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
    let _ = (addr, limits);
}

#[tokio::test]
async fn an_answer_in_time_is_none_the_worse_for_the_limits() {
    let addr = server(|mut stream, _| async move {
        loop {
            read_head(&mut stream).await?;
            sleep(ms(60)).await;
            answer(&mut stream, "hello").await?;
        }
    })
    .await;
    let client = build(
        HttpClient::builder()
            .first_byte_timeout(Duration::MAX)
            .read_timeout(Duration::MAX)
            .max_response_body(5),
    );
    for _ in 0..3 {
        assert_eq!(text(&client, &format!("http://{addr}/")).await.unwrap(), "hello");
    }
    assert_eq!(client.connections().opened(), 1);
}

/// A body that is fed by hand.
struct Fed(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Fed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

async fn upload(builder: Builder, addr: SocketAddr, body: Fed) -> Result<Response<ResponseBody>, Error> {
    let mut client = builder.build().unwrap();
    let request = Request::post(format!("http://{addr}/")).body(body).unwrap();
    client.ready().await?.call(request).await
}

#[tokio::test]
async fn a_slow_upload_is_not_cut_off_and_the_limit_counts_from_its_end() {
    let ended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ended);
    let addr = server(move |mut stream, _| {
        let ended = Arc::clone(&seen);
        async move {
            let mut all = Vec::new();
            while !all.ends_with(b"0\r\n\r\n") {
                assert!(stream.read_buf(&mut all).await? > 0);
            }
            ended.store(true, SeqCst);
            std::future::pending().await
        }
    })
    .await;
    let (feed, body) = mpsc::channel(1);
    let feeding = tokio::spawn(async move {
        for _ in 0..8 {
            sleep(ms(50)).await;
            feed.send(Bytes::from_static(b"piece")).await.unwrap();
        }
        sleep(ms(50)).await;
        Instant::now()
    });
    let error = upload(HttpClient::builder().first_byte_timeout(ms(120)), addr, Fed(body)).await.unwrap_err();
    let took = feeding.await.unwrap().elapsed();
    assert!(matches!(error, Error::FirstByteTimeout { .. }), "{error:?}");
    assert!(ended.load(SeqCst), "the whole of it had been sent");
    assert!((ms(115)..ms(400)).contains(&took), "{took:?} after the end of the upload");
}

/// hyper takes a body that is in memory all at once, long before the server has it.
#[tokio::test]
async fn a_large_upload_is_not_cut_off_while_the_server_takes_it() {
    const LENGTH: usize = 32 << 20;
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        let mut piece = vec![0; 1 << 20];
        for number in 0..LENGTH >> 20 {
            stream.read_exact(&mut piece).await?;
            assert!(piece.iter().all(|byte| usize::from(*byte) == number), "in order and complete");
            sleep(ms(40)).await;
        }
        answer(&mut stream, "taken").await
    })
    .await;
    let body: Vec<u8> = (0..LENGTH).map(|at| (at >> 20).to_le_bytes()[0]).collect();
    let request = Request::post(format!("http://{addr}/")).body(support::Body::from(body)).unwrap();
    let client = build(HttpClient::builder().first_byte_timeout(ms(600)));
    let start = Instant::now();
    let response = call(&client, request).await.unwrap();
    assert_eq!(read(response.into_body()).await.unwrap(), "taken");
    assert!(start.elapsed() > ms(1200), "longer than the limit: {:?}", start.elapsed());
}

#[tokio::test]
async fn an_upload_that_its_own_side_stalls_is_not_the_servers_silence() {
    let addr = silent().await;
    let (_feed, body) = mpsc::channel(1);
    let call = upload(HttpClient::builder().first_byte_timeout(ms(50)), addr, Fed(body));
    assert!(tokio::time::timeout(ms(400), call).await.is_err(), "it waits for its body");
}

#[tokio::test]
async fn an_upload_that_the_server_stops_taking_is_given_up() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        std::future::pending().await
    })
    .await;
    let (feed, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let piece = Bytes::from(vec![0; 1 << 16]);
        while feed.send(piece.clone()).await.is_ok() {}
    });
    let start = Instant::now();
    let error = upload(HttpClient::builder().first_byte_timeout(ms(200)), addr, Fed(body)).await.unwrap_err();
    assert!(matches!(error, Error::FirstByteTimeout { .. }), "{error:?}");
    assert!(start.elapsed() >= ms(195), "{:?}", start.elapsed());
}

/// An answer without a length, in pieces.
async fn pieces(after: Duration, count: usize, then: Duration) -> SocketAddr {
    server(move |mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
        for _ in 0..count {
            sleep(after).await;
            stream.write_all(b"5\r\npiece\r\n").await?;
        }
        sleep(then).await;
        stream.write_all(b"0\r\n\r\n").await
    })
    .await
}

#[tokio::test]
async fn a_silence_in_an_answer_is_given_up_after_the_read_timeout() {
    let addr = pieces(ms(10), 3, ms(5000)).await;
    let client = build(HttpClient::builder().read_timeout(ms(150)));
    let body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    let start = Instant::now();
    let error = read(body).await.unwrap_err();
    assert!((ms(150)..ms(700)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!(error, Error::ReadTimeout { limit, .. } if limit == ms(150)), "{error:?}");
    assert!(error.is_timeout() && error.sent());
    assert_eq!(error.to_string(), format!("the answer of {addr} stood still for 150ms"));
    assert_eq!(outcome(error), Outcome::Failure);
}

#[tokio::test]
async fn a_trickle_is_no_silence_and_ends_at_the_deadline() {
    let addr = pieces(ms(40), 8, ms(0)).await;
    let client = build(HttpClient::builder().read_timeout(ms(150)));
    assert_eq!(text(&client, &format!("http://{addr}/")).await.unwrap(), "piece".repeat(8));

    let endless = pieces(ms(40), usize::MAX, ms(0)).await;
    let body = call(&client, get(&format!("http://{endless}/"))).await.unwrap().into_body();
    let error = Deadline::after(ms(300)).scope(read(body)).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_cut_off() {
    let addr = pieces(ms(1), 3, ms(0)).await;
    let client = build(HttpClient::builder().read_timeout(ms(60)));
    let mut body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        read.extend(frame.unwrap().into_data().unwrap());
        sleep(ms(150)).await;
    }
    assert_eq!(read, b"piece".repeat(3));
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_its_limit_and_its_connection_is_closed() {
    let closed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&closed);
    let addr = server(move |mut stream, _| {
        let closed = Arc::clone(&seen);
        async move {
            read_head(&mut stream).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            while stream.write_all(b"400\r\n").await.is_ok()
                && stream.write_all(&[b'x'; 0x400]).await.is_ok()
                && stream.write_all(b"\r\n").await.is_ok()
            {}
            closed.store(true, SeqCst);
            Ok(())
        }
    })
    .await;
    let client = build(HttpClient::builder().max_response_body(100_000));
    let mut body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    let mut received = 0;
    let error = loop {
        match body.frame().await.expect("it does not end") {
            Ok(frame) => received += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(received <= 100_000, "{received}");
    assert!(matches!(error, Error::BodyTooLarge { limit: 100_000, .. }) && error.sent(), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the answer of {addr} is larger than the 100000 bytes that are taken")
    );
    assert_eq!(outcome(error), Outcome::Ignored);
    assert!(body.frame().await.expect("it is not complete").is_err(), "and stays cut");
    drop(body);
    for _ in 0..100 {
        if closed.load(SeqCst) {
            return;
        }
        sleep(ms(10)).await;
    }
    panic!("the server still sends");
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_with_the_head_and_one_at_the_limit_is_not() {
    let addr = server(|mut stream, _| async move {
        loop {
            read_head(&mut stream).await?;
            answer(&mut stream, "hello").await?;
        }
    })
    .await;
    let url = format!("http://{addr}/");
    for (limit, taken) in [(4, false), (5, true), (0, false)] {
        let client = build(HttpClient::builder().max_response_body(limit));
        match call(&client, get(&url)).await {
            Ok(response) => {
                assert!(taken, "{limit}");
                assert_eq!(read(response.into_body()).await.unwrap(), "hello");
            }
            Err(error) => {
                assert!(!taken && matches!(error, Error::BodyTooLarge { .. }), "{limit}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_announced_length_that_is_not_sent_is_no_large_answer() {
    let addr = server(|mut stream, _| async move {
        read_head(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await
    })
    .await;
    let client = build(HttpClient::builder().max_response_body(10));
    let mut head = get(&format!("http://{addr}/"));
    *head.method_mut() = Method::HEAD;
    let response = call(&client, head).await.unwrap();
    assert!(response.body().is_end_stream());
}

#[test]
fn limits_of_no_time_are_refused() {
    let built = |builder: Builder| builder.build::<support::Body>().map(drop).unwrap_err();
    let error = built(HttpClient::builder().first_byte_timeout(ms(0)));
    assert!(matches!(error, InvalidConfig::ZeroTimeout("first_byte_timeout")), "{error}");
    let error = built(HttpClient::builder().read_timeout(ms(0)));
    assert!(matches!(error, InvalidConfig::ZeroTimeout("read_timeout")), "{error}");
}

/// A body that is moved out of its deadline's scope while it waits still has its own limit.
#[tokio::test]
async fn a_body_that_waits_outlives_a_deadline_it_was_moved_out_of() {
    let addr = pieces(ms(300), 1, ms(0)).await;
    let client = build(HttpClient::builder().read_timeout(ms(2000)));
    let mut body = call(&client, get(&format!("http://{addr}/"))).await.unwrap().into_body();
    let polled = Deadline::after(ms(100))
        .scope(poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())));
    assert!(polled.await);
    assert_eq!(read(body).await.unwrap(), "piece");
}
