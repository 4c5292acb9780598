//! Background jobs in a table of Postgres: taken by `FOR UPDATE SKIP LOCKED`, held by leases, done exactly once.
//!
//! ```sh
//! cargo run --example worker
//! ```
//!
//! Without settings it starts a throw-away Postgres, enqueues some jobs to show what happens to them, and works until Ctrl-C.
//! With `DATABASE_URL` it works on the queue there: start as many as you like, and kill them as you like.
//!
//! **A job is done exactly once**, because its effect and its end commit in one transaction
//! ([`Attempt::finish`](job::Attempt::finish)). A worker that is killed before that commit leaves nothing but a lease that
//! runs out, and then somebody else takes the job; one that is killed after it has nothing more to do. One that only froze
//! finds its lease taken, and its transaction changes nothing. That holds for effects in the same database. For those
//! outside (mail, another service), there is at least once: the job's key is the same in every attempt, so pass it on as the
//! idempotency key.
//!
//! | | default | |
//! |---|---|---|
//! | `DATABASE_URL` | a throw-away server | the queue's database |
//! | `WORKER_NAME` | `worker-<pid>` | who holds a job, in the table |
//! | `WORKER_CONCURRENCY` | 8 | jobs at once |
//! | `WORKER_LEASE` | 30s | how long a job stays with a worker that is not heard of |
//! | `WORKER_POLL` | 1s | how often it looks without being notified: retries and delayed jobs wait so long at most |
//! | `WORKER_JOB_TIMEOUT` | 60s | how long an attempt may take |
//! | `WORKER_BACKOFF` | 1s | the wait after a first failure; it doubles, up to 5 minutes |
//! | `WORKER_DRAIN` | 20s | how long running jobs may go on after SIGTERM or Ctrl-C; then they are dropped, their leases given back |
//! | `WORKER_KEEP` | 1440m | how long the rows of done jobs are kept, and with them their keys |
//!
//! An attempt counts when it is taken, however it ends: the last one that fails, or has no end, makes the job dead, and
//! `last_error` says why. Only a lease that is given back is not counted.

mod carry_out;
mod counts;
mod job;
mod jobs;
mod queue;
mod run;
mod settings;

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreakerLayer, Trip};
use buttress_core::Backoff;
use buttress_postgres::{Listener, Postgres, PostgresConfig, Query};
use buttress_telemetry::Registry;
use buttress_testkit::PostgresServer;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use self::{queue::Queue, run::Worker, settings::Settings};

/// The figures that the demonstration ends with.
const SHOWN: [&str; 3] = ["buttress_worker_", "buttress_bulkhead_", "buttress_circuit_breaker_"];

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,worker=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // That nobody reads them would be told there, too, and panic.
    log.log_internal_errors(false).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    // From the beginning, so that there is no moment in which Ctrl-C would leave something behind.
    let mut stopped = pin!(stopped().map_err(|error| format!("signals cannot be handled: {error}"))?);
    let mut settings = Settings::from_env()?;
    let server = match settings.database_url {
        Some(_) => None,
        None => Some(PostgresServer::try_start().await.map_err(|error| {
            format!("no throw-away Postgres ({error}): set DATABASE_URL, or `cargo xtask setup`")
        })?),
    };
    if server.is_some() {
        // So that renewals can be seen.
        settings.lease = settings.lease.min(Duration::from_secs(2));
    }
    let url = server.as_ref().map(PostgresServer::url).or(settings.database_url.clone()).unwrap_or_default();
    let config = PostgresConfig::from_url(&url)
        .map_err(|error| format!("DATABASE_URL: {error}"))?
        .with_name("jobs-db")
        // For each job, and for the worker itself.
        .with_pool_size(settings.concurrency as usize + 2)
        .with_connect_timeout(Duration::from_secs(2));
    let database = Postgres::new(config.clone()).map_err(|error| format!("DATABASE_URL: {error}"))?;
    let breaker = CircuitBreakerLayer::builder("jobs-db")
        .trip(Trip::consecutive(5)?)
        .open_for(Backoff::exponential(Duration::from_millis(500), Duration::from_secs(5))?)
        .build()
        .breaker();
    let queue = Queue { database: database.clone(), breaker, lease: settings.lease };
    let prepared = async {
        queue.create().await?;
        jobs::create(&database).await?;
        Listener::connect(&config, [queue::CHANNEL]).await
    };
    let listener = tokio::select! {
        // There is nothing yet that would have to come to its end.
        () = &mut stopped => return Ok(()),
        listener = prepared => listener.map_err(|error| format!("DATABASE_URL: {error}"))?,
    };

    say(format_args!("{} works, {} jobs at once. Ctrl-C ends it.", settings.name, settings.concurrency));
    if server.is_some() {
        let new = queue.enqueue(&jobs::demonstration()).await?;
        say(format_args!("A throw-away Postgres at {url}, with {new} jobs to begin with."));
    }
    let mut worker = Worker::new(queue, settings, jobs::KINDS, jobs::perform)?;
    let registry = Registry::new();
    worker.register(&registry)?;
    worker.run(listener, stopped).await;

    say(format_args!("Stopped. Attempts: {}.", worker.counts()));
    if server.is_some() {
        say("Of the page for Prometheus:");
        let page = registry.prometheus();
        let shown = |line: &&str| SHOWN.iter().any(|name| line.starts_with(name));
        page.lines().filter(shown).for_each(|line| say(format_args!("  {line}")));
        tell(&database).await?;
    }
    if tokio::time::timeout(Duration::from_secs(2), database.close()).await.is_err() {
        tracing::warn!("connections were still in use");
    }
    Ok(())
}

/// For whoever still reads it. Where Ctrl-C ends a whole pipeline nobody does, and `println!` would panic.
fn say(words: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{words}");
}

/// What the queue and the ledger hold.
async fn tell(database: &Postgres) -> Result<(), buttress_postgres::Error> {
    say("The queue:");
    let jobs = "select id, kind, state, attempts, coalesce(last_error, '') from worker_jobs order by id";
    for row in &database.query(Query::new(jobs)).await? {
        let (id, kind, state, attempts, why): (i64, String, String, i32, String) = row.read()?;
        say(format_args!("  {id:>3}  {kind:<8} {state:<8} attempts {attempts}  {why}"));
    }
    say("The ledger:");
    for row in &database.query(Query::new("select job, key, note from worker_ledger order by at")).await? {
        let (job, key, note): (i64, String, String) = row.read()?;
        say(format_args!("  {job:>3}  {key:<18} {note}"));
    }
    Ok(())
}

/// Ctrl-C, or what a service manager sends.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        say("Stopping: nothing new is taken, and running jobs may end.");
    })
}
