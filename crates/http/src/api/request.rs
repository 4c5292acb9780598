use std::{
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;

use super::{
    builder::check_timeout, client::Shared, headers, path::Params, redirect::Route, sending::Sending,
    setting::InvalidSetting,
};
use crate::{idempotency_key::IdempotencyKey, multipart::Multipart, request_body::Body};

/// A call that is being put together, made by [`ApiClient::get`](crate::ApiClient::get) and its like.
///
/// What is given wrong is kept, and said by [`send`](Self::send).
#[must_use = "a request does nothing unless sent"]
pub struct ApiRequest<'a> {
    client: Arc<Shared>,
    method: Method,
    path: &'a str,
    params: Params<'a>,
    query: String,
    headers: HeaderMap,
    extensions: Extensions,
    content_type: ContentType,
    body: Body,
    timeout: Duration,
    credentials: bool,
    wrong: Option<InvalidSetting>,
}

/// What the setter of the body says of it.
enum ContentType {
    Unsaid,
    Usual(&'static str),
    /// Without its boundary, nobody could read the body.
    Form(HeaderValue),
}

impl<'a> ApiRequest<'a> {
    pub(crate) fn new(client: Arc<Shared>, method: Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            params: Params::default(),
            query: String::new(),
            headers: HeaderMap::new(),
            extensions: Extensions::new(),
            content_type: ContentType::Unsaid,
            body: Body::empty(),
            timeout: client.timeout,
            credentials: true,
            wrong: None,
            client,
        }
    }

    /// Fills the path's place `{name}`, percent-encoded.
    pub fn param(mut self, name: &'a str, value: impl Display) -> Self {
        let pushed = self.params.push(name, &value);
        self.check(pushed);
        self
    }

    /// Appends to the query: a struct with named fields, a map, or a list of pairs.
    pub fn query(mut self, query: &(impl Serialize + ?Sized)) -> Self {
        match serde_urlencoded::to_string(query) {
            Ok(more) => {
                if !self.query.is_empty() && !more.is_empty() {
                    self.query.push('&');
                }
                self.query.push_str(&more);
            }
            Err(error) => {
                self.note(InvalidSetting::new("query", "it is no list of names and values").because(error));
            }
        }
        self
    }

    /// Sets a header. It takes the place of the client's, or an earlier one, of the same name.
    pub fn header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.set(headers::header(name, value))
    }

    /// Gives the layers something along with the request, and with those of its redirects, such as the template of its path
    /// for `buttress_telemetry`. It is not sent.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.extensions.insert(extension);
        self
    }

    /// Sends this token, instead of what the client has in `authorization`.
    pub fn bearer(self, token: impl AsRef<str>) -> Self {
        self.set(headers::bearer(token.as_ref()))
    }

    /// Sends this user's name and password, instead of what the client has in `authorization`.
    pub fn basic(self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.set(headers::basic(user.as_ref(), password.as_ref()))
    }

    /// Sets a header that holds a secret.
    pub fn credential_header<N, V>(self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        self.set(headers::credential(name, value))
    }

    /// Sends none of the client's credentials. Those that are given to this call are sent.
    pub fn no_credentials(mut self) -> Self {
        self.credentials = false;
        self
    }

    /// Sends an `Idempotency-Key`, by which the server knows a repeated call as the same: an [`IdempotencyKey`], or the
    /// text of one, 1 to 255 characters of printable ASCII. With one, a retry by [`Idempotent`](crate::Idempotent) repeats a
    /// call of any method. It is a secret: see the [crate's page](crate#credentials).
    ///
    /// It is sent in quotes, as [`IdempotencyKey::try_new`] writes it; for a server that wants it bare, there is
    /// [`credential_header`](Self::credential_header).
    pub fn idempotency_key(self, key: impl TryInto<IdempotencyKey>) -> Self {
        let key = key.try_into().map_err(|_| {
            InvalidSetting::new("idempotency_key", "it must be 1 to 255 characters of printable ASCII")
        });
        self.set(key.map(|key| (IdempotencyKey::HEADER, key.into())))
    }

    /// How long this call may take, instead of the client's timeout: shorter or longer.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        let checked = check_timeout(limit);
        self.check(checked);
        self
    }

    /// Sends a body: bytes, text, or a [`Body`]. Of the setters of a body the last one counts.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self.content_type = ContentType::Unsaid;
        self
    }

    /// Sends a value as JSON. Its `content-type` takes the place of the client's, not of this call's own.
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => {
                self.body = json.into();
                self.content_type = ContentType::Usual("application/json");
            }
            Err(error) => {
                self.note(InvalidSetting::new("json", "the value cannot be written as JSON").because(error));
            }
        }
        self
    }

    /// Sends a value as a form: a struct with named fields, a map, or a list of pairs. As for the `content-type`, see
    /// [`json`](Self::json).
    pub fn form(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_urlencoded::to_string(value) {
            Ok(form) => {
                self.body = form.into();
                self.content_type = ContentType::Usual("application/x-www-form-urlencoded");
            }
            Err(error) => {
                self.note(InvalidSetting::new("form", "it is no list of names and values").because(error));
            }
        }
        self
    }

    /// Sends a form of several parts, files among them. Its `content-type`, which tells the boundary, takes the place of
    /// any other.
    pub fn multipart(mut self, form: Multipart) -> Self {
        self.content_type = ContentType::Form(form.content_type());
        self.body = form.into_body();
        self
    }

    /// Sends it when the future is polled. The future borrows nothing and can be spawned. Whatever the status is, an
    /// answer is `Ok`.
    ///
    /// # Errors
    /// [`ApiError::Invalid`](crate::ApiError::Invalid) for the first mistake in this request; what the stack gives up
    /// with; a [`Rejected`](buttress_core::Rejected) of layer `api-client` when the time is up.
    pub fn send(self) -> Sending {
        match self.compose() {
            Ok((client, route, body, timeout)) => Sending::new(client, route, body, timeout),
            Err(error) => Sending::refused(error.into()),
        }
    }

    fn compose(mut self) -> Result<(Arc<Shared>, Route, Body, Duration), InvalidSetting> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        if self.method == Method::CONNECT {
            return Err(InvalidSetting::new("method", "CONNECT is for proxies"));
        }
        let uri = self.client.base.join(self.path, &mut self.params, &self.query)?;
        match self.content_type {
            ContentType::Unsaid => {}
            ContentType::Usual(usual) => {
                self.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(usual));
            }
            ContentType::Form(form) => {
                self.headers.insert(header::CONTENT_TYPE, form);
            }
        }
        let copy = if self.client.redirects == 0 { None } else { self.body.try_clone() };
        let left = self.client.redirects;
        let route = Route::new(self.method, uri, self.headers, self.extensions, self.credentials, copy, left);
        Ok((self.client, route, self.body, self.timeout))
    }

    fn set(mut self, header: Result<(HeaderName, HeaderValue), InvalidSetting>) -> Self {
        match header {
            Ok((name, value)) => {
                self.headers.insert(name, value);
            }
            Err(error) => self.note(error),
        }
        self
    }

    fn check(&mut self, checked: Result<(), InvalidSetting>) {
        if let Err(error) = checked {
            self.note(error);
        }
    }

    fn note(&mut self, error: InvalidSetting) {
        self.wrong.get_or_insert(error);
    }
}

/// Neither path, query, headers nor body: each may hold a secret.
impl fmt::Debug for ApiRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiRequest")
            .field("client", &self.client.origin)
            .field("method", &self.method)
            .field("timeout", &self.timeout)
            .field("wrong", &self.wrong)
            .finish_non_exhaustive()
    }
}
