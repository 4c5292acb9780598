use std::fmt;

/// What a [`Listener`](crate::Listener) hears.
#[derive(Debug, Clone)]
pub enum Heard {
    /// Somebody notified one of the channels.
    Notification(Notification),
    /// The connection was lost, and there is another one which listens. What was notified in between is missed: look for
    /// yourself. What is notified from now on comes.
    Reconnected,
}

/// What somebody told by `NOTIFY` or `pg_notify`: whoever can connect can do so. `Debug` does not show the payload.
#[derive(Clone)]
pub struct Notification(pub(crate) tokio_postgres::Notification);

impl Notification {
    /// The channel, as it was named to the listener.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.0.channel()
    }

    /// What was said: empty where nothing was. Postgres takes fewer than 8,000 bytes.
    #[must_use]
    pub fn payload(&self) -> &str {
        self.0.payload()
    }

    /// The server's process that notified, which is what `pg_backend_pid()` says on that connection.
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.0.process_id()
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("channel", &self.channel())
            .field("payload_bytes", &self.payload().len())
            .field("process_id", &self.process_id())
            .finish()
    }
}
