use std::{error::Error, fmt, time::Duration};

/// Why telemetry could not be set up.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The service has no name, or one of more than 255 bytes.
    InvalidServiceName,
    /// What was given as the collector's address is none.
    InvalidEndpoint {
        /// What is wrong with it. The address is not repeated: it may hold a password.
        why: &'static str,
    },
    /// The collector is to be reached by TLS, and this program was built without.
    NoTls,
    /// A header that cannot be sent.
    InvalidHeader {
        /// Its name. The value is never shown.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A share that is not from 0 to 1.
    InvalidShare {
        /// What was given.
        share: f64,
    },
    /// Metrics more often than ten times a second.
    InvalidInterval {
        /// What was given.
        interval: Duration,
    },
    /// A filter of logs that cannot be read.
    InvalidFilter {
        /// What is wrong with it.
        why: String,
    },
    /// Outside a tokio runtime, or in one without I/O and timers.
    NoRuntime,
    /// The process has a subscriber of `tracing` already, from an earlier call or of its own.
    AlreadyInstalled,
    /// The exporter refused its settings, which may come from the environment.
    Exporter {
        /// What it said.
        why: String,
    },
}

impl fmt::Display for TelemetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidServiceName => f.write_str("the service's name is empty or longer than 255 bytes"),
            Self::InvalidEndpoint { why } => {
                write!(f, "the collector's address {why}; it is of the form `http://127.0.0.1:4317`")
            }
            Self::NoTls => f.write_str(
                "the collector's address begins with `https`; \
                 enable the feature `tls-ring` or `tls-aws-lc-rs` of buttress-telemetry",
            ),
            Self::InvalidHeader { name, why } => write!(f, "the header {name:?} {why}"),
            Self::InvalidShare { share } => {
                write!(f, "a share of {share} of the traces was asked for; it is from 0 to 1")
            }
            Self::InvalidInterval { interval } => {
                write!(f, "metrics every {interval:?} were asked for; it is 100 ms at least")
            }
            Self::InvalidFilter { why } => write!(f, "the filter of the log cannot be read: {why}"),
            Self::NoRuntime => f.write_str("telemetry is set up outside a tokio runtime; call it inside one"),
            Self::AlreadyInstalled => f.write_str(
                "this process has a `tracing` subscriber already; install once, \
                 or `build` and add `Telemetry::tracing_layer` to that subscriber",
            ),
            Self::Exporter { why } => write!(f, "the exporter cannot be made: {why}"),
        }
    }
}

impl Error for TelemetryError {}
