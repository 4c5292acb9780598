use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Deadline, Decision, Origin, Reason, Rejected, Setting};
use fred::{
    clients::{Client, Pool},
    error::{Error as DriverError, ErrorKind},
    interfaces::ClientLike,
    types::{ConnectHandle, Value, config::Options},
};
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout},
};

use crate::{
    command::Command, config::RedisConfig, connection::Connection, error::Error, outgoing, ticket::Ticket,
};

/// How often a repeatable command is sent at most, in all.
const ATTEMPTS: u32 = 3;

/// How often a command is sent at most, in all, because the node of a cluster that got it sends it elsewhere.
const DIRECTIONS: u32 = 6;

/// What all clones of a client have in common.
pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) server: String,
    pub(crate) settings: Box<[Setting]>,
    pub(crate) pool: Pool,
    pub(crate) connections: Box<[Connection]>,
    turn: AtomicUsize,
    command_timeout: Duration,
    clustered: bool,
    pub(crate) given_up: AtomicU64,
    closed: AtomicBool,
    ended: OnceCell<()>,
    tasks: Mutex<Tasks>,
}

impl Shared {
    pub(crate) async fn connect(config: RedisConfig) -> Result<Arc<Self>, Error> {
        let (driver, performance, connection) = config.driver();
        let clients: Vec<_> = (0..config.pool_size)
            .map(|_| {
                let (performance, connection) = (Some(performance.clone()), Some(connection.clone()));
                Client::new(driver.clone(), performance, connection, Some(config.policy()))
            })
            .collect();
        let shared = Arc::new(Self {
            origin: Origin::new("redis", &config.name),
            server: config.server(),
            settings: config.settings(),
            connections: clients.iter().map(|client| Connection::new(client.clone(), &config)).collect(),
            pool: Pool::from_clients(clients)?,
            turn: AtomicUsize::new(0),
            command_timeout: config.command_timeout,
            clustered: driver.server.is_clustered(),
            given_up: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ended: OnceCell::new(),
            tasks: Mutex::default(),
        });
        // From here on a failure, and a dropped future, end the tasks by dropping `shared`.
        for client in shared.pool.clients() {
            let task = if config.lazy {
                client.connect()
            } else {
                let connected = timeout(config.connect_timeout, client.init()).await;
                let too_late = |_elapsed| Err(DriverError::new(ErrorKind::Timeout, "no connection in time"));
                connected.unwrap_or_else(too_late)?
            };
            shared.tasks().0.push(task);
        }
        Ok(shared)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check(&self) -> Result<(), Rejected> {
        if self.closed.load(Relaxed) {
            return Err(self.origin.reject(Reason::Closed));
        }
        if Deadline::has_expired() {
            return Err(self.origin.reject(Reason::DeadlineExceeded));
        }
        Ok(())
    }

    /// The next one that is up, in turn; the next one where none is.
    fn connection(&self) -> &Connection {
        let first = match self.connections.len() {
            1 => 0,
            count => self.turn.fetch_add(1, Relaxed) % count,
        };
        let (behind, ahead) = self.connections.split_at(first);
        let up = ahead.iter().chain(behind).find(|connection| connection.client.is_connected());
        up.unwrap_or(&self.connections[first])
    }

    pub(crate) async fn run(self: Arc<Self>, command: Command) -> Result<Value, Error> {
        let remaining = Deadline::current().map(Deadline::remaining);
        let limited_by_deadline = remaining.is_some_and(|remaining| remaining < self.command_timeout);
        let limit = remaining.map_or(self.command_timeout, |remaining| remaining.min(self.command_timeout));
        if limit.is_zero() {
            return Err(self.origin.reject(Reason::DeadlineExceeded).into());
        }
        let attempts = if command.is_repeatable() { ATTEMPTS } else { 1 };
        let key = command.key();
        let (name, mut args) = command.into_parts();
        let start = Instant::now();
        let (mut left, mut direction) = (limit, 1);
        loop {
            let options = Options {
                timeout: Some(left),
                max_attempts: Some(attempts),
                // The driver looks here, and not at what the command itself says.
                cluster_hash: Some(key.clone()),
                ..Options::default()
            };
            let connection = self.connection();
            let Some(ticket) = connection.admit(name.clone()) else {
                Decision::note(self.origin, "refused", || connection.in_words());
                return Err(self.origin.reject(Reason::Overloaded).into());
            };
            let unanswered = Arc::downgrade(&ticket);
            let args = if self.clustered { args.clone() } else { std::mem::take(&mut args) };
            let client = connection.client.with_options(&options);
            let error = match outgoing::send(&client, self.clustered, ticket, key.clone(), args).await {
                Ok(answer) => {
                    connection.silence.broken();
                    return answer;
                }
                Err(error) => error,
            };
            left = limit.saturating_sub(start.elapsed());
            if !is_redirection(&error) || direction == DIRECTIONS || left.is_zero() {
                return Err(self.failure(connection, &unanswered, &error, limited_by_deadline));
            }
            direction += 1;
            Decision::note(self.origin, "redirected", || {
                format!("the cluster's node has not this key: attempt {direction} of {DIRECTIONS}")
            });
        }
    }

    fn failure(
        &self,
        connection: &Connection,
        unanswered: &Weak<Ticket>,
        error: &DriverError,
        limited_by_deadline: bool,
    ) -> Error {
        match error.kind() {
            ErrorKind::Timeout => {
                let connected = connection.client.is_connected();
                if connected && connection.silence.heard(unanswered, Instant::now()) {
                    self.give_up(connection.client.clone());
                }
                // Where the server is away, it is not for the caller's impatience that there was no answer.
                let impatient = limited_by_deadline && connected;
                Decision::note(self.origin, "gave_up", || {
                    let limit = self.command_timeout;
                    let up = if impatient {
                        "the caller's deadline passed".into()
                    } else {
                        format!("no answer in time, {limit:.1?} at most")
                    };
                    let state = if connected { "" } else { ", and the connection is down" };
                    format!("{up}{state}: {}", connection.in_words())
                });
                let reason = if impatient { Reason::DeadlineExceeded } else { Reason::TimedOut };
                self.origin.reject(reason).after_sending().into()
            }
            ErrorKind::Backpressure => self.origin.reject(Reason::Overloaded).into(),
            _ if self.closed.load(Relaxed) => self.origin.reject(Reason::Closed).after_sending().into(),
            _ => error.clone().into(),
        }
    }

    /// Has a connection made anew.
    fn give_up(&self, client: Client) {
        self.given_up.fetch_add(1, Relaxed);
        tracing::warn!(
            name = self.origin.name(),
            server = %self.server,
            "redis: commands time out and nothing is answered; the connection is made anew"
        );
        tokio::spawn(async move {
            // Its failure is another attempt's beginning.
            let _ = client.force_reconnection().await;
        });
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Relaxed);
        self.ended.get_or_init(|| self.end()).await;
    }

    async fn end(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        // Each has its time limit; what is not done by then is cut off when the tasks are dropped.
        let _ = timeout(self.command_timeout, self.pool.quit()).await;
        let _ = timeout(self.command_timeout, async {
            for task in &mut tasks.0 {
                let _ = task.await;
            }
        })
        .await;
    }
}

/// The connections' tasks. Dropped, it ends them: each holds itself, and would go on for ever.
#[derive(Default)]
struct Tasks(Vec<ConnectHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A node of a cluster did not carry the command out: it belongs to another, which the driver knows of by now.
fn is_redirection(error: &DriverError) -> bool {
    *error.kind() == ErrorKind::Routing && error.details() == "Too many redirections."
}
