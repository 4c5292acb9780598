//! Continuous health checks: a part that dies, what an orchestrator sees, a drain before the end.
//!
//! `cargo run --example health` starts servers of its own; nothing else is needed.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use axum::{Router, body::Body, http::Request};
use buttress_health::{Health, Part, Probe, Status};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let database = TcpListener::bind("127.0.0.1:0").await?;
    let often = Duration::from_millis(500);
    let health = Health::builder()
        .name("shop")
        .part(Part::new("database", Probe::tcp(database.local_addr()?)).critical().interval(often))
        .part(Part::new("disk", Probe::from_fn(|| async { Status::degraded("3 GiB free") })))
        .start()?;
    // On a port that the public does not reach: the verbose answers name hosts and causes.
    let routes: Router = health.verbose_router();

    health.wait_ready(Duration::from_secs(5)).await?;
    show(&routes, "/readyz").await?;

    let mut watch = health.watch();
    drop(database);
    while watch.changed().await.is_some_and(|report| report.is_ready()) {}
    show(&routes, "/livez").await?;
    show(&routes, "/readyz?verbose").await?;

    health.begin_shutdown(); // no new calls are sent here
    health.shutdown().await; // no probe is left
    for change in health.history() {
        println!(
            "{}: {:?} {}",
            change.number,
            change.event,
            change.cause.map(|it| it.to_string()).unwrap_or_default()
        );
    }
    Ok(())
}

async fn show(routes: &Router, path: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let response = routes.clone().oneshot(Request::get(path).body(Body::empty())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    println!("GET {path}: {status} {}", String::from_utf8_lossy(&body).trim_end());
    Ok(())
}
