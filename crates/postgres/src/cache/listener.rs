//! The connection that hears of changes, and the task that keeps it.

use std::{
    sync::{Arc, OnceLock, PoisonError, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Origin, Reason};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Notification};

use crate::{
    Error, PostgresConfig, Table,
    cache::{
        Shared,
        triggers::{CHANNEL, Triggers},
    },
    session::{Ear, Session, Trouble, keep},
    within::within,
};

/// For all that is asked when a connection has been made.
const SETUP_LIMIT: Duration = Duration::from_secs(30);

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
    let ear = Changes { cache: Arc::downgrade(shared), instance, number: OnceLock::new() };
    let connect = async {
        let mut session = Session::open(config, instance).await?;
        let client = Arc::clone(&session.client);
        session.ask(instance, &ear, SETUP_LIMIT, set_up(&client, instance, tables)).await?;
        Ok::<_, Error>(session)
    };
    let session = within(None, connect).await;
    let session = session.map_err(|_| Error::from(instance.reject(Reason::DeadlineExceeded)))??;

    // Locked, so that of two who call this at once the one whose task stays is the one that counts.
    let mut listener = shared.listener.lock().unwrap_or_else(PoisonError::into_inner);
    ear.number.get_or_init(|| shared.versions.hear(tables));
    *listener = Some(Listener(tokio::spawn(keep(config.clone(), instance, session, ear))));
    Ok(())
}

pub(crate) async fn remove(config: &PostgresConfig, tables: &[Table]) -> Result<(), Error> {
    let instance = Origin::new("postgres", &config.name);
    let nobody = Changes { cache: Weak::new(), instance, number: OnceLock::new() };
    let mut session = Session::open(config, instance).await?;
    let client = Arc::clone(&session.client);
    let triggers = Triggers { client: &client, instance };
    session.ask(instance, &nobody, SETUP_LIMIT, triggers.remove(tables)).await
}

async fn set_up(client: &Client, instance: Origin, tables: &[Table]) -> Result<(), Error> {
    let triggers = Triggers { client, instance };
    triggers.install(tables).await?;
    triggers.listen().await
}

/// A cache that hears of changes. Dropped in whatever way, be it that the runtime ends, it does not any more.
struct Changes {
    cache: Weak<Shared>,
    instance: Origin,
    /// By which the cache knows it, once it counts.
    number: OnceLock<u64>,
}

impl Changes {
    fn listened(&self) -> Vec<Table> {
        // Without the cache this ends at the next await.
        self.cache.upgrade().map(|cache| cache.versions.listened()).unwrap_or_default()
    }

    fn fall_deaf(&self) {
        if let (Some(shared), Some(number)) = (self.cache.upgrade(), self.number.get()) {
            shared.versions.fall_deaf(*number);
        }
    }
}

impl Ear for Changes {
    const DEAF: &'static str = "changes of tables are not heard: answers are kept for 1 s at most";

    fn tuning_limit(&self) -> Duration {
        SETUP_LIMIT
    }

    async fn tune(&self, client: &Arc<Client>) -> Result<(), Error> {
        set_up(client, self.instance, &self.listened()).await
    }

    async fn check(&self, client: &Client) -> Result<(), Trouble> {
        let triggers = Triggers { client, instance: self.instance };
        let missing = triggers.missing(&self.listened()).await;
        // A table that was made anew has no trigger any more.
        match missing.map_err(|error| Trouble::Found(error.to_string()))?.first() {
            Some(table) => Err(Trouble::Found(format!("the trigger of `{table}` is gone"))),
            None => Ok(()),
        }
    }

    /// By anybody: whoever can connect can notify.
    fn hear(&self, notification: Notification) {
        let Some(cache) = self.cache.upgrade() else { return };
        if notification.channel() != CHANNEL {
            return;
        }
        cache.notifications.fetch_add(1, Relaxed);
        if !cache.versions.told(notification.payload()) {
            cache.ignored.fetch_add(1, Relaxed);
        }
    }

    fn lose(&self) {
        self.fall_deaf();
    }

    fn find(&self) -> bool {
        let (Some(shared), Some(number)) = (self.cache.upgrade(), self.number.get()) else { return false };
        let counts = shared.versions.hear_again(*number);
        if counts {
            shared.reconnects.fetch_add(1, Relaxed);
        }
        counts
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.fall_deaf();
    }
}
