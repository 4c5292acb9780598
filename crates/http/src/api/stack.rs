use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::BoxError;
use bytes::Bytes;
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::error::ApiError;
use crate::request_body::Body;

/// The body of an answer, whatever the layers made of it.
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) type Calling = Pin<Box<dyn Call>>;

pub(crate) trait Call: Future<Output = Result<Response<AnyBody>, ApiError>> + Send {
    /// Whether the service was ready and has been given the request.
    fn is_made(&self) -> bool;
}

pin_project! {
    struct OfService<S, F> {
        unpack: bool,
        #[pin]
        state: State<S, F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F> {
        // Until the service is ready. The request is taken as it is called.
        Waiting { service: S, request: Option<Request<Body>> },
        Made { #[pin] future: F },
    }
}

/// The user's service without its type. One box for each call, instead of one for each layer's clone and future.
pub(crate) trait Stack: Send + Sync {
    /// Nothing happens before it is polled.
    fn call(&self, request: Request<Body>, unpack: bool) -> Calling;
}

pub(crate) struct Held<S>(pub(crate) S);

impl<S, B> Stack for Held<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<ApiError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn call(&self, request: Request<Body>, unpack: bool) -> Calling {
        let service = self.0.clone();
        Box::pin(OfService { unpack, state: State::Waiting { service, request: Some(request) } })
    }
}

impl<S, B> Call for OfService<S, S::Future>
where
    S: Service<Request<Body>, Response = Response<B>> + Send,
    S::Error: Into<ApiError>,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn is_made(&self) -> bool {
        !matches!(self.state, State::Waiting { request: Some(_), .. })
    }
}

impl<S, B> Future for OfService<S, S::Future>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<ApiError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<AnyBody>, ApiError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProj::Waiting { service, request } = this.state.as_mut().project() {
            ready!(service.poll_ready(cx)).map_err(Into::into)?;
            let request = request.take().expect("no service is called twice");
            // Here and not before, the call's deadline is the current one.
            let future = service.call(request.map(Body::until_the_call_is_over));
            this.state.set(State::Made { future });
        }
        let StateProj::Made { future } = this.state.project() else { unreachable!("it was just made") };
        let response = ready!(future.poll(cx)).map_err(Into::into)?;
        Poll::Ready(Ok(if *this.unpack { unpacked(response) } else { response.map(boxed) }))
    }
}

fn boxed<B>(body: B) -> AnyBody
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    UnsyncBoxBody::new(body.map_err(Into::into))
}

/// What is asked for by `accept-encoding`, best first.
pub(crate) const ACCEPTED: &str =
    match (cfg!(feature = "zstd"), cfg!(feature = "brotli"), cfg!(feature = "gzip")) {
        (true, true, true) => "zstd, br, gzip",
        (true, true, false) => "zstd, br",
        (true, false, true) => "zstd, gzip",
        (true, false, false) => "zstd",
        (false, true, true) => "br, gzip",
        (false, true, false) => "br",
        (false, false, true) => "gzip",
        (false, false, false) => "",
    };

/// What it was packed by, as tower-http spells it. Of several codings, one upon the other, it knows nothing and would take
/// off the first.
#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
fn coding(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut given = headers.get_all(CONTENT_ENCODING).iter();
    let (Some(coding), None) = (given.next(), given.next()) else { return None };
    let known = [("gzip", "gzip"), ("x-gzip", "gzip"), ("br", "br"), ("zstd", "zstd")];
    let known =
        known.into_iter().find(|(name, _)| coding.as_bytes().eq_ignore_ascii_case(name.as_bytes()))?;
    Some(HeaderValue::from_static(known.1))
}

#[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
fn unpacked<B>(mut response: Response<B>) -> Response<AnyBody>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    use std::task::Waker;

    use tower_http::decompression::Decompression;

    let Some(coding) = coding(response.headers()) else { return response.map(boxed) };
    #[cfg(feature = "zstd")]
    let is_zstd = coding == "zstd";
    response.headers_mut().insert(CONTENT_ENCODING, coding);
    let response = response.map(boxed);
    #[cfg(feature = "zstd")]
    let response =
        if is_zstd { response.map(|body| boxed(super::zstd_window::Narrow::new(body))) } else { response };
    // Called with an answer that is there already: the decoders are made for what is packed alone, and the layers'
    // answers go through no further future.
    let mut given = Some(response);
    let give = tower::service_fn(|_: Request<()>| std::future::ready(given.take().ok_or(())));
    let call = std::pin::pin!(Decompression::new(give).call(Request::new(())));
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.map(boxed),
        _ => unreachable!("a service that is ready answers at once"),
    }
}

#[cfg(not(any(feature = "gzip", feature = "brotli", feature = "zstd")))]
fn unpacked<B>(response: Response<B>) -> Response<AnyBody>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    response.map(boxed)
}
