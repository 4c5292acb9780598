use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_circuit_breaker::State;
use buttress_http::{ApiClient, Body, Error, HttpClient, ResponseBody, StatusClassifier};
use buttress_telemetry::{HttpClient as Convention, Registry};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    admission::Gate,
    error::StartError,
    layers::{Layers, Values},
    part::{Calling, Part},
};
use crate::{
    Config,
    config::{self, Wrong},
    explain,
};

/// An HTTP API behind its layers: a [`Service`] of `http::Request`. Clones are the same.
///
/// It is always ready: what it waits for, it waits for in the call. Requests name their host themselves; the base URL and the
/// credentials are [`System::http`](crate::System::http)'s.
#[derive(Clone)]
pub struct HttpService(Arc<Part<HttpClient<Body>, Convention, StatusClassifier>>);

/// The same with base URL and credentials.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) service: HttpService,
    pub(super) api: ApiClient,
}

impl HttpService {
    pub(super) fn new(
        name: &str,
        config: &Config,
        http: &config::Http,
        registry: &Registry,
        gate: &Gate,
    ) -> Result<Self, StartError> {
        let name = &format!("http.{name}");
        let wrong = |wrong: Wrong| StartError::wrong(name, &wrong);
        let values = Values::of_http(config, http).map_err(wrong)?;
        let client = http.client(name).map_err(wrong)?;
        let layers = Layers::new(name, registry, gate, Convention, StatusClassifier, values)?;
        let part = Part::new(name, client, StatusClassifier, layers);
        part.register(registry, &part.adapter.connections())?;
        Ok(Self(Arc::new(part)))
    }

    /// The client itself, past the layers.
    #[must_use]
    pub fn client(&self) -> &HttpClient<Body> {
        &self.0.adapter
    }

    /// The same with what the configuration says of the API's URL and credentials.
    pub(super) fn upstream(self, name: &str, http: &config::Http) -> Result<Upstream, Wrong> {
        let api = http.api(name)?.build(self.clone());
        let api = api.map_err(|invalid| Wrong::hidden("base_url", invalid.to_string()))?;
        Ok(Upstream { service: self, api })
    }

    /// It is no part of the system any more. Calls on their way end as they began, also those that are still to be repeated;
    /// its connections are closed with the last handle.
    pub(super) fn leave(&self, registry: &Registry) {
        self.0.leave(registry, &self.client().connections());
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.layers().breaker().is_some_and(|breaker| breaker.state() == State::Open)
    }

    pub(super) fn explained(&self) -> explain::Stack {
        self.0.explained(&self.client().connections())
    }

    /// Works by other values from here on.
    pub(super) fn change(&self, values: Values, registry: &Registry) {
        self.0.change(values, registry, &self.client().connections());
    }
}

impl Service<Request<Body>> for HttpService {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = RequestFuture;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> RequestFuture {
        RequestFuture { call: self.0.call(request) }
    }
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpService").field(self.client()).finish()
    }
}

pin_project! {
    /// A call of [`HttpService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct RequestFuture {
        #[pin]
        call: Calling<HttpClient<Body>, Convention, StatusClassifier, Request<Body>>,
    }
}

impl Future for RequestFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl fmt::Debug for RequestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture").finish_non_exhaustive()
    }
}
