//! A web application whose every call outside goes through layers: users in Postgres, a cache in Redis, profiles from an
//! HTTP upstream.
//!
//! ```sh
//! cargo run --example gateway
//! ```
//!
//! It needs no configuration. `DATABASE_URL`, `REDIS_URL` and `UPSTREAM_URL` say where its backends are; without them it
//! starts throw-away servers where Postgres and Redis are installed, else it does with memory in place of Redis, answers
//! 503 where it would need the database, and is its own upstream. `GATEWAY_ADDR` is where it listens (127.0.0.1:3000),
//! `GATEWAY_DASHBOARD` where a live page of its layers is (127.0.0.1:9900, say; without it there is none).
//! Ctrl-C lets the requests on their way finish, then ends it.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod app;

use std::{env, io, process::ExitCode};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use self::app::{App, Settings};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), String> {
    // From the beginning, so that there is no moment in which Ctrl-C would leave something behind.
    let stopped = stopped().map_err(|error| format!("signals cannot be handled: {error}"))?;
    let address = variable("GATEWAY_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".into());
    let dashboard = variable("GATEWAY_DASHBOARD")?
        .map(|address| {
            address
                .parse()
                .map_err(|error| format!("GATEWAY_DASHBOARD: {error}, it must be like 127.0.0.1:9900"))
        })
        .transpose()?;
    let app = App::start(Settings {
        database_url: variable("DATABASE_URL")?,
        redis_url: variable("REDIS_URL")?,
        upstream_url: variable("UPSTREAM_URL")?,
        dashboard,
        throw_away: true,
    })
    .await?;
    let listener = TcpListener::bind(&address).await.map_err(|error| {
        format!("cannot listen on {address} ({error}): set GATEWAY_ADDR to a free one, like 127.0.0.1:0")
    })?;
    let url = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
    println!("Listening on {url} with {}", app.description());
    println!(
        "  curl -i -X POST {url}/users -H 'content-type: application/json' -d '{{\"name\":\"Ada\",\"email\":\"ada@example.com\"}}'"
    );
    println!("  curl -i {url}/users/1/profile");
    println!("  curl -i {url}/healthz");
    if let Some(address) = app.dashboard() {
        println!("  the live page: http://{address}/");
    }
    axum::serve(listener, app.router())
        .with_graceful_shutdown(stopped)
        .await
        .map_err(|error| format!("the server failed: {error}"))?;
    app.close().await;
    println!("Shut down.");
    Ok(())
}

/// Set, and not empty.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// Ctrl-C, or what a service manager sends.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        println!("Stopping: requests on their way are finished first.");
    })
}
