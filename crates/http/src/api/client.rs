use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{Metric, Observe, Origin, Setting, SettingValue, WeakObserve};
use http::{HeaderMap, Method};

use super::{base::BaseUrl, builder::ApiBuilder, request::ApiRequest, stack::Stack};

/// A client for one API: see the [crate's page](crate#the-api-client).
///
/// Clones are cheap and share everything.
#[derive(Clone)]
pub struct ApiClient {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) base: BaseUrl,
    /// Of every request, credentials among them.
    pub(crate) headers: HeaderMap,
    pub(crate) timeout: Duration,
    pub(crate) redirects: usize,
    pub(crate) max_answer: usize,
    /// Whether `headers` ask for packed answers of this crate's own accord.
    pub(crate) unpack: bool,
    pub(crate) stack: Box<dyn Stack>,
}

impl ApiClient {
    /// Settings of a client. The name stands in its rejections and figures.
    pub fn builder(name: impl Into<String>) -> ApiBuilder {
        ApiBuilder::new(name.into())
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// A `GET` of a path below the base URL.
    pub fn get<'a>(&self, path: &'a str) -> ApiRequest<'a> {
        self.request(Method::GET, path)
    }

    /// A `HEAD` of a path below the base URL.
    pub fn head<'a>(&self, path: &'a str) -> ApiRequest<'a> {
        self.request(Method::HEAD, path)
    }

    /// A `POST` to a path below the base URL.
    pub fn post<'a>(&self, path: &'a str) -> ApiRequest<'a> {
        self.request(Method::POST, path)
    }

    /// A `PUT` to a path below the base URL.
    pub fn put<'a>(&self, path: &'a str) -> ApiRequest<'a> {
        self.request(Method::PUT, path)
    }

    /// A `PATCH` of a path below the base URL.
    pub fn patch<'a>(&self, path: &'a str) -> ApiRequest<'a> {
        self.request(Method::PATCH, path)
    }

    /// A `DELETE` of a path below the base URL.
    pub fn delete<'a>(&self, path: &'a str) -> ApiRequest<'a> {
        self.request(Method::DELETE, path)
    }

    /// A request of any method but `CONNECT`. The path is a template: `{name}` is a place for a
    /// [`param`](ApiRequest::param).
    pub fn request<'a>(&self, method: Method, path: &'a str) -> ApiRequest<'a> {
        ApiRequest::new(Arc::clone(&self.shared), method, path)
    }
}

/// The count of calls whose time was up.
impl Observe for ApiClient {
    fn origin(&self) -> Origin {
        self.shared.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.shared, |shared| Self { shared })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.shared.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let Shared { timeout, redirects, max_answer, .. } = &*self.shared;
        visit(Setting::new("timeout", SettingValue::Duration(*timeout)));
        visit(Setting::new("redirects", SettingValue::Count(*redirects as u64)));
        visit(Setting::new("max_answer", SettingValue::Count(*max_answer as u64)));
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { origin, base, .. } = &*self.shared;
        f.debug_struct("ApiClient")
            .field("origin", origin)
            .field("base", &format_args!("{}://{}", base.scheme(), base.authority()))
            .finish_non_exhaustive()
    }
}
