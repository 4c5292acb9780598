use std::{
    fmt,
    future::{Future, poll_fn},
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use buttress_core::{Backoff, Origin};
use futures_core::Stream;
use tokio::{
    task::{AbortHandle, coop},
    time::sleep,
};
use tracing::{debug, error, warn};

use crate::{
    Change,
    gate::{Gate, Passed},
    members::Members,
};

/// The task that carries a source's changes to the members. Dropped, it ends, and the source with it.
///
/// It holds the members: they must not hold it, or nobody would ever drop it.
#[derive(Debug)]
pub(crate) struct Driver(AbortHandle);

impl Driver {
    /// Spawns it. It ends with the source, also with its panic; the members stay. No more than `limit` are let in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn spawn<K, S, D, E>(origin: Origin, members: Members<K, S>, source: D, limit: usize) -> Self
    where
        K: Eq + Hash + Clone + fmt::Display + Send + Sync + 'static,
        S: Send + Sync + 'static,
        D: Stream<Item = Result<Change<K, S>, E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        Self(tokio::spawn(drive(origin.name(), Over(members), source, limit)).abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn drive<K, S, D, E>(name: &'static str, over: Over<K, S>, source: D, limit: usize)
where
    K: Eq + Hash + Clone + fmt::Display,
    D: Stream<Item = Result<Change<K, S>, E>>,
    E: fmt::Display,
{
    let Over(members) = &over;
    match caught(pin!(carry(name, members, source, limit))).await {
        Ok(()) => {
            debug!(
                balance = name,
                endpoints = members.len(),
                "the discovery of endpoints is over: those known stay"
            );
        }
        Err(Panicked) => {
            let endpoints = members.len();
            error!(
                balance = name,
                endpoints, "the discovery of endpoints panicked and is over: those known stay"
            );
        }
    }
}

/// However the task ends, also by its balancer's end or the runtime's, and before it has begun: whoever waits for a first
/// endpoint waits in vain then.
struct Over<K, S>(Members<K, S>);

impl<K, S> Drop for Over<K, S> {
    fn drop(&mut self) {
        self.0.failed();
    }
}

async fn carry<K, S, D, E>(name: &'static str, members: &Members<K, S>, source: D, limit: usize)
where
    K: Eq + Hash + Clone + fmt::Display,
    D: Stream<Item = Result<Change<K, S>, E>>,
    E: fmt::Display,
{
    let mut source = pin!(source);
    let mut gate = Gate::new(limit);
    let mut told = false;
    // A source that fails at once, again and again, must not take a processor for itself,
    let backoff = Backoff::default();
    let mut delays = backoff.delays();
    loop {
        // nor one that always has a change.
        coop::consume_budget().await;
        let change = match poll_fn(|cx| source.as_mut().poll_next(cx)).await {
            Some(Ok(change)) => change,
            Some(Err(error)) => {
                let endpoints = members.len();
                warn!(balance = name, endpoints, %error, "the discovery of endpoints failed: those known stay");
                members.failed();
                sleep(delays.next().unwrap_or_default()).await;
                continue;
            }
            None => return,
        };
        delays = backoff.delays();
        match gate.pass(change) {
            Passed::Through(change) => members.apply(change),
            Passed::InExchange(key, endpoint, change) => {
                // In this order: there is always one.
                members.apply(Change::Insert(key, endpoint));
                members.apply(change);
            }
            Passed::Full if !told => {
                told = true;
                warn!(
                    balance = name,
                    limit, "more endpoints than may be: the first stay, the others wait for a place"
                );
            }
            Passed::Full | Passed::Nothing => {}
        }
        told &= !gate.is_quiet();
    }
}

struct Panicked;

/// A panic of the future, as its result.
async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx: &mut Context<'_>| {
        // It is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}
