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
//! `GATEWAY_DASHBOARD` where a live page of its layers is (127.0.0.1:9900, say; without it there is none), `GATEWAY_METRICS`
//! where Prometheus finds the same (127.0.0.1:9901, below `/metrics`).
//! `GATEWAY_CONFIG` is the path of a file as `buttress.example.toml`, in place of the configuration in `app/settings.rs`; a
//! SIGHUP reads it anew.
//!
//! Ctrl-C or SIGTERM lets the requests on their way finish, then ends it: after `GATEWAY_DEADLINE` (10s; a day at most) in any
//! case.

mod app;
mod metrics;
mod serve;

use std::{
    env, fmt,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use tracing_subscriber::EnvFilter;

use self::{
    app::{App, Settings},
    metrics::Metrics,
};

/// The most that a stop may be made to wait.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // That nobody reads them would be told there, too, and panic.
    log.log_internal_errors(false).init();
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
    let mut signals = Signals::listen().map_err(|error| format!("signals cannot be handled: {error}"))?;
    let address = variable("GATEWAY_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".into());
    let deadline = variable("GATEWAY_DEADLINE")?.map_or(Ok(Duration::from_secs(10)), |deadline| {
        match humantime::parse_duration(&deadline) {
            // There are lengths that no clock could count.
            Ok(deadline) if deadline > LONGEST => {
                Err("GATEWAY_DEADLINE: it must be like 10s, and at most 1day".to_owned())
            }
            deadline => deadline.map_err(|error| format!("GATEWAY_DEADLINE: {error}, it must be like 10s")),
        }
    })?;
    let dashboard = address_of("GATEWAY_DASHBOARD", "127.0.0.1:9900")?;
    let metrics = address_of("GATEWAY_METRICS", "127.0.0.1:9901")?;
    let app = App::start(Settings {
        config: variable("GATEWAY_CONFIG")?.map(Into::into),
        database_url: variable("DATABASE_URL")?,
        redis_url: variable("REDIS_URL")?,
        upstream_url: variable("UPSTREAM_URL")?,
        dashboard,
        throw_away: true,
    })
    .await?;
    let metrics = match metrics {
        Some(address) => Some(
            Metrics::serve(address, app.system())
                .await
                .map_err(|error| format!("GATEWAY_METRICS: {address}: {error}"))?,
        ),
        None => None,
    };
    let listener = TcpListener::bind(&address).await.map_err(|error| {
        format!("cannot listen on {address} ({error}): set GATEWAY_ADDR to a free one, like 127.0.0.1:0")
    })?;
    let url = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
    say(format_args!("Listening on {url} with {}", app.description()));
    say(format_args!(
        "  curl -i -X POST {url}/users -H 'content-type: application/json' -d '{{\"name\":\"Ada\",\"email\":\"ada@example.com\"}}'"
    ));
    say(format_args!("  curl -i {url}/users/1/profile"));
    say(format_args!("  curl -i {url}/healthz"));
    if let Some(address) = app.system().dashboard() {
        say(format_args!("  the live page: http://{address}/"));
    }
    if let Some(metrics) = &metrics {
        say(format_args!("  for Prometheus: http://{}/metrics", metrics.address()));
    }
    let end = serve::serve(listener, app.router(), signals.obey(&app), deadline)
        .await
        .map_err(|error| format!("the server failed: {error}"))?;
    let report = app.close(end.saturating_duration_since(Instant::now())).await;
    say(format_args!("Gateway: {report}."));
    Ok(())
}

/// For whoever still reads it. Where Ctrl-C ends a whole pipeline nobody does, and `println!` would panic.
fn say(words: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{words}");
}

fn address_of(name: &str, like: &str) -> Result<Option<SocketAddr>, String> {
    let address = variable(name)?.map(|address| address.parse());
    address.transpose().map_err(|error| format!("{name}: {error}, it must be like {like}"))
}

/// Set, and not empty.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// What a terminal or a service manager sends.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Until one says to stop. Nobody should send new requests from there on.
    async fn obey(&mut self, app: &App) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.hang_up.recv() => match app.reload() {
                    Ok(()) => say("Reloaded."),
                    Err(error) => say(format_args!("Not reloaded: {error}")),
                },
            }
        }
        app.system().health().begin_shutdown();
        say("Stopping: requests on their way are finished first.");
    }
}
