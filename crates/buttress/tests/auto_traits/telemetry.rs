use buttress_telemetry::*;

use super::given::*;

check! {
    "telemetry":
    values: [
        ContinueTrace<Svc>, ContinueTraceLayer, PostgresConvention, RedisConvention, HttpClient, HttpServer,
        ServerStatus, UrlTemplate, Flush, Flushed, Alert, AlertState, AlertStatus, Alerts, BurnWindow, CallsFigure,
        Change, Cleared, Comparison, Rule, Severity, Slo, Subject, Ended<'static>, Label, Operation<'static>,
        Piece<'static>, Plain, Side, TelemetryLayer, CallStats, LayerStats, PerformanceStats, PoolStats, Slow,
        Registry, Measured<Svc, Plain, ByError>, Sketch, SlowCall, SlowDecision, CallsSnapshot, ErrorCount, Figure,
        Kind, Latency, LayerSnapshot, OperationSnapshot, ProcessSnapshot, SettingSnapshot, SettingWord, Snapshot,
        StackSnapshot
    ];
    handles: [Dashboard];
    owned: [
        DashboardBuilder, Serving, MetricsExporter, Telemetry, TelemetryBuilder, AlertsBuilder, Notify,
        TelemetryLayerBuilder<'static, Plain, ByError>, Handle, StackBuilder<'static>
    ];
    errors: [InvalidDashboard, TelemetryError, InvalidRules, RegisterError];
    futures: [ContinueTraceFuture<Fut>, ResponseFuture<Fut, Plain, ByError, Req>];
    send_futures: [];
    send_only: [];
    traits: [Convention, Describe];
}
