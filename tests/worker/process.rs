//! The built example, as processes of their own, and what they left in the database.

use std::{future::Future, process::Stdio, time::Duration};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_postgres::{FromRow, Postgres, PostgresConfig, Query};
use buttress_testkit::example;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::queue::Queue;

/// One worker. Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts one that is quick: a lease of a second, looks ten times a second. Later settings replace these.
    pub(crate) async fn start(url: &str, settings: &[(&str, &str)]) -> Self {
        let quick = [("WORKER_LEASE", "1s"), ("WORKER_POLL", "100ms"), ("WORKER_BACKOFF", "20ms")];
        let mut child = Command::new(example("worker"))
            .env("DATABASE_URL", url)
            .env("RUST_LOG", "off")
            .envs(quick)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    /// Waits until it says something that contains this.
    pub(crate) async fn says(&mut self, what: &str) -> String {
        let said = async {
            loop {
                let line = self
                    .stdout
                    .next_line()
                    .await
                    .unwrap()
                    .unwrap_or_else(|| panic!("it never said {what:?}"));
                if line.contains(what) {
                    return line;
                }
            }
        };
        timeout(Duration::from_secs(20), said).await.unwrap_or_else(|_| panic!("it does not say {what:?}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it still runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Pulls the plug, and is sure that it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Its exit code.
    pub(crate) async fn ends(mut self) -> Option<i32> {
        timeout(Duration::from_secs(20), self.child.wait()).await.expect("it ends").unwrap().code()
    }
}

/// A handle to the queue like a worker's, and its tables.
pub(crate) async fn queue(url: &str, lease: Duration) -> Queue {
    let config = PostgresConfig::from_url(url).unwrap().with_pool_size(4);
    let breaker = CircuitBreakerLayer::new("worker-test").breaker();
    let queue = Queue { database: Postgres::new(config).unwrap(), breaker, lease };
    queue.create().await.unwrap();
    crate::jobs::create(&queue.database).await.unwrap();
    queue
}

/// The only row of this statement.
pub(crate) async fn one<T: FromRow>(queue: &Queue, sql: &'static str) -> T {
    let rows = queue.database.query(Query::new(sql)).await.unwrap();
    rows.one().unwrap().read().unwrap()
}

/// Waits until the statement's only value is true.
pub(crate) async fn until(queue: &Queue, sql: &'static str) {
    eventually(sql, async || one::<(bool,)>(queue, sql).await.0).await;
}

/// Waits until that is so, for 20 s.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let waits = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), waits)
        .await
        .unwrap_or_else(|_| panic!("in 20 s it did not come to be: {what}"));
}
