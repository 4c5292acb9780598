//! Streamed bodies under a whole stack.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use buttress_http::{ApiError, Body, Error, Idempotent, Multipart, Part, StatusClassifier};
use buttress_retry::RetryLayer;
use buttress_testkit::{Reply, Upstream};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::ServiceBuilder;

use crate::{builder, client, get, http, ms, soon};

/// A piece that knows how many bytes of its kind there are.
struct Counted {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len(), Relaxed);
    }
}

#[tokio::test]
async fn a_long_upload_passes_through_the_stack_in_little_memory() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::status(307).header("location", "/b"));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new("uploads").classify(StatusClassifier).requests(Idempotent))
        .service(http());
    let client = builder(upstream.url()).build(stack).unwrap();
    for (size, times) in [(100, 20_000), (16_384, 1024)] {
        let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (living, peak) = (Arc::clone(&alive), Arc::clone(&most));
        let pieces = (0..times).map(move |_| {
            peak.fetch_max(living.fetch_add(size, Relaxed) + size, Relaxed);
            Ok::<_, io::Error>(Bytes::from_owner(Counted {
                bytes: vec![b'x'; size],
                alive: Arc::clone(&living),
            }))
        });
        let answer = soon(client.put("/a").body(Body::stream(stream::iter(pieces))).send()).await.unwrap();
        assert_eq!(answer.status(), 307, "it was too long to be sent again");
        assert_eq!(upstream.requests().pop().unwrap().body.len(), size * times);
        // What is kept, and what hyper holds to be written.
        assert!(most.load(Relaxed) < 1 << 20, "{} of {}", most.load(Relaxed), size * times);
        assert_eq!(alive.load(Relaxed), 0);
    }
}

#[tokio::test]
async fn a_stream_that_panics_breaks_off_its_own_call_alone() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::ok("done"));
    let client = client(&upstream);
    for good in [0, 2] {
        let mut polled = 0;
        let stream = stream::poll_fn(move |_| {
            polled += 1;
            assert!(polled <= good, "a user's mistake");
            Poll::Ready(Some(Ok::<_, io::Error>("x")))
        });
        let error = soon(client.post("/a").body(Body::stream(stream)).send()).await.unwrap_err();
        assert!(matches!(&error, ApiError::Call(Error::Aborted { .. })) && error.sent(), "{error:?}");
        assert_eq!(get(&client, "/a").await.unwrap().text().await.unwrap(), "done");
    }
}

#[tokio::test]
async fn a_stream_that_its_answer_has_overtaken_ends_soon_after_the_calls_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.read_u8().await?;
        stream.write_all(b"HTTP/1.1 413 too much\r\ncontent-length: 5\r\n\r\nlarge").await?;
        // It takes all that comes nevertheless.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    });
    let http = http();
    let connections = http.connections();
    let client = builder(base).timeout(ms(300)).build(http).unwrap();
    let (alive, over) = tokio::sync::oneshot::channel::<()>();
    let endless = stream::unfold(alive, |alive| async {
        tokio::time::sleep(ms(10)).await;
        Some((Ok::<_, io::Error>("x"), alive))
    });
    let answer = soon(client.post("/").body(Body::stream(endless)).send()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &*answer.text().await.unwrap()), (413, "large"));
    assert!(tokio::time::timeout(ms(3000), over).await.expect("it is read for ever").is_err());
    for _ in 0..100 {
        if connections.open() == 0 {
            return;
        }
        tokio::time::sleep(ms(10)).await;
    }
    panic!("its connection is open");
}

/// It announces ten bytes.
struct Lying {
    pieces: Vec<&'static str>,
}

impl http_body::Body for Lying {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        Poll::Ready(self.pieces.pop().map(|piece| Ok(http_body::Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let left: usize = self.pieces.iter().map(|piece| piece.len()).sum();
        http_body::SizeHint::with_exact(if left == 0 { 0 } else { 10 })
    }
}

#[tokio::test]
async fn regression_38_a_body_that_is_not_as_long_as_it_announces_is_not_taken_for_a_whole_one() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::ok("done"));
    let client = client(&upstream);
    let longer = || Body::new(Lying { pieces: vec!["the end", "begin "] });
    let shorter = || Body::new(Lying { pieces: vec!["end"] });
    for body in [longer(), shorter()] {
        let error = soon(client.post("/a").body(body).send()).await.unwrap_err();
        assert!(matches!(&error, ApiError::Call(Error::Aborted { .. })) && error.sent(), "{error:?}");
    }
    for body in [longer(), shorter()] {
        let form = Multipart::new().part("scan", Part::new(body));
        let error = soon(client.post("/a").multipart(form).send()).await.unwrap_err();
        assert!(matches!(&error, ApiError::Call(Error::Aborted { .. })) && error.sent(), "{error:?}");
    }
    assert_eq!(upstream.requests().len(), 0);
}
