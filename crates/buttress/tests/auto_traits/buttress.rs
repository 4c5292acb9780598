use buttress::*;

use super::given::*;

check! {
    "buttress":
    values: [
        Config, ShutdownReport, config::Cache, config::Database, config::Health, config::Http, config::Redis,
        config::StatementMode, config::Telemetry, config::Bulkhead, config::CircuitBreaker, config::Jitter,
        config::RateLimit, config::Requests, config::Retry, config::Secret, config::Config, explain::Bound,
        explain::ExplainedLayer, explain::ExplainedStack, explain::Explanation, explain::Load, explain::QueueWait,
        explain::RateOfAttempts, explain::Finding, explain::Severity, explain::Layer, explain::Repeats,
        explain::Stack
    ];
    handles: [Cache, Database, HttpService, Inserter<()>, Redis, System];
    owned: [];
    errors: [ConfigError, Error, NotConfigured, ReloadError, StartError, config::ConfigError];
    futures: [RequestFuture];
    send_futures: [CommandFuture, QueryFuture];
    send_only: [];
    traits: [];
}
