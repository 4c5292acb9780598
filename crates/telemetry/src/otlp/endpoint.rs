//! The one connection to the collector, which spans and metrics share.

use std::{sync::Arc, time::Duration};

use tonic::{
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint, Uri},
};

use super::TelemetryError;

/// No export takes longer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// While an answer is missing for so long the collector is asked whether it lives, so that a connection that leads
/// nowhere is given up before the export is.
const PING_AFTER: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(4);

/// More headers are not taken.
const MAX_HEADERS: usize = 32;

/// A collector's address that has been checked.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    endpoint: Endpoint,
    /// For people.
    pub(super) address: Arc<str>,
}

impl Collector {
    pub(super) fn try_new(address: &str) -> Result<Self, TelemetryError> {
        let invalid = |why| TelemetryError::InvalidEndpoint { why };
        let uri: Uri = address.parse().map_err(|_| invalid("is no URI"))?;
        let authority = uri.authority().ok_or(invalid("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("holds credentials, which belong into `otlp_header`"));
        }
        if authority.host().is_empty() || address.len() > 512 {
            return Err(invalid("has no host, or a very long one"));
        }
        let port = authority.as_str()[authority.host().len()..].strip_prefix(':');
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(invalid("has a port that is none"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(invalid("has a path, which gRPC has no use for"));
        }
        let endpoint = match uri.scheme_str() {
            Some("http") => Endpoint::from(uri),
            Some("https") => with_tls(Endpoint::from(uri))?,
            _ => return Err(invalid("begins neither with `http` nor with `https`")),
        };
        let endpoint = endpoint
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        Ok(Self { endpoint, address: Arc::from(address) })
    }

    /// Connects when it is first used, and again whenever it has to. It needs a tokio runtime.
    pub(super) fn channel(&self) -> Channel {
        self.endpoint.connect_lazy()
    }
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
fn with_tls(endpoint: Endpoint) -> Result<Endpoint, TelemetryError> {
    let roots = tonic::transport::ClientTlsConfig::new().with_webpki_roots();
    endpoint
        .tls_config(roots)
        .map_err(|_| TelemetryError::InvalidEndpoint { why: "has a host that TLS cannot name" })
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
fn with_tls(_endpoint: Endpoint) -> Result<Endpoint, TelemetryError> {
    Err(TelemetryError::NoTls)
}

/// The headers of every export. Their values are marked as secret.
pub(super) fn metadata(headers: &[(String, String)]) -> Result<MetadataMap, TelemetryError> {
    let mut map = MetadataMap::new();
    for (name, value) in headers {
        let invalid = |why| TelemetryError::InvalidHeader { name: name.chars().take(64).collect(), why };
        if map.len() == MAX_HEADERS {
            return Err(invalid("is one too many"));
        }
        let lower = name.to_ascii_lowercase();
        if matches!(&*lower, "te" | "content-type" | "user-agent") || lower.starts_with("grpc-") {
            return Err(invalid("is one of gRPC's own"));
        }
        let key =
            AsciiMetadataKey::from_bytes(lower.as_bytes()).map_err(|_| invalid("is no name of a header"))?;
        let not_ascii = "has a value that is not visible ASCII";
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(invalid(not_ascii));
        }
        let mut value = AsciiMetadataValue::try_from(value).map_err(|_| invalid(not_ascii))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}
