use std::{error::Error, fmt, time::Duration};

use tokio::{sync::watch::Receiver, time::timeout};

use crate::Report;

/// Follows the changes of a [`Health`](crate::Health), without keeping it alive. Clones follow by themselves.
#[derive(Debug, Clone)]
pub struct Watch(Receiver<Report>);

impl Watch {
    pub(crate) fn new(reports: Receiver<Report>) -> Self {
        Self(reports)
    }

    /// The last report. It stays when the health has ended.
    #[must_use]
    pub fn report(&self) -> Report {
        self.0.borrow().clone()
    }

    /// Waits for the next change: of a part's state, of ready, live or started. Where several come quickly it is woken once, with
    /// the last report. None when the last `Health` was dropped. Dropping the future misses nothing.
    pub async fn changed(&mut self) -> Option<Report> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// Waits until it is ready, so long at most.
    ///
    /// # Errors
    /// [`NotReady`] says what is missing, when the time is up; at once when a shutdown has begun, it was declared dead, or the
    /// health has ended without being ready.
    ///
    /// # Panics
    /// Without a tokio runtime with a timer.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<Report, NotReady> {
        let decided = |report: &Report| report.is_ready() || report.is_final();
        // That report: a moment later there may be another.
        let decisive =
            timeout(limit, async { self.0.wait_for(decided).await.map(|report| report.clone()) }).await;
        // Either error is told by the last one.
        let report = decisive.into_iter().flatten().next().unwrap_or_else(|| self.report());
        if report.is_ready() { Ok(report) } else { Err(NotReady(report)) }
    }
}

/// It is not ready in time.
#[derive(Debug, Clone)]
pub struct NotReady(Report);

impl NotReady {
    /// How it was then.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.0
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.summary().why_not_ready() {
            Some(why) => write!(f, "not ready: {why}"),
            None => f.write_str("not ready"),
        }
    }
}

impl Error for NotReady {}
