use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, sync::watch};
use tracing::{error, info, warn};

use super::{Dashboard, closing::Closing};

/// A dashboard that is being served. Dropped, its port is closed and so are the connections of who looks.
#[must_use = "dropped, the dashboard is gone"]
pub struct Serving {
    address: SocketAddr,
    dashboard: Dashboard,
    /// Dropped, it stops the server.
    _stop: watch::Sender<()>,
}

impl Serving {
    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.dashboard.close();
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("address", &self.address).finish_non_exhaustive()
    }
}

pub(super) async fn serve(dashboard: &Dashboard) -> io::Result<Serving> {
    let listener = TcpListener::bind(dashboard.address).await.map_err(|error| {
        let address = dashboard.address;
        io::Error::new(
            error.kind(),
            format!("the dashboard cannot listen on {address} ({error}): give it another"),
        )
    })?;
    let address = listener.local_addr()?;
    let control = if dashboard.guard.is_some() { "who is authorised may act" } else { "read-only" };
    let router = if address.ip().is_loopback() {
        info!(
            "the dashboard is on http://{address}/ ({control}); loopback only: nobody outside of this machine reaches it"
        );
        only_for_this_machine(dashboard.router())
    } else {
        warn!("the dashboard is on http://{address}/ ({control}); whoever reaches this address sees it");
        dashboard.router()
    };
    let (stop, mut stopped) = watch::channel(());
    let listener = Closing { listener, stopped: stopped.clone() };
    tokio::spawn(async move {
        let until = async move { while stopped.changed().await.is_ok() {} };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
            error!(%error, "the dashboard's server failed");
        }
    });
    Ok(Serving { address, dashboard: dashboard.clone(), _stop: stop })
}

/// A page of another site whose name leads to 127.0.0.1 (DNS rebinding) is of the same origin as this server in a browser's
/// eyes. Its requests bear that name.
fn only_for_this_machine(router: Router) -> Router {
    router.layer(middleware::from_fn(|request: Request, next: Next| async move {
        if is_for_this_machine(request.headers(), request.uri()) {
            return next.run(request).await;
        }
        let why = "this dashboard is served to localhost and loopback addresses alone";
        Response::into_response((StatusCode::MISDIRECTED_REQUEST, why).into_response())
    }))
}

fn is_for_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let Some(host) = host.or_else(|| uri.authority().cloned()) else { return false };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
