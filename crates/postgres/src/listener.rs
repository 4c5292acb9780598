mod channel;
mod heard;
mod inbox;

pub use self::heard::{Heard, Notification};

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::{Deadline, Metric, Observe, Origin, Reason, Value, WeakObserve};
use futures_util::Stream;
use tokio::{task::JoinHandle, time::Instant};

use self::{
    channel::Channel,
    inbox::{Delivery, Inbox},
};
use crate::{
    ConnectError, Error, PostgresConfig,
    session::{Session, keep},
    within::{Late, within},
};

/// Hears what is notified on some channels, by `LISTEN` on a connection of its own, which is made again when it is lost.
///
/// It is also a [`Stream`]. Dropped, the connection ends. See the [crate's documentation](crate).
pub struct Listener {
    channels: Channels,
    task: JoinHandle<()>,
}

impl Listener {
    /// Connects and listens: what is notified after this has returned is heard. Channels are written as they are, without
    /// quotes: any name of 1 to 63 bytes. To listen to `orders` is `LISTEN orders`, to `Orders` it is `LISTEN "Orders"`.
    ///
    /// Of the configuration it takes the URL, the name and the create timeout, which is for connecting, and then for the
    /// answer to `LISTEN`.
    ///
    /// # Errors
    /// If a name cannot be, before anything is sent; if there is no connection in time, or before the [`Deadline`]; if the
    /// server refuses, which a standby does.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancellation
    /// Dropped unfinished, the connection ends.
    pub async fn connect<C: AsRef<str>>(
        config: &PostgresConfig,
        channels: impl IntoIterator<Item = C>,
    ) -> Result<Self, Error> {
        let origin = Origin::new("postgres", &config.name);
        let channels = channels.into_iter().map(|name| channel(origin, name.as_ref()));
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        if Deadline::has_expired() {
            return Err(origin.reject(Reason::DeadlineExceeded).into());
        }
        let inbox = Arc::new(Inbox::new(origin, config.connect_timeout, channels.into_iter()));
        let ear = Delivery(Arc::clone(&inbox));
        let since = Instant::now();
        let session =
            within(None, Session::tuned(config, origin, &ear)).await.map_err(|Late(deadline)| {
                let limit = deadline.instant().saturating_duration_since(since);
                Error::Connect { instance: origin, cause: ConnectError::TimedOut(limit) }
            })??;
        inbox.connect();
        let task = tokio::spawn(keep(config.clone(), origin, session, ear));
        Ok(Self { channels: Channels(inbox), task })
    }

    /// The next thing that is heard, in the order in which the server tells it. It waits for as long as nothing is: a
    /// [`Deadline`] does not end it. `None` when the runtime has ended on which it was connected, and never before.
    ///
    /// # Cancellation
    /// Dropped unfinished, nothing is lost.
    pub async fn next(&mut self) -> Option<Heard> {
        poll_fn(|cx| self.channels.0.poll_next(cx)).await
    }

    /// A handle by which others say what is listened to, while somebody waits for what is [`next`](Self::next).
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels.clone()
    }

    /// As [`Channels::listen`].
    ///
    /// # Errors
    /// The same.
    pub async fn listen(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.channels.listen(channel).await
    }

    /// As [`Channels::unlisten`].
    ///
    /// # Errors
    /// The same.
    pub async fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        self.channels.unlisten(channel).await
    }

    /// Whether it listens at this moment, as far as it is known. For health checks.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.channels.is_connected()
    }
}

impl Stream for Listener {
    type Item = Heard;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        self.channels.0.poll_next(cx)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a [`Listener`] listens to, as a handle: clones are the same. It does not keep the listener alive.
#[derive(Clone)]
pub struct Channels(Arc<Inbox>);

impl Channels {
    /// Listens to this one too: from now on, what is notified there is heard, or [`Heard::Reconnected`] is. So it is done at
    /// once while there is no connection; the next one does it. Each is kept until [`unlisten`](Self::unlisten), however often it
    /// was listened to.
    ///
    /// The answer comes behind all that was notified before it. Where the reader has left no room for that for 2 s, because it
    /// is he who waits here, the connection is given up and made again.
    ///
    /// # Errors
    /// If the name cannot be, before anything is sent; if the server refuses, which it only does for what the database's
    /// encoding does not have (wanted while there is no connection, such a channel is told by `tracing` and left out); if a
    /// [`Deadline`] passes before the answer comes; `Closed` if the listener is gone.
    ///
    /// # Cancellation
    /// Dropped unfinished, or past the deadline, it is not listened to, if it was not before.
    pub async fn listen(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        let channel = self::channel(self.0.origin, channel.as_ref())?;
        self.in_time(self.0.listen(channel)).await
    }

    /// Does not listen to this one any more: nothing of it is heard from now on. Where it was not listened to, nothing happens.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    ///
    /// # Cancellation
    /// Dropped unfinished, or past the deadline, it is done all the same.
    pub async fn unlisten(&self, channel: impl AsRef<str>) -> Result<(), Error> {
        let channel = self::channel(self.0.origin, channel.as_ref())?;
        self.in_time(self.0.unlisten(channel)).await
    }

    /// As [`Listener::is_connected`].
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.is_connected()
    }

    async fn in_time(&self, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let late = || Error::from(self.0.origin.reject(Reason::DeadlineExceeded));
        if Deadline::has_expired() {
            return Err(late());
        }
        within(None, work).await.map_err(|_| late())?
    }
}

fn channel(instance: Origin, name: &str) -> Result<Channel, Error> {
    Channel::new(name).map_err(|cause| Error::Query { instance, cause })
}

/// `connected` (0 or 1) and `unread` (what waits for the reader) are gauges, `notifications` and `reconnects` counters.
impl Observe for Channels {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let inbox = &self.0;
        visit(Metric::new("connected", Value::Gauge(f64::from(u8::from(inbox.is_connected())))));
        // Exact up to 2^53.
        #[allow(clippy::cast_precision_loss)]
        visit(Metric::new("unread", Value::Gauge(inbox.unread() as f64)));
        for (name, counter) in [("notifications", &inbox.notifications), ("reconnects", &inbox.reconnects)] {
            visit(Metric::new(name, Value::Counter(counter.load(Relaxed))));
        }
    }
}

/// As [`Channels`] observes.
impl Observe for Listener {
    fn origin(&self) -> Origin {
        self.channels.origin()
    }

    fn downgrade(&self) -> WeakObserve {
        self.channels.downgrade()
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.channels.observe(visit);
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.origin.name();
        f.debug_struct("Channels").field("name", &name).field("is_connected", &self.is_connected()).finish()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.channels.0.origin.name();
        f.debug_struct("Listener").field("name", &name).field("is_connected", &self.is_connected()).finish()
    }
}
