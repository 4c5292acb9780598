use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle};

use crate::{Cause, Change, HealthBuilder, NotReady, Report, Signal, Watch, hub::Hub};

/// The health of a process: a handle to the loops that probe its parts.
///
/// Clones are the same. When the last one is dropped the loops are aborted.
#[derive(Clone)]
pub struct Health(pub(crate) Arc<Owner>);

/// Ends the loops with the last handle.
pub(crate) struct Owner {
    pub(crate) hub: Arc<Hub>,
    pub(crate) tasks: Box<[AbortHandle]>,
    /// Every loop holds a receiver.
    pub(crate) alive: watch::Sender<()>,
}

impl Owner {
    fn abort(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Health {
    /// Without any part: ready at once.
    pub fn builder() -> HealthBuilder {
        HealthBuilder::new()
    }

    pub(crate) fn new(owner: Owner) -> Self {
        Self(Arc::new(owner))
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// How all is: what the last results say, and what the passive signals say now. Never waits for a probe.
    #[must_use]
    pub fn report(&self) -> Report {
        self.hub().report()
    }

    /// To follow the changes.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.hub().subscribe())
    }

    /// Waits until it is ready, so long at most.
    ///
    /// # Errors
    /// [`NotReady`] says what is missing, when the time is up; at once when a shutdown has begun or it was declared dead.
    pub async fn wait_ready(&self, limit: Duration) -> Result<Report, NotReady> {
        self.hub().report();
        self.watch().wait_ready(limit).await
    }

    /// For whoever makes calls to this part: to tell how they end. None if there is no such part.
    #[must_use]
    pub fn signal(&self, part: &str) -> Option<Signal> {
        let index = self.hub().slots.iter().position(|slot| slot.fixed.name == part)?;
        Some(Signal::new(&self.0.hub, index))
    }

    /// The last 20 changes of each part and of the whole, the oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Change> {
        self.hub().history()
    }

    /// Not ready from now on, for this cause, until [`end_maintenance`](Self::end_maintenance).
    pub fn begin_maintenance(&self, cause: impl fmt::Display) {
        let cause = Cause::new(cause);
        self.hub().write(|board| board.maintenance = Some(cause));
    }

    /// As ready as the parts are.
    pub fn end_maintenance(&self) {
        self.hub().write(|board| board.maintenance = None);
    }

    /// Neither live nor ready any more, for this cause: asks the orchestrator for a restart. There is no way back.
    pub fn declare_dead(&self, cause: impl fmt::Display) {
        let cause = Cause::new(cause);
        self.hub().write(|board| board.dead = Some(cause));
    }

    /// Not ready any more, so that no new calls are sent here; still live, and the probes go on. There is no way back.
    pub fn begin_shutdown(&self) {
        self.hub().write(|board| board.shutting_down = true);
    }

    /// [Begins a shutdown](Self::begin_shutdown), ends the loops and waits until no probe is left. The last report stays,
    /// whatever signals say. Anybody may call it, any number of times. Dropping the future leaves the loops aborted.
    pub async fn shutdown(&self) {
        self.hub().write(|board| (board.shutting_down, board.stopped) = (true, true));
        self.0.abort();
        self.0.alive.closed().await;
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("name", &self.hub().origin.name())
            .field("report", &self.hub().last())
            .finish_non_exhaustive()
    }
}
