use std::{fmt, time::Duration};

use buttress_core::{BoxError, Origin};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::{
    base::BaseUrl,
    client::{ApiClient, Shared},
    error::ApiError,
    headers,
    setting::InvalidSetting,
    stack::{ACCEPTED, Held},
};
use crate::{idempotency_key::IdempotencyKey, request_body::Body};

/// Settings of an [`ApiClient`], made by [`ApiClient::builder`].
///
/// A setting that is wrong is kept and said by [`build`](Self::build).
#[must_use = "a builder does nothing unless built"]
pub struct ApiBuilder {
    name: String,
    base: Option<BaseUrl>,
    headers: HeaderMap,
    timeout: Duration,
    redirects: usize,
    max_answer: usize,
    wrong: Option<InvalidSetting>,
}

impl ApiBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            base: None,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(30),
            redirects: 10,
            max_answer: 10 * 1024 * 1024,
            wrong: None,
        }
    }

    /// The URL that all paths are below: absolute, `http` or `https`, without userinfo, query and fragment.
    pub fn base_url(mut self, url: impl AsRef<str>) -> Self {
        match BaseUrl::parse(url.as_ref()) {
            Ok(base) => self.base = Some(base),
            Err(error) => self.note(error),
        }
        self
    }

    /// Sends a token with every request (RFC 6750). It takes the place of [`basic`](Self::basic).
    pub fn bearer(self, token: impl AsRef<str>) -> Self {
        self.set(headers::bearer(token.as_ref()))
    }

    /// Sends a user's name and password with every request (RFC 7617, in UTF-8). It takes the place of
    /// [`bearer`](Self::bearer).
    pub fn basic(self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.set(headers::basic(user.as_ref(), password.as_ref()))
    }

    /// Sends a header that holds a secret with every request: an API's key.
    pub fn credential_header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.set(headers::credential(name, value))
    }

    /// Sends a header with every request. It takes the place of one of the same name.
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.set(headers::header(name, value))
    }

    /// How long a call may take, from its first poll to the last byte of its answer that is read. 30 s by default;
    /// `Duration::MAX` is 30 years.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How many redirects are followed in a call; 0 follows none. 10 by default.
    pub fn redirects(mut self, limit: usize) -> Self {
        self.redirects = limit;
        self
    }

    /// How many bytes of an answer `bytes`, `text` and `json` read at most, after unpacking. 10 MiB by default.
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// Makes the client around a service: an [`HttpClient`](crate::HttpClient), layers around one, or a balancer over
    /// several. Its error is [`Error`](crate::Error), `BoxError`, or whatever else becomes an [`ApiError`].
    ///
    /// # Errors
    /// For the first setting that is wrong, for a base URL that is missing, and for a timeout of zero.
    pub fn build<S, B>(self, service: S) -> Result<ApiClient, InvalidSetting>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<ApiError>,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let base = self.base.ok_or_else(|| InvalidSetting::new("base_url", "it is missing"))?;
        check_timeout(self.timeout)?;
        let mut headers = self.headers;
        let as_it_comes =
            headers.contains_key(header::ACCEPT_ENCODING) || headers.contains_key(header::RANGE);
        let unpack = !ACCEPTED.is_empty() && !as_it_comes;
        if unpack {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        Ok(ApiClient::new(Shared {
            origin: Origin::new("api-client", &self.name),
            base,
            headers,
            timeout: self.timeout,
            redirects: self.redirects,
            max_answer: self.max_answer,
            unpack,
            stack: Box::new(Held(service)),
        }))
    }

    fn set(mut self, header: Result<(HeaderName, HeaderValue), InvalidSetting>) -> Self {
        match header {
            Ok((name, _)) if name == IdempotencyKey::HEADER => self.note(InvalidSetting::new(
                "header `idempotency-key`",
                "each call has one of its own, or the server takes all of them for the same",
            )),
            Ok((name, value)) => {
                self.headers.insert(name, value);
            }
            Err(error) => self.note(error),
        }
        self
    }

    fn note(&mut self, error: InvalidSetting) {
        self.wrong.get_or_insert(error);
    }
}

pub(crate) fn check_timeout(limit: Duration) -> Result<(), InvalidSetting> {
    if limit.is_zero() {
        return Err(InvalidSetting::new("timeout", "a limit of zero lets nothing through"));
    }
    Ok(())
}

impl fmt::Debug for ApiBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiBuilder")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("redirects", &self.redirects)
            .field("max_answer", &self.max_answer)
            .field("wrong", &self.wrong)
            .finish_non_exhaustive()
    }
}
