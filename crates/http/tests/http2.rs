//! Bodies over HTTP/2, where many requests share a connection.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use buttress_core::BoxError;
use buttress_http::{Body, HttpClient, Idempotent, Roots, StatusClassifier};
use buttress_retry::RetryLayer;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use support::{authority::Authority, ms, server};
use tokio::{sync::mpsc, time::Instant};
use tower::{Layer, ServiceExt};

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// A server that answers by this function, and a client that trusts it.
async fn https<F, Fut>(answer: F) -> (String, HttpClient<Body>)
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Answer>> + Send + 'static,
{
    let authority = Authority::new();
    let acceptor = authority.acceptor_with("localhost", None, &[b"h2"]);
    let addr = server(move |stream, _| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let stream = TokioIo::new(acceptor.accept(stream).await?);
            let serve = service_fn(move |request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            // A client that goes away is no failure of the test.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, serve).await;
            Ok(())
        }
    })
    .await;
    let client =
        HttpClient::builder().roots(Roots::Given).root_certificates(authority.pem()).build().unwrap();
    (format!("https://localhost:{}/", addr.port()), client)
}

#[tokio::test]
async fn an_early_refusal_leaves_stream_and_trailers_to_the_next_attempt_on_the_same_connection() {
    let (send_received, mut received) = mpsc::unbounded_channel();
    let calls = Arc::new(AtomicUsize::new(0));
    let (url, client) = https(move |request| {
        let (received, number) = (send_received.clone(), calls.fetch_add(1, Relaxed));
        async move {
            let mut answer = Response::new(Answer::default());
            if number == 0 {
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            } else {
                let body = request.into_body().collect().await.unwrap();
                let trailers = body.trailers().cloned();
                received.send((body.to_bytes(), trailers)).unwrap();
            }
            answer
        }
    })
    .await;
    let (send, receive) = mpsc::channel(8);
    let frames = stream::unfold(receive, async |mut receive: mpsc::Receiver<Frame<Bytes>>| {
        receive.recv().await.map(|frame| (Ok::<_, BoxError>(frame), receive))
    });
    let request = Request::put(url).body(Body::new(StreamBody::new(frames))).unwrap();
    let layer = RetryLayer::new("http2").classify(StatusClassifier).requests(Idempotent);
    let call = tokio::spawn(layer.layer(client.clone()).oneshot(request));
    send.send(Frame::data(Bytes::from("first "))).await.unwrap();
    tokio::time::sleep(ms(300)).await;
    send.send(Frame::data(Bytes::from("second"))).await.unwrap();
    let trailers = HeaderMap::from_iter([(http::header::ETAG, "\"7\"".parse().unwrap())]);
    send.send(Frame::trailers(trailers.clone())).await.unwrap();
    drop(send);
    let response = call.await.unwrap().unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    assert_eq!(received.recv().await.unwrap(), (Bytes::from("first second"), Some(trailers)));
    assert_eq!(client.connections().opened(), 1);
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_resets_its_stream_at_once() {
    let (told, mut dropped) = mpsc::unbounded_channel();
    let (url, client) = https(move |_| {
        let told = Told(told.clone());
        async move {
            let endless = stream::repeat(()).then(move |()| {
                let _told = &told;
                async {
                    tokio::time::sleep(ms(5)).await;
                    Ok(Frame::data(Bytes::from_static(b"more")))
                }
            });
            Response::new(UnsyncBoxBody::new(StreamBody::new(endless)))
        }
    })
    .await;
    let request = || Request::get(&url).body(Body::empty()).unwrap();
    let response = client.clone().oneshot(request()).await.unwrap();
    let start = Instant::now();
    drop(response);
    dropped.recv().await.unwrap();
    assert!(start.elapsed() < ms(200), "{:?}", start.elapsed());
    drop(client.clone().oneshot(request()).await.unwrap());
    assert_eq!(client.connections().opened(), 1);
}
