//! An API and its client: typed answers, credentials, retries, and what an error tells.
//!
//! `cargo run --example api_client` starts a server of its own; nothing else is needed.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_http::{ApiClient, ApiError, Body, EXPECTED_TIMEOUT, HttpClient, Idempotent, StatusClassifier};
use buttress_retry::RetryLayer;
use buttress_testkit::{Reply, Upstream};
use buttress_timeout::TimeoutLayer;
use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;

#[derive(Debug, Deserialize)]
struct Item {
    name: String,
    stock: u32,
}

#[derive(Serialize)]
struct Order {
    item: u32,
    count: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let upstream = Upstream::start().await;
    let item = Reply::ok(r#"{"name": "sponge", "stock": 3}"#);
    upstream.on("/v1/items/7", [Reply::status(503), item]);
    upstream.on("/v1/items/8", Reply::status(302).header("location", "7"));
    upstream.on("/v1/orders", Reply::status(409).body(r#"{"title": "sold out"}"#));
    upstream.on("/v1/slow", Reply::never());

    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new("stock").classify(StatusClassifier).requests(Idempotent))
        .layer(CircuitBreakerLayer::builder("stock").classify(StatusClassifier).build())
        .layer(TimeoutLayer::new(Duration::from_millis(500)).name("stock attempt"))
        .service(HttpClient::builder().name("stock").deadline_header(EXPECTED_TIMEOUT).build::<Body>()?);
    let stock = ApiClient::builder("stock")
        .base_url(format!("{}/v1", upstream.url()))
        .bearer("a-token")
        .timeout(Duration::from_secs(2))
        .build(stack)?;

    for id in [7, 8] {
        let Item { name, stock } = stock.get("/items/{id}").param("id", id).send().await?.json().await?;
        println!("item {id}: {name}, {stock} in stock");
    }

    let order = stock.post("/orders").json(&Order { item: 7, count: 5 });
    let order = order.idempotency_key("7-5").send().await?;
    match order.error_for_status().await {
        Err(ApiError::Status(refused)) => println!("{refused}, because: {}", refused.text()),
        other => println!("{other:?}"),
    }

    // Each of these is an error before or instead of an answer, and says so.
    for request in [
        stock.get("/items/{id}").param("id", "../orders"),
        stock.post("/slow").timeout(Duration::from_millis(200)),
        stock.get("/items/7").header("x-note", "two\r\nlines"),
    ] {
        if let Err(error) = request.send().await {
            println!("{error} (sent: {})", error.sent());
        }
    }
    println!("requests that arrived: {}", upstream.requests().len());
    Ok(())
}
