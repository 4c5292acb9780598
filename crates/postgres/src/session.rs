//! A connection that listens: how it is made, looked after, and made again when it was lost.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Backoff, Jitter, Origin};
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client, Connection, Notification, Socket, tls::MakeTlsConnect};

use crate::{ConnectError, Error, PostgresConfig, said::Said, tls::Tls};

/// How often a connection is looked after.
pub(crate) const CHECK_EVERY: Duration = Duration::from_secs(5);
/// For the answer to that.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_secs(2);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Who hears what is told on a connection.
pub(crate) trait Ear: Send + Sync + 'static {
    /// What its being lost means, for whoever reads the log.
    const DEAF: &'static str;

    /// For all that [`tune`](Self::tune) asks.
    fn tuning_limit(&self) -> Duration;

    /// Lets a new connection listen.
    fn tune(&self, client: &Arc<Client>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Asks whether all is well. On a connection that is dead without a word, it never ends.
    fn check(&self, client: &Client) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Whether one more can be heard. Until then nothing is read from the connection.
    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// For how long there may be no room before the connection is given up, where there is not always room.
    fn patience(&self) -> Duration {
        CHECK_LIMIT
    }

    fn hear(&self, notification: Notification);

    /// The connection is lost.
    fn lose(&self);

    /// There is another one, which listens. Says whether it is wanted.
    fn find(&self) -> bool;
}

/// What the driver polls. Made here and in [`dial`] alone.
type Wire = Connection<Socket, <Tls as MakeTlsConnect<Socket>>::Stream>;

async fn dial(config: &PostgresConfig) -> Result<(Client, Wire), tokio_postgres::Error> {
    config.driver.connect(config.tls.clone()).await
}

/// A connection of its own, beside the pool.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    line: Line,
}

impl Session {
    pub(crate) async fn open(config: &PostgresConfig, instance: Origin) -> Result<Self, Error> {
        let limit = config.connect_timeout;
        let failed = |cause| Error::Connect { instance, cause };
        let connected = timeout(limit, dial(config)).await;
        let connected = connected.map_err(|_| failed(ConnectError::TimedOut(limit)))?;
        let (client, wire) = connected.map_err(|cause| failed(ConnectError::Driver(cause.into())))?;
        let line = Line { wire: Ok(wire), full_since: None, alarm: Box::pin(sleep(Duration::ZERO)) };
        Ok(Self { client: Arc::new(client), line })
    }

    /// One that listens.
    pub(crate) async fn tuned(
        config: &PostgresConfig,
        instance: Origin,
        ear: &impl Ear,
    ) -> Result<Self, Error> {
        let mut session = Self::open(config, instance).await?;
        let client = Arc::clone(&session.client);
        session.ask(instance, ear, ear.tuning_limit(), ear.tune(&client)).await?;
        Ok(session)
    }

    /// The outcome, if it comes in time.
    pub(crate) async fn ask<T>(
        &mut self,
        instance: Origin,
        ear: &impl Ear,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answer = self.line.ask(ear, limit, work).await;
        answer.unwrap_or_else(|_| Err(Error::Connect { instance, cause: ConnectError::TimedOut(limit) }))
    }

    /// Hears until something is wrong.
    async fn attend(&mut self, ear: &impl Ear) -> Trouble {
        loop {
            if let Err(trouble) = self.line.hear(ear, CHECK_EVERY).await {
                return trouble;
            }
            let checked = self.line.ask(ear, CHECK_LIMIT, ear.check(&self.client)).await;
            if let Err(trouble) = checked.and_then(|outcome| outcome) {
                // What was asked only tells that the connection is closed.
                return self.line.end().unwrap_or(trouble);
            }
        }
    }
}

/// Listens until the next connection is not wanted any more, or this is dropped.
pub(crate) async fn keep<E: Ear>(config: PostgresConfig, instance: Origin, mut session: Session, ear: E) {
    let backoff = Backoff::exponential(BACKOFF.0, BACKOFF.1).expect("it grows").with_jitter(Jitter::Equal);
    let mut delays = backoff.delays();
    loop {
        let since = Instant::now();
        let mut why = session.attend(&ear).await.to_string();
        ear.lose();
        drop(session);
        tracing::warn!(instance = instance.name(), %why, "{}", E::DEAF);
        // One that is lost as soon as it is made is not made ten times a second.
        if since.elapsed() >= CHECK_EVERY {
            delays = backoff.delays();
        }
        session = loop {
            sleep(delays.next().unwrap_or(BACKOFF.1)).await;
            poll_fn(|cx| ear.poll_room(cx)).await;
            match Session::tuned(&config, instance, &ear).await {
                Ok(session) => break session,
                Err(error) => {
                    // Once for each reason: it is tried for ever.
                    let error = error.to_string();
                    if mem::replace(&mut why, error) == why {
                        tracing::debug!(instance = instance.name(), %why, "still: {}", E::DEAF);
                    } else {
                        tracing::warn!(instance = instance.name(), %why, "still: {}", E::DEAF);
                    }
                }
            }
        };
        if !ear.find() {
            return;
        }
        tracing::info!(instance = instance.name(), "listens again");
    }
}

/// What must be polled for anything to be asked or heard.
struct Line {
    /// Or why it has ended. Whoever waits for an answer is told so when it is dropped.
    wire: Result<Wire, Option<tokio_postgres::Error>>,
    full_since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// All that came was heard.
    Quiet,
    /// What came cannot be heard yet.
    Full,
    /// That has lasted too long.
    Behind,
    Ended,
}

impl Line {
    /// The answer, if it comes in time. Time in which nothing could be read, for want of room, does not count.
    async fn ask<T>(
        &mut self,
        ear: &impl Ear,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        let (mut work, mut time) = (pin!(work), pin!(sleep(limit)));
        let mut was_full = false;
        poll_fn(|cx| {
            let state = self.listen(ear, cx);
            if let Poll::Ready(answer) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            match state {
                State::Behind => return Poll::Ready(Err(Trouble::Behind(ear.patience()))),
                State::Full => {
                    was_full = true;
                    return Poll::Pending;
                }
                State::Quiet | State::Ended if mem::take(&mut was_full) => {
                    time.as_mut().reset(Instant::now() + limit);
                }
                State::Quiet | State::Ended => {}
            }
            // It must ring also where much is told.
            pin!(unconstrained(time.as_mut())).poll(cx).map(|()| Err(Trouble::NoAnswer(limit)))
        })
        .await
    }

    async fn hear(&mut self, ear: &impl Ear, time: Duration) -> Result<(), Trouble> {
        let mut time = pin!(sleep(time));
        poll_fn(|cx| match self.listen(ear, cx) {
            State::Quiet => pin!(unconstrained(time.as_mut())).poll(cx).map(Ok),
            State::Full => Poll::Pending,
            State::Behind => Poll::Ready(Err(Trouble::Behind(ear.patience()))),
            State::Ended => Poll::Ready(Err(self.end().unwrap_or(Trouble::Lost(None)))),
        })
        .await
    }

    /// Why it has ended, if it has.
    fn end(&mut self) -> Option<Trouble> {
        self.wire.as_mut().err().map(|cause| Trouble::Lost(cause.take()))
    }

    fn listen(&mut self, ear: &impl Ear, cx: &mut Context<'_>) -> State {
        while let Ok(wire) = &mut self.wire {
            if ear.poll_room(cx).is_pending() {
                let since = *self.full_since.get_or_insert_with(Instant::now);
                self.alarm.as_mut().reset(since + ear.patience());
                let behind = pin!(unconstrained(self.alarm.as_mut())).poll(cx).is_ready();
                return if behind { State::Behind } else { State::Full };
            }
            self.full_since = None;
            match wire.poll_message(cx) {
                Poll::Pending => return State::Quiet,
                Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => ear.hear(notification),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => self.wire = Err(None),
                Poll::Ready(Some(Err(cause))) => self.wire = Err(Some(cause)),
            }
        }
        State::Ended
    }
}

/// Why a connection is of no more use to its ear.
#[derive(Debug)]
pub(crate) enum Trouble {
    Lost(Option<tokio_postgres::Error>),
    NoAnswer(Duration),
    Behind(Duration),
    /// What the ear found.
    Found(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(None) => f.write_str("the connection was lost"),
            Self::Lost(Some(cause)) => {
                write!(f, "the connection was lost: {}", Said { cause, had_values: false })
            }
            Self::NoAnswer(limit) => write!(f, "the connection gave no answer within {limit:?}"),
            Self::Behind(limit) => {
                write!(f, "what was told was not read for {limit:?}, and the server would have to keep it")
            }
            Self::Found(what) => f.write_str(what),
        }
    }
}
