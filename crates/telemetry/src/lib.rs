#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alerts;
mod book;
mod call;
#[cfg(all(feature = "http", feature = "opentelemetry"))]
mod continue_trace;
mod convention;
#[cfg(feature = "dashboard")]
mod dashboard;
mod future;
#[cfg(feature = "generate")]
mod generate;
#[cfg(feature = "opentelemetry")]
mod instruments;
#[cfg(any(feature = "otlp", feature = "prometheus"))]
mod latencies;
mod layer;
#[cfg(any(feature = "opentelemetry", feature = "prometheus"))]
mod naming;
#[cfg(feature = "otlp")]
mod otlp;
mod performance;
mod process;
#[cfg(feature = "prometheus")]
mod prometheus;
mod recorder;
mod recording;
mod registry;
mod series;
mod service;
mod sketch;
mod slow;
mod snapshot;
mod source;
mod span;
mod sync;
#[cfg(feature = "opentelemetry")]
mod totals;
mod wall;

// Their types are in signatures, and each of their minor versions has others.
#[cfg(feature = "opentelemetry")]
pub use opentelemetry;
#[cfg(feature = "otlp")]
pub use {opentelemetry_sdk, tonic};

#[cfg(all(feature = "http", feature = "opentelemetry"))]
pub use self::continue_trace::{ContinueTrace, ContinueTraceFuture, ContinueTraceLayer};
#[cfg(feature = "postgres")]
pub use self::convention::PostgresConvention;
#[cfg(feature = "redis")]
pub use self::convention::RedisConvention;
#[cfg(feature = "http")]
pub use self::convention::{HttpClient, HttpServer, ServerStatus, UrlTemplate};
#[cfg(feature = "dashboard")]
pub use self::dashboard::{Dashboard, DashboardBuilder, InvalidDashboard, Serving};
#[cfg(feature = "generate")]
pub use self::generate::{grafana_dashboard, prometheus_rules};
#[cfg(feature = "otlp")]
pub use self::otlp::{Flush, Flushed, MetricsExporter, Telemetry, TelemetryBuilder, TelemetryError};
#[cfg(feature = "dashboard")]
pub use self::prometheus::prometheus_route;
pub use self::{
    alerts::{
        Alert, AlertState, AlertStatus, Alerts, AlertsBuilder, BurnWindow, CallsFigure, Change, Cleared,
        Comparison, InvalidRules, Notify, Rule, Severity, Slo, Subject, default_rules,
    },
    convention::{Convention, Describe, Ended, Label, Operation, Piece, Plain, Side},
    future::ResponseFuture,
    layer::{TelemetryLayer, TelemetryLayerBuilder},
    performance::{CallStats, LayerStats, PerformanceStats, PoolStats},
    recording::Slow,
    registry::{Handle, RegisterError, Registry, StackBuilder},
    service::Measured,
    sketch::Sketch,
    slow::{SlowCall, SlowDecision},
    snapshot::{
        CallsSnapshot, ErrorCount, Figure, Kind, Latency, LayerSnapshot, OperationSnapshot, ProcessSnapshot,
        SettingSnapshot, SettingWord, Snapshot, StackSnapshot,
    },
};
