use std::{fmt, future::poll_fn, pin::pin};

use bytes::Buf;
use http::{Request, Response, StatusCode, Uri, header::USER_AGENT};
use http_body::Body;
use http_body_util::BodyExt;
use tower_service::Service;

use super::{Kind, Probe, status};
use crate::Cause;

/// Enough of an answer to read all of what a health endpoint says, so that the connection can be used again.
const MOST_OF_BODY: usize = 64 * 1024;

impl Probe {
    /// Sends `GET` through a clone of this service, such as `buttress_http::HttpClient`. A status of 2xx is well. Redirects are
    /// not followed. Of the body 64 KiB are read, so that the connection can be used again, and thrown away; one that breaks off
    /// before that, or does not come in time, is a failure.
    ///
    /// The error of the service is shown as the cause: that of `HttpClient` names the host alone.
    ///
    /// ```
    /// # use buttress_health::Probe;
    /// use buttress_http::HttpClient;
    /// use http_body_util::Empty;
    ///
    /// let client = HttpClient::builder().name("stock").build::<Empty<&[u8]>>()?;
    /// let probe = Probe::http(client, "http://stock.internal/healthz")?;
    /// # drop(probe);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If that is no URI.
    pub fn http<S, B, R>(
        service: S,
        uri: impl TryInto<Uri, Error: Into<http::Error>>,
    ) -> Result<Self, http::Error>
    where
        S: Service<Request<B>, Response = Response<R>, Error: fmt::Display, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Default + Send + 'static,
        R: Body<Data: Send, Error: fmt::Display> + Send + 'static,
    {
        Self::http_expecting(service, uri, |status| status.is_success())
    }

    /// The same, well with the statuses for which this function says so.
    ///
    /// # Errors
    /// If that is no URI.
    pub fn http_expecting<S, B, R>(
        service: S,
        uri: impl TryInto<Uri, Error: Into<http::Error>>,
        is_expected: impl Fn(StatusCode) -> bool + Clone + Send + 'static,
    ) -> Result<Self, http::Error>
    where
        S: Service<Request<B>, Response = Response<R>, Error: fmt::Display, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Default + Send + 'static,
        R: Body<Data: Send, Error: fmt::Display> + Send + 'static,
    {
        let uri = uri.try_into().map_err(Into::into)?;
        Ok(Self::of(Kind::Component, move || {
            let (service, uri, is_expected) = (service.clone(), uri.clone(), is_expected.clone());
            async move {
                status(match ask(service, uri).await {
                    Ok(code) if is_expected(code) => Ok(()),
                    Ok(code) => Err(Cause::new(format_args!("it answered {code}"))),
                    Err(cause) => Err(cause),
                })
            }
        }))
    }
}

async fn ask<S, B, R>(mut service: S, uri: Uri) -> Result<StatusCode, Cause>
where
    S: Service<Request<B>, Response = Response<R>, Error: fmt::Display>,
    B: Default,
    R: Body<Error: fmt::Display>,
{
    let mut request = Request::new(B::default());
    *request.uri_mut() = uri;
    request.headers_mut().insert(USER_AGENT, http::HeaderValue::from_static("buttress-health"));
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(Cause::new)?;
    let response = service.call(request).await.map_err(Cause::new)?;
    let code = response.status();
    let mut body = pin!(response.into_body());
    let mut room = MOST_OF_BODY;
    while let Some(frame) = body.frame().await {
        // One at least: frames of nothing could go on for ever, and never let the timeout have its turn.
        let length = frame.map_err(Cause::new)?.data_ref().map_or(1, |data| data.remaining().max(1));
        let Some(left) = room.checked_sub(length) else { break };
        room = left;
    }
    Ok(code)
}
