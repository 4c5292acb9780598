#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Reason, Rejectable, Rejected};
use buttress_http_cache::{HttpCache, HttpCached, Kind, ResponseBody};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, request, response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt};

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;
pub(crate) type Cached = HttpCached<Origin>;
pub(crate) type Got = Response<ResponseBody<UnsyncBoxBody<Bytes, io::Error>>>;

type Answering = Arc<
    dyn Fn(request::Parts, usize) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>
        + Send
        + Sync,
>;

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Away(&'static str),
    Rejected(Rejected),
}

impl From<&'static str> for Failure {
    fn from(why: &'static str) -> Self {
        Self::Away(why)
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Failure {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Away(_) => None,
            Self::Rejected(rejected) => Some(rejected),
        }
    }
}

/// A refusal of a layer that the origin is behind.
pub(crate) fn refused() -> Failure {
    buttress_core::Origin::new("circuit-breaker", "b").reject(Reason::CircuitOpen).into()
}

/// An origin in this process: it answers by a function of the request and its number, from 0.
#[derive(Clone)]
pub(crate) struct Origin {
    seen: Arc<Mutex<Vec<request::Parts>>>,
    answer: Answering,
}

impl Origin {
    pub(crate) fn new<F>(answer: impl Fn(request::Parts, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Answer, Failure>> + Send + 'static,
    {
        Self {
            seen: Arc::default(),
            answer: Arc::new(move |request, number| Box::pin(answer(request, number))),
        }
    }

    /// The same head each time; the body says the number of the request.
    pub(crate) fn always(headers: &'static [(&'static str, &'static str)]) -> Self {
        Self::new(move |_, number| async move { Ok(numbered(headers, number)) })
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<request::Parts> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> request::Parts {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Answer;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let (head, _) = request.into_parts();
        let mut seen = self.seen.lock().unwrap();
        let number = seen.len();
        seen.push(head.clone());
        drop(seen);
        (self.answer)(head, number)
    }
}

pub(crate) fn numbered(headers: &[(&str, &str)], number: usize) -> Answer {
    response(200, headers, format!("answer {number}"))
}

pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    with_body(status, headers, body.boxed_unsync())
}

pub(crate) fn with_body(
    status: u16,
    headers: &[(&str, &str)],
    body: UnsyncBoxBody<Bytes, io::Error>,
) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

/// A body that arrives as it is sent.
pub(crate) struct Streamed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, io::Error>>);

pub(crate) type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, io::Error>>;

pub(crate) fn streamed() -> (Sender, UnsyncBoxBody<Bytes, io::Error>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Streamed(receiver).boxed_unsync())
}

pub(crate) fn part(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx)
    }
}

pub(crate) fn shared() -> HttpCache {
    HttpCache::builder("c", Kind::Shared).build()
}

pub(crate) fn private() -> HttpCache {
    HttpCache::builder("c", Kind::Private).build()
}

pub(crate) fn behind(cache: &HttpCache, origin: &Origin) -> Cached {
    cache.layer().layer(origin.clone())
}

pub(crate) fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

pub(crate) const URI: &str = "http://origin.example/thing";

/// The answer to a request for [`URI`], read to its end.
pub(crate) struct Read {
    pub(crate) head: response::Parts,
    pub(crate) body: String,
}

impl Read {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn cache_status(&self) -> &str {
        self.field("cache-status").unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }
}

pub(crate) async fn read(response: Got) -> Read {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Read { head, body: String::from_utf8(body.into()).unwrap() }
}

pub(crate) async fn ask(cached: &Cached, method: &str, headers: &[(&str, &str)]) -> Read {
    ask_for(cached, method, URI, headers).await
}

pub(crate) async fn ask_for(cached: &Cached, method: &str, uri: &str, headers: &[(&str, &str)]) -> Read {
    read(cached.clone().oneshot(request(method, uri, headers)).await.unwrap()).await
}

pub(crate) async fn get(cached: &Cached) -> Read {
    ask(cached, "GET", &[]).await
}

pub(crate) async fn seconds(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

/// Lets all tasks run as far as they can.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
