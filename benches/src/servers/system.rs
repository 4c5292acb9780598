//! `System`'s stacks beside the same layers put together by hand, on the same server.

use std::time::Duration;

use buttress::{
    Config, System,
    bulkhead::{BulkheadLayer, Limit},
    circuit_breaker::{CircuitBreakerLayer, Trip},
    config,
    http::{ApiClient, Body, HttpClient, Idempotent, StatusClassifier},
    postgres::{Postgres, PostgresConfig, Query, SqlStateClassifier},
    rate_limit::{Rate, RateLimitLayer},
    retry::RetryLayer,
    telemetry::{self, PostgresConvention, Registry, TelemetryLayer},
    timeout::TimeoutLayer,
};
use buttress_testkit::Nginx;
use tower::{ServiceBuilder, ServiceExt};

use super::{ServerRow, callers, http, postgres};

/// None of these is reached.
const CALLS: u32 = 1_000_000_000;
const IN_FLIGHT: u32 = 1_000;
const TOTAL: Duration = Duration::from_secs(30);
const ATTEMPT: Duration = Duration::from_secs(10);

fn rate_limit() -> config::RateLimit {
    let mut limit = config::RateLimit::default();
    (limit.limit, limit.per) = (CALLS, Duration::from_secs(1));
    limit
}

pub(super) async fn http_rows(nginx: &Nginx) -> Vec<ServerRow> {
    let by_hand = {
        let registry = Registry::new();
        let telemetry = TelemetryLayer::builder("by hand", &registry)
            .convention(telemetry::HttpClient)
            .classify(StatusClassifier)
            .build()
            .expect("the registry is empty");
        let stack = ServiceBuilder::new()
            .layer(telemetry)
            .layer(TimeoutLayer::new(TOTAL).name("by hand"))
            .layer(RateLimitLayer::builder("by hand", rate()).wait(Duration::ZERO).build())
            .layer(RetryLayer::new("by hand").retries(3).classify(StatusClassifier).requests(Idempotent))
            .layer(CircuitBreakerLayer::builder("by hand").trip(trip()).classify(StatusClassifier).build())
            .layer(TimeoutLayer::new(ATTEMPT).name("by hand attempt"))
            .layer(BulkheadLayer::builder("by hand", limit()).classify(StatusClassifier).build())
            .service(HttpClient::builder().build::<Body>().expect("it is valid"));
        let client = ApiClient::builder("by hand").base_url(nginx.url()).timeout(TOTAL);
        let client = client.build(stack).expect("it is valid");
        row("by hand get 64", client)
    };
    let buttress = {
        let mut api = config::Http::new(nginx.url());
        api.attempt_timeout = Some(ATTEMPT);
        api.rate_limit = Some(rate_limit());
        api.bulkhead = Some(config::Bulkhead::new(IN_FLIGHT));
        let mut config = Config::default();
        config.http.insert("bench".to_owned(), api);
        let system = System::start(config).await.expect("it is valid");
        let client = system.http("bench").expect("it is there");
        row("buttress get 64", client)
    };
    vec![by_hand, buttress]
}

fn row(name: &'static str, client: ApiClient) -> ServerRow {
    http::row("system", name, move || {
        let client = client.clone();
        async move {
            let answer = client.get("/small").send().await.expect("nginx is up");
            answer.bytes().await.expect("it is short")
        }
    })
}

pub(super) async fn query_rows(url: &str) -> Vec<ServerRow> {
    let by_hand = {
        let registry = Registry::new();
        let telemetry = TelemetryLayer::builder("by hand", &registry)
            .convention(PostgresConvention::new("bench"))
            .classify(SqlStateClassifier)
            .build()
            .expect("the registry is empty");
        let only_reads = |query: &Query| query.is_repeatable().then(|| query.clone());
        let config = PostgresConfig::from_url(url).expect("it is valid").with_max_overflow(30);
        let stack = ServiceBuilder::new()
            .layer(telemetry)
            .layer(TimeoutLayer::new(TOTAL).name("by hand"))
            .layer(RateLimitLayer::builder("by hand", rate()).wait(Duration::ZERO).build())
            .layer(RetryLayer::new("by hand").retries(3).classify(SqlStateClassifier).requests(only_reads))
            .layer(CircuitBreakerLayer::builder("by hand").trip(trip()).classify(SqlStateClassifier).build())
            .layer(TimeoutLayer::new(ATTEMPT).name("by hand attempt"))
            .layer(BulkheadLayer::builder("by hand", limit()).classify(SqlStateClassifier).build())
            .service(Postgres::new(config).expect("it is valid"));
        ServerRow::new("system", "by hand query", move |items| {
            let stack = stack.clone();
            callers(1, items, move || {
                let (stack, query) = (stack.clone(), postgres::find());
                async move { assert_eq!(stack.oneshot(query).await.expect("the server is up").len(), 1) }
            })
        })
    };
    let buttress = {
        let mut database = config::Database::new(url);
        database.attempt_timeout = Some(ATTEMPT);
        database.rate_limit = Some(rate_limit());
        database.bulkhead = Some(config::Bulkhead::new(IN_FLIGHT));
        let mut config = Config::default();
        config.database = Some(database);
        let system = System::start(config).await.expect("the server is up");
        ServerRow::new("system", "buttress query", move |items| {
            let system = system.clone();
            callers(1, items, move || {
                let (system, query) = (system.clone(), postgres::find());
                async move { assert_eq!(system.query(query).await.expect("the server is up").len(), 1) }
            })
        })
    };
    vec![by_hand.of_one_caller(), buttress.of_one_caller()]
}

fn rate() -> Rate {
    Rate::per_second(CALLS)
}

fn limit() -> Limit {
    Limit::fixed(IN_FLIGHT).expect("it is valid")
}

fn trip() -> Trip {
    Trip::consecutive(5).expect("it is valid")
}
