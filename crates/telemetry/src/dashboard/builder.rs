use std::{
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request, response::IntoResponse, routing::Route};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    feed::{Feed, Source},
    routes, serve,
};
use crate::{Alerts, Registry, Serving};

/// What guards the route by which an operator acts.
pub(super) type Guard = Arc<dyn Fn(Router) -> Router + Send + Sync>;

/// A live page of a [`Registry`]: its stacks, their figures as small charts, slow calls, alerts and health.
///
/// It reads and never writes, unless [`allow_control`](DashboardBuilder::allow_control) is given. Nothing runs while nobody
/// looks. Clones are the same dashboard.
#[derive(Clone)]
pub struct Dashboard {
    pub(super) feed: Arc<Feed>,
    pub(super) guard: Option<Guard>,
    pub(super) address: SocketAddr,
}

impl Dashboard {
    /// How often the page is refreshed at most, and how many look at it at most, can be set; the rest is given.
    pub fn builder(registry: &Registry) -> DashboardBuilder {
        DashboardBuilder {
            registry: registry.clone(),
            alerts: None,
            every: Duration::from_secs(1),
            max_viewers: 32,
            address: (Ipv4Addr::LOCALHOST, 9900).into(),
            guard: None,
        }
    }

    /// The routes, to be nested under any path: `app.nest("/dashboard", dashboard.router())`.
    ///
    /// | route | answers |
    /// |---|---|
    /// | `GET /` | the page |
    /// | `GET /snapshot.json` | all that is known now: `now`, `slow_calls`, `alerts` |
    /// | `GET /events` | the same as a stream of server-sent events, for the page |
    /// | `POST /act` | does what an operator may do to a layer; only with [`allow_control`](DashboardBuilder::allow_control) |
    ///
    /// Whoever reaches them reads names and figures of the whole program: put your own layers before them.
    pub fn router(&self) -> Router {
        routes::router(self)
    }

    /// Serves the page on an address of its own, 127.0.0.1:9900 by default, until the handle is dropped. The log says
    /// where it is.
    ///
    /// On a loopback address it answers only requests to `localhost` or a loopback address, so that a name that an
    /// attacker's DNS points at this machine does not reach it.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn serve(&self) -> io::Result<Serving> {
        serve::serve(self).await
    }

    /// Ends the streams of all who look, and lets nobody look any more. A server that shuts down gracefully waits for the
    /// end of every response, and that of a stream would never come: call this when the shutdown begins.
    pub fn close(&self) {
        self.feed.close();
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("address", &self.address)
            .field("control", &self.guard.is_some())
            .finish_non_exhaustive()
    }
}

/// Makes a [`Dashboard`]: from [`Dashboard::builder`].
#[must_use = "nothing is shown before `build` and `router` or `serve`"]
pub struct DashboardBuilder {
    registry: Registry,
    alerts: Option<Source>,
    every: Duration,
    max_viewers: usize,
    address: SocketAddr,
    guard: Option<Guard>,
}

impl DashboardBuilder {
    /// Shows these alerts.
    pub fn alerts(self, alerts: &Alerts) -> Self {
        let alerts = alerts.clone();
        self.alerts_from(move || serde_json::to_value(alerts.active()).unwrap_or_default())
    }

    /// Shows alerts from elsewhere: an array of objects with `rule`, `instance`, `severity` (`warning`, `critical`), `status`
    /// (`pending`, `firing`), `since` in milliseconds of Unix time, and `summary`. It is asked for every frame and must not
    /// block.
    pub fn alerts_from(mut self, alerts: impl Fn() -> serde_json::Value + Send + Sync + 'static) -> Self {
        self.alerts = Some(Box::new(alerts));
        self
    }

    /// How often the figures are read while somebody looks. From 100 ms to 30 s; 1 s by default.
    pub const fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// How many may look at the same time. Who comes later is told to try again (503). 32 by default.
    ///
    /// Who takes nothing for two minutes loses the place: a browser that is there after all connects again.
    pub const fn max_viewers(mut self, viewers: usize) -> Self {
        self.max_viewers = viewers;
        self
    }

    /// Where [`serve`](Dashboard::serve) listens. 127.0.0.1:9900 by default.
    pub fn address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Lets whom this layer lets through act on layers, such as forcing a breaker open. Any layer that fits on an axum
    /// route will do; it should answer 401 or 403 to everybody else. Basic authentication and cookies work in a browser
    /// without further ado.
    ///
    /// A request has to come from the page itself: neither a form nor a script of another site can act with the rights of
    /// somebody who is logged in here. Every action is a `tracing` event of the level `WARN`.
    ///
    /// The layer guards only that. Who may read is up to the layers that you put before the whole
    /// [`router`](Dashboard::router).
    pub fn allow_control<L>(mut self, authorisation: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.guard = Some(Arc::new(move |router: Router| router.route_layer(authorisation.clone())));
        self
    }

    /// The dashboard.
    ///
    /// # Errors
    /// When [`every`](Self::every) or [`max_viewers`](Self::max_viewers) is out of bounds.
    pub fn build(self) -> Result<Dashboard, InvalidDashboard> {
        if self.every < Duration::from_millis(100) || self.every > Duration::from_secs(30) {
            return Err(InvalidDashboard::Every(self.every));
        }
        if self.max_viewers == 0 || self.max_viewers > 10_000 {
            return Err(InvalidDashboard::MaxViewers(self.max_viewers));
        }
        let control = self.guard.is_some();
        let feed = Feed::new(self.registry, self.alerts, self.every, self.max_viewers, control);
        Ok(Dashboard { feed: Arc::new(feed), guard: self.guard, address: self.address })
    }
}

impl fmt::Debug for DashboardBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DashboardBuilder")
            .field("every", &self.every)
            .field("max_viewers", &self.max_viewers)
            .field("address", &self.address)
            .field("control", &self.guard.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a dashboard cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidDashboard {
    /// It cannot be refreshed that often, or that seldom.
    Every(Duration),
    /// That many cannot look at it.
    MaxViewers(usize),
}

impl fmt::Display for InvalidDashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => {
                write!(f, "a dashboard is refreshed every 100 ms to 30 s, not every {every:?}")
            }
            Self::MaxViewers(viewers) => {
                write!(f, "1 to 10000 viewers may look at a dashboard, not {viewers}")
            }
        }
    }
}

impl std::error::Error for InvalidDashboard {}
