mod builder;
mod endpoint;
mod error;
mod metrics;
mod queue;
mod sampler;
mod split;
mod telemetry;
mod watch;

pub use self::{
    builder::TelemetryBuilder,
    error::TelemetryError,
    metrics::MetricsExporter,
    telemetry::{Flush, Flushed, Telemetry},
};
