use buttress_telemetry::Registry;

use super::StartError;
use crate::Config;

/// What shows the system outside, as far as it is configured and compiled in.
pub(super) struct Seen {
    #[cfg(feature = "dashboard")]
    pub(super) dashboard: std::sync::Mutex<Option<buttress_telemetry::Serving>>,
    #[cfg(feature = "otlp")]
    pub(super) telemetry: std::sync::Mutex<Option<buttress_telemetry::Telemetry>>,
}

impl Seen {
    #[cfg_attr(
        not(any(feature = "dashboard", feature = "otlp")),
        expect(unused_variables, clippy::unused_async)
    )]
    pub(super) async fn start(config: &Config, registry: &Registry) -> Result<Self, StartError> {
        Ok(Self {
            #[cfg(feature = "dashboard")]
            dashboard: std::sync::Mutex::new(match config.telemetry.dashboard {
                Some(address) => Some(dashboard(registry, address).await?),
                None => None,
            }),
            #[cfg(feature = "otlp")]
            telemetry: std::sync::Mutex::new(match &config.telemetry.otlp {
                Some(endpoint) => {
                    let telemetry = buttress_telemetry::Telemetry::builder(&config.name)
                        .otlp(endpoint)
                        .registry(registry)
                        .build();
                    Some(telemetry.map_err(|error| StartError::part("telemetry.otlp", error))?)
                }
                None => None,
            }),
        })
    }
}

impl Seen {
    /// Sends what waits to be sent, and closes the page.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, clippy::unused_async))]
    pub(super) async fn shutdown(&self, end: tokio::time::Instant) {
        #[cfg(feature = "otlp")]
        {
            let telemetry = self.telemetry.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(telemetry) = telemetry {
                // A second at least: the figures of the end are in it.
                let left = end.saturating_duration_since(tokio::time::Instant::now());
                telemetry.shutdown(left.max(std::time::Duration::from_secs(1))).await;
            }
        }
        #[cfg(feature = "dashboard")]
        drop(self.dashboard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    }
}

/// Read-only, and for this machine alone where the address is a loopback one.
#[cfg(feature = "dashboard")]
async fn dashboard(
    registry: &Registry,
    address: std::net::SocketAddr,
) -> Result<buttress_telemetry::Serving, StartError> {
    use buttress_telemetry::{Alerts, Dashboard, default_rules};

    const TABLE: &str = "telemetry.dashboard";
    let alerts = Alerts::builder(registry).rules(default_rules(registry)).build();
    let alerts = alerts.map_err(|error| StartError::part(TABLE, error))?;
    let dashboard = Dashboard::builder(registry).alerts(&alerts).address(address).build();
    let dashboard = dashboard.map_err(|error| StartError::part(TABLE, error))?;
    dashboard.serve().await.map_err(|error| StartError::part(TABLE, format!("{address}: {error}")))
}
