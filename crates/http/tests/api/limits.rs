//! What is endless, slow or too long ends, by a name.

use std::{
    convert::Infallible,
    future::{Pending, pending, ready},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{BoxError, Deadline, Observe, Origin, Reason, Rejectable};
use buttress_http::{ApiClient, ApiError, Body, Error};
use buttress_testkit::{Reply, Upstream};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Empty, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, advance},
};
use tower::{ServiceExt, service_fn};

use crate::{builder, get, http, ms, soon};

/// Answers with this status and a body in chunks that never ends, as fast as it is read.
async fn endless(status: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pour(stream, status));
        }
    });
    addr
}

async fn pour(mut stream: TcpStream, status: u16) -> std::io::Result<()> {
    let _request = stream.read(&mut [0; 1024]).await?;
    let head = format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(&[&b"1000\r\n"[..], &[b'x'; 4096], b"\r\n"].concat()).await?;
    }
}

fn limited(base: impl std::fmt::Display, timeout: u64) -> ApiClient {
    builder(base.to_string()).timeout(ms(timeout)).max_answer(100_000).build(http()).unwrap()
}

#[track_caller]
fn assert_timed_out(error: &ApiError, layer: &str, reason: Reason, sent: bool) {
    let rejected = error.rejected().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!((rejected.layer(), rejected.reason(), error.sent()), (layer, reason, sent), "{error}");
    assert!(error.is_timeout(), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let upstream = Upstream::start().await;
    upstream.on("/fits", Reply::ok("x".repeat(100_000)));
    upstream.on("/long", Reply::ok("x".repeat(100_001)));
    let client = limited(upstream.url(), 5000);
    assert_eq!(get(&client, "/fits").await.unwrap().bytes().await.unwrap().len(), 100_000);
    let error = get(&client, "/long").await.unwrap().text().await.unwrap_err();
    assert!(matches!(error, ApiError::TooLong { limit: 100_000, .. }), "{error:?}");
    let expected = format!(
        "the answer of {} is longer than 100000 bytes: raise `max_answer`, or read it by `chunk`",
        upstream.addr()
    );
    assert_eq!(error.to_string(), expected);

    // What says that it is too long is not waited for.
    upstream.on("/long", Reply::ok("x".repeat(100_001)).stall_after(10));
    let error = get(&client, "/long").await.unwrap().bytes().await.unwrap_err();
    assert!(matches!(error, ApiError::TooLong { .. }), "{error:?}");

    let client = limited(format!("http://{}", endless(200).await), 5000);
    let answer = get(&client, "/").await.unwrap();
    let error = soon(answer.json::<()>()).await.unwrap_err();
    assert!(matches!(error, ApiError::TooLong { .. }), "{error:?}");
    let client = limited(format!("http://{}", endless(500).await), 5000);
    let answer = get(&client, "/").await.unwrap();
    let error = soon(answer.json::<()>()).await.unwrap_err();
    let ApiError::Status(refused) = &error else { panic!("{error:?}") };
    assert_eq!((refused.body().len(), refused.is_truncated()), (8192, true));
}

#[tokio::test]
async fn an_endless_stream_ends_with_the_timeout_however_fast_it_is() {
    let client = limited(format!("http://{}", endless(200).await), 300);
    let start = Instant::now();
    let mut answer = get(&client, "/").await.unwrap();
    let error = loop {
        match answer.chunk().await {
            Ok(chunk) => assert!(chunk.is_some()),
            Err(error) => break error,
        }
    };
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
    assert!((ms(295)..ms(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_timeout_is_for_the_head_and_the_body_together() {
    let upstream = Upstream::start().await;
    upstream.on("/stalls", Reply::ok("x".repeat(100)).after(ms(200)).stall_after(10));
    upstream.on("/never", Reply::never());
    let client = limited(upstream.url(), 400);
    let start = Instant::now();
    let answer = get(&client, "/stalls").await.unwrap();
    // Read by a task that knows nothing of the call.
    let error = tokio::spawn(answer.bytes()).await.unwrap().unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
    assert!((ms(395)..ms(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());

    let start = Instant::now();
    let error = get(&client, "/never").await.unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
    assert_eq!(
        error.to_string(),
        "api-client `stock`: no answer came within the time limit; the call may have been carried out"
    );
    assert!((ms(395)..ms(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let mut figures = 0;
    client.observe(&mut |_| figures += 1);
    assert!(figures > 0);
}

#[tokio::test]
async fn a_call_may_have_more_time_or_less() {
    let upstream = Upstream::start().await;
    upstream.on("/slow", Reply::ok("done").after(ms(300)));
    let client = limited(upstream.url(), 100);
    let answer = soon(client.get("/slow").timeout(ms(5000)).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    let client = limited(upstream.url(), 5000);
    let error = soon(client.get("/slow").timeout(ms(100)).send()).await.unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
    let answer = soon(client.get("/slow").timeout(Duration::MAX).send()).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
}

#[tokio::test]
async fn redirects_share_one_timeout() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(302).header("location", "/a").after(ms(100)));
    let client = limited(upstream.url(), 450);
    let start = Instant::now();
    let error = get(&client, "/a").await.unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
    assert!((ms(445)..ms(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_deadline_around_the_call_is_named_as_what_it_is() {
    let upstream = Upstream::start().await;
    upstream.on("/never", Reply::never());
    let client = limited(upstream.url(), 5000);
    let call = Deadline::after(ms(100)).scope(client.get("/never").send());
    assert_timed_out(&soon(call).await.unwrap_err(), "http", Reason::DeadlineExceeded, true);
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_knows_of_no_deadline_is_cut_off_all_the_same() {
    #[derive(Clone)]
    struct NeverReady;
    impl tower::Service<Request<Body>> for NeverReady {
        type Response = Response<Empty<Bytes>>;
        type Error = Error;
        type Future = Pending<Result<Self::Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Pending
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it is not ready")
        }
    }
    let never_answers = service_fn(|_: Request<Body>| pending::<Result<Response<Empty<Bytes>>, Error>>());
    let clients = [
        (builder("http://stock").build(NeverReady).unwrap(), false),
        (builder("http://stock").build(never_answers).unwrap(), true),
    ];
    for (client, sent) in clients {
        let start = Instant::now();
        let error = client.get("/").send().await.unwrap_err();
        assert_timed_out(&error, "api-client", Reason::TimedOut, sent);
        assert_eq!(start.elapsed().as_secs(), 30);
        let call = Deadline::after(ms(10)).scope(client.get("/").send());
        assert_timed_out(&call.await.unwrap_err(), "api-client", Reason::DeadlineExceeded, sent);
    }
}

/// A body that a layer made: endless and always there, or one that never comes.
struct Made {
    endless: bool,
}

impl http_body::Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        assert!(Deadline::current().is_some(), "a body sees the call's deadline");
        if self.endless { Poll::Ready(Some(Ok(http_body::Frame::data("x".into())))) } else { Poll::Pending }
    }
}

fn made(endless: bool) -> ApiClient {
    let answer = move |_: Request<Body>| async move { Ok::<_, Error>(Response::new(Made { endless })) };
    builder("http://stock").build(service_fn(answer)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn bodies_that_layers_make_are_cut_off_as_well() {
    let start = Instant::now();
    let error = made(false).get("/").send().await.unwrap().bytes().await.unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
    assert_eq!(start.elapsed().as_secs(), 30);

    let mut answer = made(true).get("/").send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "x");
    advance(ms(30_000)).await;
    let error = answer.chunk().await.unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
}

#[tokio::test]
async fn whatever_a_body_fails_with_the_call_was_sent() {
    let failing = |error: fn(Error) -> BoxError| {
        let answer = move |_: Request<Body>| async move {
            // Not sent, by its own word.
            let unsent = http().oneshot(Request::get("http://127.0.0.1:1/").body(Body::empty()).unwrap());
            let body = stream::iter([Err::<Frame<Bytes>, _>(error(unsent.await.unwrap_err()))]);
            Ok::<_, Error>(Response::new(StreamBody::new(body)))
        };
        builder("http://stock").build(service_fn(answer)).unwrap()
    };
    let rejected = failing(|_| Origin::new("bulkhead", "bodies").reject(Reason::Overloaded).into());
    let error = get(&rejected, "/").await.unwrap().bytes().await.unwrap_err();
    let rejected = error.rejected().expect("a layer's own");
    assert_eq!(
        (rejected.layer(), rejected.reason(), rejected.sent()),
        ("bulkhead", Reason::Overloaded, true)
    );
    let error = get(&failing(Into::into), "/").await.unwrap().bytes().await.unwrap_err();
    assert!(matches!(&error, ApiError::Call(Error::Body { .. })) && error.sent(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_circle_in_which_nothing_waits_ends_with_the_timeout() {
    let hops = AtomicUsize::new(0);
    let answer = move |_: Request<Body>| {
        assert!(hops.fetch_add(1, Ordering::Relaxed) <= 3000, "it does not end");
        // As if it had been at work that long.
        let _ = pin!(advance(ms(10))).now_or_never();
        let answer = Response::builder().status(302).header("location", "/a").body(String::new());
        ready(Ok::<_, Error>(answer.unwrap()))
    };
    let hop = Arc::new(answer);
    let stack = service_fn(move |request| hop(request));
    let client = builder("http://stock").redirects(usize::MAX).build(stack).unwrap();
    let error = client.get("/a").send().await.unwrap_err();
    assert_timed_out(&error, "api-client", Reason::TimedOut, true);
}
