use std::{borrow::Cow, sync::Arc};

use fred::{clients::Client, interfaces::MetricsInterface};

use crate::{
    config::RedisConfig,
    silence::Silence,
    sync::{AtomicUsize, Ordering::Relaxed},
    ticket::Ticket,
};

/// One of the driver's clients, and what is known of the commands on it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) silence: Silence,
    unanswered: Arc<AtomicUsize>,
    max_queued: usize,
    max_in_flight: usize,
}

impl Connection {
    pub(crate) fn new(client: Client, config: &RedisConfig) -> Self {
        Self {
            client,
            silence: Silence::new(config.silence()),
            unanswered: Arc::new(AtomicUsize::new(0)),
            max_queued: config.max_queued,
            max_in_flight: config.max_in_flight,
        }
    }

    /// A ticket for one more command; none where too many wait to be sent, or for their answer.
    pub(crate) fn admit(&self, name: Cow<'static, str>) -> Option<Arc<Ticket>> {
        let queued = self.client.command_queue_len();
        if queued >= self.max_queued {
            return None;
        }
        Ticket::admit(name, &self.unanswered, queued, self.max_in_flight)
    }

    /// For a decision.
    #[cold]
    pub(crate) fn in_words(&self) -> String {
        let Self { max_queued, max_in_flight, .. } = self;
        let (queued, in_flight) = (self.client.command_queue_len(), self.in_flight());
        format!("{queued} of {max_queued} commands queued, {in_flight} of {max_in_flight} in flight")
    }

    /// How many commands were sent and not answered, those included that nobody waits for any more.
    pub(crate) fn in_flight(&self) -> usize {
        self.unanswered.load(Relaxed).saturating_sub(self.client.command_queue_len())
    }
}
