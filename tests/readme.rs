//! The stack of the README does what it says, as it stands there.

use std::{error::Error, fs, time::Duration};

use buttress::{
    bulkhead::{BulkheadLayer, Limit},
    circuit_breaker::CircuitBreakerLayer,
    postgres::{Postgres, PostgresConfig, Query, SqlStateClassifier},
    rate_limit::{Rate, RateLimitLayer},
    retry::RetryLayer,
    telemetry::{Registry, TelemetryLayer},
    timeout::TimeoutLayer,
};
use buttress_testkit::TestDatabase;
use tower::{ServiceBuilder, ServiceExt as _};

#[tokio::test]
async fn the_stack_of_twelve_lines_answers() -> Result<(), Box<dyn Error>> {
    let database = TestDatabase::new().await;
    let (url, registry) = (database.url(), Registry::new());
    let create = "create table orders as select 42::bigint as id, 'open' as state";
    Postgres::new(PostgresConfig::from_url(&url)?)?.oneshot(Query::new(create)).await?;

    let only_reads = |query: &Query| query.is_repeatable().then(|| query.clone());

    let orders = ServiceBuilder::new()
        .layer(TelemetryLayer::new("orders", &registry)?)
        .layer(TimeoutLayer::new(Duration::from_secs(2)).name("orders total"))
        .layer(RateLimitLayer::new("orders", Rate::per_second(500)))
        .layer(RetryLayer::new("orders").classify(SqlStateClassifier).requests(only_reads))
        .layer(CircuitBreakerLayer::builder("orders-db").classify(SqlStateClassifier).build())
        .layer(TimeoutLayer::new(Duration::from_millis(500)).name("orders attempt"))
        .layer(BulkheadLayer::new("orders", Limit::fixed(40)?))
        .service(Postgres::new(PostgresConfig::from_url(&url)?.with_name("orders-db"))?);

    // Who is watched is forgotten with the last of its services.
    let _kept = orders.clone();

    let query = Query::new("select * from orders where id = :id").bind("id", 42_i64);
    let order = orders.oneshot(query).await?.optional()?;

    assert_eq!(order.expect("it is there").get::<String>("state")?, "open");
    assert_eq!(registry.snapshot().calls("orders").expect("it is watched").total.success, 1);
    Ok(())
}

/// Every line of the README's first sample stands above.
#[test]
fn it_is_the_stack_that_the_readme_shows() -> Result<(), Box<dyn Error>> {
    let (readme, here) = (fs::read_to_string("README.md")?, fs::read_to_string(file!())?);
    let sample = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let code = |line: &str| line.split("   //").next().unwrap_or_default().trim().to_owned();
    let here: Vec<String> = here.lines().map(code).collect();
    for line in sample.expect("the README has a sample").lines().map(code) {
        assert!(here.contains(&line), "{line}");
    }
    Ok(())
}
