//! The limits on answers, where many calls share one connection of HTTP/2.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_http::{Builder, Error, HttpClient};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use support::{authority::Authority, build, call, get, ms, read, server, text};

/// A body of so many pieces of 1 KiB, and then nothing.
struct Pieces(usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Pending };
        self.0 = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))))
    }
}

/// Answers `/`, is silent at `/silent`, stops at `/stops` and does not end at `/endless`.
async fn serve(request: Request<Incoming>) -> Result<Response<Either<Full<Bytes>, Pieces>>, Infallible> {
    let body = match request.uri().path() {
        "/silent" => std::future::pending().await,
        "/deaf" => {
            // The request's body is held and never read, so no window is opened.
            let _held = request;
            std::future::pending().await
        }
        "/stops" => Either::Right(Pieces(1)),
        "/endless" => Either::Right(Pieces(usize::MAX)),
        _ => Either::Left(Full::from("hello")),
    };
    Ok(Response::new(body))
}

async fn https(authority: &Authority) -> SocketAddr {
    let acceptor = authority.acceptor_with("localhost", None, &[b"h2"]);
    server(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let stream = TokioIo::new(acceptor.accept(stream).await?);
            // A client that goes away is no failure of the test.
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(serve)).await;
            Ok(())
        }
    })
    .await
}

async fn started(knobs: impl Fn(Builder) -> Builder) -> (support::Client, String) {
    let authority = Authority::new();
    let addr = https(&authority).await;
    let client = build(knobs(HttpClient::builder().root_certificates(authority.pem())));
    let url = format!("https://localhost:{}", addr.port());
    let response = call(&client, get(&url)).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(read(response.into_body()).await.unwrap(), "hello");
    (client, url)
}

#[tokio::test]
async fn each_limit_ends_its_own_call_and_the_connection_serves_the_others() {
    let (client, url) = started(|builder| {
        builder.first_byte_timeout(ms(150)).read_timeout(ms(150)).max_response_body(50_000)
    })
    .await;
    let error = text(&client, &format!("{url}/silent")).await.unwrap_err();
    assert!(matches!(error, Error::FirstByteTimeout { .. }) && error.sent(), "{error:?}");
    let error = text(&client, &format!("{url}/stops")).await.unwrap_err();
    assert!(matches!(error, Error::ReadTimeout { .. }) && error.sent(), "{error:?}");
    let error = text(&client, &format!("{url}/endless")).await.unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { limit: 50_000, .. }), "{error:?}");
    assert_eq!(text(&client, &url).await.unwrap(), "hello");
    assert_eq!(client.connections().opened(), 1);
}

#[tokio::test]
async fn an_upload_for_which_the_server_opens_no_window_is_given_up() {
    let (client, url) = started(|builder| builder.first_byte_timeout(ms(200))).await;
    let upload = Full::from(vec![0; 16 << 20]);
    let request = Request::post(format!("{url}/deaf")).body(upload).unwrap();
    let error = call(&client, request).await.unwrap_err();
    assert!(matches!(error, Error::FirstByteTimeout { .. }) && error.sent(), "{error:?}");
    assert_eq!(text(&client, &url).await.unwrap(), "hello", "its stream alone is reset");
    assert_eq!(client.connections().opened(), 1);
}

/// A body that is handed on has its own limits, and dropping it unread resets its stream alone.
#[tokio::test]
async fn a_body_dropped_at_its_limit_leaves_the_connection_to_the_others() {
    let (client, url) = started(|builder| builder.max_response_body(2_000)).await;
    let mut body = call(&client, get(&format!("{url}/endless"))).await.unwrap().into_body();
    while let Some(Ok(_)) = body.frame().await {}
    drop(body);
    assert_eq!(text(&client, &url).await.unwrap(), "hello");
    assert_eq!(client.connections().opened(), 1);
}
