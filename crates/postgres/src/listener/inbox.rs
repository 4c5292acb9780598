//! What the task that has the connection and those who have a handle share.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{Origin, Reason};
use futures_util::FutureExt;
use tokio_postgres::{Client, error::SqlState};

use crate::{
    Error, Heard, Notification,
    listener::channel::Channel,
    session::{CHECK_LIMIT, Ear, Trouble},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The most that is kept for the reader: 2 MiB of the longest payloads.
pub(crate) const MOST: usize = if cfg!(all(test, buttress_loom)) { 2 } else { 256 };
/// For how long the reader may leave no room before the connection is given up: the server keeps for all its databases
/// together what one listener does not read, and refuses every `NOTIFY` when it has 8 GiB.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Inbox {
    pub(crate) origin: Origin,
    limit: Duration,
    pub(crate) notifications: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    heard: VecDeque<Heard>,
    /// Who waits for something to be heard.
    reader: Option<Waker>,
    /// Who waits for room, or for a caller that is in a hurry.
    task: Option<Waker>,
    /// What is listened to, or will be by the next connection.
    wanted: BTreeMap<Channel, Wanted>,
    calls: u64,
    /// Calls that wait for the server's answer, which comes behind all that was notified before.
    asking: usize,
    /// Of the connection there is, or was: then what is asked by it fails.
    client: Option<Arc<Client>>,
    connected: bool,
    /// Something may have been missed, and the reader was not told so yet.
    missed: bool,
    closed: bool,
}

/// A channel that is listened to, since the call of this number.
struct Wanted {
    since: u64,
    /// Calls that were not answered yet. If none is, it is not wanted any more.
    unanswered: usize,
    is_kept: bool,
}

type Answer = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

impl Inbox {
    pub(crate) fn new(origin: Origin, limit: Duration, channels: impl Iterator<Item = Channel>) -> Self {
        let wanted =
            channels.map(|channel| (channel, Wanted { since: 0, unanswered: 0, is_kept: true })).collect();
        Self {
            origin,
            limit,
            notifications: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            state: Mutex::new(State { wanted, ..State::default() }),
        }
    }

    /// What was heard first. None when it is over.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        let mut state = self.state();
        match state.heard.pop_front() {
            Some(heard) => {
                // Not for each one, lest the two take turns.
                if state.heard.len() <= MOST / 2 {
                    state.wake_task();
                }
                Poll::Ready(Some(heard))
            }
            None if state.closed => Poll::Ready(None),
            None => {
                let before = state.reader.replace(cx.waker().clone());
                drop(state);
                // Not while it is locked, as in `tell`.
                drop(before);
                Poll::Pending
            }
        }
    }

    pub(crate) fn unread(&self) -> usize {
        self.state().heard.len()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state().connected
    }

    pub(crate) fn connect(&self) {
        self.state().connected = true;
    }

    pub(crate) async fn listen(&self, channel: Channel) -> Result<(), Error> {
        let (answer, wish) = {
            let mut state = self.open()?;
            let wish = state.wish(self, channel);
            (state.ask(format!("listen {}", wish.channel.quoted())), wish)
        };
        self.answered(answer).await?;
        wish.grant();
        Ok(())
    }

    pub(crate) async fn unlisten(&self, channel: Channel) -> Result<(), Error> {
        let answer = {
            let mut state = self.open()?;
            let sql = format!("unlisten {}", channel.quoted());
            state.wanted.remove(&channel);
            state
                .heard
                .retain(|heard| !matches!(heard, Heard::Notification(told) if channel.is(told.channel())));
            state.wake_task();
            state.ask(sql)
        };
        self.answered(answer).await
    }

    /// Where there is no connection, or none any more, the next one does what is wanted.
    async fn answered(&self, answer: Option<Answer>) -> Result<(), Error> {
        let Some(answer) = answer else { return Ok(()) };
        let _asking = Asking::new(self);
        let Err(cause) = answer.await else { return Ok(()) };
        let error = Error::of_statement(self.origin, cause, false);
        if !error.breaks_connection() {
            return Err(error);
        }
        self.open().map(drop)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.closed { Err(self.origin.reject(Reason::Closed).into()) } else { Ok(state) }
    }

    /// Wakes the reader if there is something for him: not while it is locked, since the last of a task's wakers takes the
    /// task with it, in which another call may be that locks this to say that it is gone.
    fn tell(&self, tell: impl FnOnce(&mut State)) {
        let mut state = self.state();
        tell(&mut state);
        let is_news = state.closed || !state.heard.is_empty();
        let reader = if is_news { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Somebody wants it, and has no answer yet.
    fn wish<'a>(&mut self, inbox: &'a Inbox, channel: Channel) -> Wish<'a> {
        self.calls += 1;
        let fresh = Wanted { since: self.calls, unanswered: 0, is_kept: false };
        let wanted = self.wanted.entry(channel.clone()).or_insert(fresh);
        wanted.unanswered += 1;
        Wish { inbox, since: wanted.since, channel, is_granted: false }
    }

    /// Asks for it at its place in the order: the driver sends requests in the order in which they are first polled.
    fn ask(&self, sql: String) -> Option<Answer> {
        let client = Arc::clone(self.client.as_ref()?);
        let mut answer: Answer = Box::pin(async move { client.batch_execute(&sql).await });
        match (&mut answer).now_or_never() {
            None => Some(answer),
            Some(at_once) => Some(Box::pin(async move { at_once })),
        }
    }

    /// What is told on a new connection comes behind the word that it is one.
    fn tell_what_is_missed(&mut self) {
        if mem::take(&mut self.missed) {
            self.heard.push_back(Heard::Reconnected);
        }
    }

    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// A call that waits for its answer.
struct Asking<'a>(&'a Inbox);

impl<'a> Asking<'a> {
    fn new(inbox: &'a Inbox) -> Self {
        let mut state = inbox.state();
        state.asking += 1;
        state.wake_task();
        drop(state);
        Self(inbox)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.state().asking -= 1;
    }
}

/// A call of `listen`. Dropped before it is answered, or if it is refused, it wanted nothing.
struct Wish<'a> {
    inbox: &'a Inbox,
    channel: Channel,
    since: u64,
    is_granted: bool,
}

impl Wish<'_> {
    fn grant(mut self) {
        self.is_granted = true;
    }
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        let Some(wanted) = state.wanted.get_mut(&self.channel) else { return };
        // Else it was given up meanwhile, and somebody wants it anew.
        if wanted.since == self.since {
            wanted.unanswered -= 1;
            wanted.is_kept |= self.is_granted;
            if !wanted.is_kept && wanted.unanswered == 0 {
                state.wanted.remove(&self.channel);
                // It is sent; there is nobody whom the answer could tell anything.
                drop(state.ask(format!("unlisten {}", self.channel.quoted())));
            }
        }
    }
}

/// The task's part. Dropped in whatever way, be it that the runtime ends, the reader is told that it is over.
pub(crate) struct Delivery(pub(crate) Arc<Inbox>);

impl Ear for Delivery {
    const DEAF: &'static str = "notifications are not heard";

    fn tuning_limit(&self) -> Duration {
        self.0.limit
    }

    async fn tune(&self, client: &Arc<Client>) -> Result<(), Error> {
        let (answer, is_first) = {
            let mut state = self.0.state();
            // From here on, whoever wants another channel asks for it behind this.
            state.client = Some(Arc::clone(client));
            let all = state.wanted.keys().map(|channel| format!("listen {};", channel.quoted())).collect();
            (state.ask(all).expect("there is a client"), !state.missed)
        };
        match answer.await {
            Err(cause) if !is_first && is_untranslatable(&cause) => self.tune_one_by_one().await,
            outcome => outcome.map_err(|cause| self.failed(cause)),
        }
    }

    async fn check(&self, client: &Client) -> Result<(), Trouble> {
        client.batch_execute("").await.map_err(|cause| Trouble::Found(self.failed(cause).to_string()))
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if state.heard.len() < MOST {
            return Poll::Ready(());
        }
        state.task = Some(cx.waker().clone());
        Poll::Pending
    }

    fn patience(&self) -> Duration {
        let state = self.0.state();
        // It may be the reader himself who waits for the answer, or for the first connection.
        if state.asking > 0 || !state.connected { CHECK_LIMIT } else { PATIENCE }
    }

    fn hear(&self, notification: tokio_postgres::Notification) {
        self.0.tell(|state| {
            // What was on its way when the channel was given up.
            if state.wanted.contains_key(notification.channel()) {
                self.0.notifications.fetch_add(1, Relaxed);
                state.tell_what_is_missed();
                state.heard.push_back(Heard::Notification(Notification(notification)));
            }
        });
    }

    fn lose(&self) {
        let mut state = self.0.state();
        state.client = None;
        state.connected = false;
        state.missed = true;
    }

    fn find(&self) -> bool {
        self.0.reconnects.fetch_add(1, Relaxed);
        self.0.tell(|state| {
            state.connected = true;
            state.tell_what_is_missed();
        });
        true
    }
}

impl Delivery {
    /// A name that the database's encoding does not have, and that was wanted while there was no connection, must not keep
    /// all others from being heard.
    async fn tune_one_by_one(&self) -> Result<(), Error> {
        let all: Vec<Channel> = self.0.state().wanted.keys().cloned().collect();
        for channel in all {
            let answer = {
                let state = self.0.state();
                let sql = format!("listen {}", channel.quoted());
                state.wanted.contains_key(&channel).then(|| state.ask(sql)).flatten()
            };
            let Some(answer) = answer else { continue };
            match answer.await {
                Err(cause) if is_untranslatable(&cause) => {
                    self.0.state().wanted.remove(&channel);
                    let why = self.failed(cause);
                    tracing::error!(instance = self.0.origin.name(), ?channel, %why, "a channel is not listened to");
                }
                outcome => outcome.map_err(|cause| self.failed(cause))?,
            }
        }
        Ok(())
    }

    fn failed(&self, cause: tokio_postgres::Error) -> Error {
        Error::of_statement(self.0.origin, cause, false)
    }
}

fn is_untranslatable(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER)
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.tell(|state| {
            state.client = None;
            state.connected = false;
            state.closed = true;
        });
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
