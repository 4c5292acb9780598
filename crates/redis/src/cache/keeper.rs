//! The two tasks of a store, which end with it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use fred::{
    interfaces::{EventInterface, TrackingInterface},
    types::client::Invalidation,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{MissedTickBehavior, interval},
};

use crate::cache::{StoreError, keys::Meaning, link::Link, request::Runner};

/// How often Redis is asked for what was invalidated at large, though it did not tell of anything: the driver drops the message
/// that tells of `FLUSHALL`.
const PERIOD: Duration = Duration::from_secs(1);

/// Has Redis tell each connection of what others write, and learns which tags were invalidated.
pub(super) async fn keep<K>(link: Arc<Link<K>>, runner: Runner) {
    let (mut made, mut lost) = (link.client.reconnect_rx(), link.client.error_rx());
    let mut run = String::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if link.is_up() {
            let connection = link.connection();
            let kept = if link.telling().is_none() {
                begin(&link, &runner, connection, &mut run).await
            } else {
                // Also where nobody asks the store for anything: what was loaded without it must not stay.
                catch_up(&link, &runner, &run).await.inspect(|()| link.succeeded_late())
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "redis: nothing is known of what other processes write to the cache");
                // Whoever waits asks again, and finds out.
                link.waiters.wake_all();
            }
        }
        let is_gone = tokio::select! {
            made = made.recv() => matches!(made, Err(RecvError::Closed)),
            lost = lost.recv() => {
                link.is_lost();
                matches!(lost, Err(RecvError::Closed))
            }
            () = link.moved.notified() => false,
            _ = ticks.tick() => false,
        };
        if is_gone {
            return;
        }
    }
}

async fn begin<K>(
    link: &Link<K>,
    runner: &Runner,
    connection: u64,
    run: &mut String,
) -> Result<(), StoreError> {
    // Also of what this connection writes itself: Redis would tell it nothing of what it evicts, or ceases to remember, while
    // it carries out its commands.
    let tracking = link.client.start_tracking(Vec::<String>::new(), false, false, false, false);
    tracking.await.map_err(crate::Error::from)?;
    *run = runner.server_run().await?;
    catch_up(link, runner, run).await?;
    link.tells(connection);
    Ok(())
}

async fn catch_up<K>(link: &Link<K>, runner: &Runner, run: &str) -> Result<(), StoreError> {
    let (asked, keys) = (link.era(), &runner.keys);
    let known = asked.unwrap_or_default();
    let args = vec![known.birth.into(), known.number.into(), keys.list.clone().into(), run.into()];
    let answer = runner.run("since", &[&keys.era], args).await?;
    let (era, is_known) = (answer.era, answer.code == 1);
    let tags = if is_known { answer.tags() } else { None };
    link.catch_up(asked, era, tags.as_deref());
    Ok(())
}

/// Hears what Redis tells.
pub(super) async fn hear<K: FromStr>(link: Arc<Link<K>>, runner: Runner, mut told: Receiver<Invalidation>) {
    // The connection that has written what is heard of next.
    let mut writer = None;
    loop {
        match told.recv().await {
            Ok(told) => {
                for key in &told.keys {
                    // The user's functions are called.
                    let heard = AssertUnwindSafe(|| heard(&link, &runner, key.as_bytes(), writer));
                    writer = catch_unwind(heard).unwrap_or_else(|_panic| {
                        link.forget_all();
                        None
                    });
                }
            }
            Err(RecvError::Lagged(_)) => {
                writer = None;
                link.forget_all();
                link.waiters.wake_all();
                link.moved.notify_one();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// This key of Redis was written, by this connection of ours where there is one. Answers who has written the next one.
fn heard<K: FromStr>(link: &Link<K>, runner: &Runner, key: &[u8], writer: Option<u64>) -> Option<u64> {
    // Whoever wrote it knows. The mark of a connection that was lost is nobody's.
    if writer.is_some() && runner.keys.is_entry(key) && writer == Some(link.connection()) {
        return None;
    }
    match runner.keys.meaning(key) {
        Meaning::Own(connection) => return Some(connection),
        Meaning::Entry(key) => link.forget(&key),
        // One whose text is not read back: it is unknown which.
        Meaning::Unreadable => link.forget_all(),
        Meaning::Lock => link.waiters.wake(key),
        Meaning::Era => link.moved.notify_one(),
        Meaning::Foreign => {}
    }
    None
}
