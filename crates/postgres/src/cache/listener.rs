//! The connection that hears of changes, and the task that keeps it.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, PoisonError, Weak, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Backoff, Jitter, Origin, Reason};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket, tls::NoTlsStream};

use crate::{
    ConnectError, Error, PostgresConfig, Table,
    cache::{
        Shared,
        triggers::{CHANNEL, Triggers},
    },
    within::within,
};

/// How often the connection and the triggers are looked after.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// For the answer to that.
const CHECK_LIMIT: Duration = Duration::from_secs(2);
/// For all that is asked when a connection has been made.
const SETUP_LIMIT: Duration = Duration::from_secs(30);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The task that listens. Dropped, it ends.
pub(crate) struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn listen(
    config: &PostgresConfig,
    shared: &Arc<Shared>,
    tables: &[Table],
) -> Result<(), Error> {
    let instance = Origin::new("postgres", &config.name);
    let cache = Arc::downgrade(shared);
    let session = within(None, Session::listening(config, instance, &cache, tables)).await;
    let session = session.map_err(|_| Error::from(instance.reject(Reason::DeadlineExceeded)))??;

    // Locked, so that of two who call this at once the one whose task stays is the one that counts.
    let mut listener = shared.listener.lock().unwrap_or_else(PoisonError::into_inner);
    let hearing = Hearing { cache, number: shared.versions.hear(tables) };
    *listener = Some(Listener(tokio::spawn(keep(config.clone(), instance, session, hearing))));
    Ok(())
}

pub(crate) async fn remove(config: &PostgresConfig, tables: &[Table]) -> Result<(), Error> {
    let instance = Origin::new("postgres", &config.name);
    let mut session = Session::open(config, instance, &Weak::new()).await?;
    let (triggers, line) = session.split();
    let removed = line.ask(SETUP_LIMIT, triggers.remove(tables)).await;
    removed.unwrap_or_else(|| Err(no_answer(instance, SETUP_LIMIT)))
}

/// Listens until the cache is gone, or another listener has taken its place.
async fn keep(config: PostgresConfig, instance: Origin, mut session: Session, mut hearing: Hearing) {
    let backoff = Backoff::exponential(BACKOFF.0, BACKOFF.1).expect("it grows").with_jitter(Jitter::Equal);
    loop {
        let Err(why) = session.attend().await else { return };
        let (cache, number) = hearing.end();
        tracing::warn!(instance = instance.name(), %why, "changes of tables are not heard: answers are kept for 1 s at most");
        drop(session);
        session = 'connect: {
            for delay in backoff.delays() {
                sleep(delay).await;
                let Some(tables) = cache.upgrade().map(|cache| cache.versions.listened()) else { return };
                match Session::listening(&config, instance, &cache, &tables).await {
                    Ok(session) => break 'connect session,
                    Err(why) => {
                        tracing::debug!(instance = instance.name(), %why, "changes of tables are still not heard")
                    }
                }
            }
            return;
        };
        let Some(shared) = cache.upgrade() else { return };
        if !shared.versions.hear_again(number) {
            return;
        }
        shared.reconnects.fetch_add(1, Relaxed);
        tracing::info!(instance = instance.name(), "changes of tables are heard again");
        hearing = Hearing { cache, number };
    }
}

/// A listener that is connected. Dropped in whatever way, be it that the runtime ends, changes are not heard any more.
struct Hearing {
    cache: Weak<Shared>,
    number: u64,
}

impl Hearing {
    fn end(self) -> (Weak<Shared>, u64) {
        (self.cache.clone(), self.number)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some(shared) = self.cache.upgrade() {
            shared.versions.fall_deaf(self.number);
        }
    }
}

/// A connection of its own.
struct Session {
    client: Client,
    line: Line,
    instance: Origin,
}

impl Session {
    async fn open(config: &PostgresConfig, instance: Origin, cache: &Weak<Shared>) -> Result<Self, Error> {
        let limit = config.create_timeout;
        let failed = |cause| Error::Connect { instance, cause };
        let connected = timeout(limit, config.driver.connect(NoTls)).await;
        let connected = connected.map_err(|_| failed(ConnectError::TimedOut(limit)))?;
        let (client, connection) = connected.map_err(|cause| failed(ConnectError::Driver(cause)))?;
        Ok(Self { client, line: Line { connection: Some(connection), cache: cache.clone() }, instance })
    }

    /// One that hears of changes of these tables.
    async fn listening(
        config: &PostgresConfig,
        instance: Origin,
        cache: &Weak<Shared>,
        tables: &[Table],
    ) -> Result<Self, Error> {
        let mut session = Self::open(config, instance, cache).await?;
        let (triggers, line) = session.split();
        let setup = async {
            triggers.install(tables).await?;
            triggers.listen().await
        };
        line.ask(SETUP_LIMIT, setup).await.unwrap_or_else(|| Err(no_answer(instance, SETUP_LIMIT)))?;
        Ok(session)
    }

    fn split(&mut self) -> (Triggers<'_>, &mut Line) {
        (Triggers { client: &self.client, instance: self.instance }, &mut self.line)
    }

    /// Hears until something is wrong. Ends well when the cache is gone.
    async fn attend(&mut self) -> Result<(), Trouble> {
        let (triggers, line) = self.split();
        loop {
            line.hear(CHECK_EVERY).await?;
            let Some(tables) = line.cache.upgrade().map(|cache| cache.versions.listened()) else {
                return Ok(());
            };
            let checked = line.ask(CHECK_LIMIT, triggers.missing(&tables)).await;
            let missing = checked.ok_or(Trouble::NoAnswer)?.map_err(Trouble::Failed)?;
            // A table that was made anew has no trigger any more.
            if let Some(table) = missing.into_iter().next() {
                return Err(Trouble::NoTrigger(table));
            }
        }
    }
}

fn no_answer(instance: Origin, limit: Duration) -> Error {
    Error::Connect { instance, cause: ConnectError::TimedOut(limit) }
}

/// What must be polled for anything to be asked or heard.
struct Line {
    /// None, when it has ended. Whoever waits for an answer is told so when it is dropped.
    connection: Option<Connection<Socket, NoTlsStream>>,
    cache: Weak<Shared>,
}

impl Line {
    /// The answer, if it comes in time.
    async fn ask<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(timeout(limit, work));
        poll_fn(|cx| {
            self.listen(cx);
            work.as_mut().poll(cx).map(Result::ok)
        })
        .await
    }

    async fn hear(&mut self, time: Duration) -> Result<(), Trouble> {
        let mut time = pin!(sleep(time));
        poll_fn(|cx| {
            self.listen(cx);
            if self.connection.is_none() {
                return Poll::Ready(Err(Trouble::Lost));
            }
            time.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    fn listen(&mut self, cx: &mut Context<'_>) {
        while let Some(connection) = &mut self.connection {
            match connection.poll_message(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => {
                    if notification.channel() == CHANNEL {
                        self.told(notification.payload());
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None | Some(Err(_))) => self.connection = None,
            }
        }
    }

    /// By anybody: whoever can connect can notify.
    fn told(&self, table: &str) {
        let Some(cache) = self.cache.upgrade() else { return };
        cache.notifications.fetch_add(1, Relaxed);
        if !cache.versions.told(table) {
            cache.ignored.fetch_add(1, Relaxed);
        }
    }
}

/// Why a listener does not hear any more.
#[derive(Debug)]
enum Trouble {
    Lost,
    NoAnswer,
    NoTrigger(Table),
    Failed(Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("the connection was lost"),
            Self::NoAnswer => write!(f, "the connection gave no answer within {CHECK_LIMIT:?}"),
            Self::NoTrigger(table) => write!(f, "the trigger of `{table}` is gone"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
