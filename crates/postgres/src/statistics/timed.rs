use std::sync::Arc;

use tokio::time::Instant;

use super::slow::Ending;
use crate::{Error, on_connection::is_harmless_loss, recent::Text};

/// A statement that runs. Dropped unfinished, it was given up.
#[derive(Debug)]
pub(crate) struct Timed {
    text: Arc<Text>,
    since: Instant,
    ended: bool,
}

impl Timed {
    pub(crate) fn start(text: &Arc<Text>) -> Self {
        Self { text: Arc::clone(text), since: Instant::now(), ended: false }
    }

    /// So many rows came back, or were written.
    pub(crate) fn finish(mut self, rows: u64) {
        // At first: it is not given up if the subscriber of the log panics.
        self.ended = true;
        self.record(Ending::Finished(rows));
    }

    pub(crate) fn fail(mut self, error: &Error) {
        self.ended = true;
        // One that met a connection that had died in the pool says nothing of the statement, which gets another. If it was
        // long about that, it is told all the same.
        if !is_harmless_loss(error) || self.is_slow() {
            self.record(Ending::Failed);
        }
    }

    fn is_slow(&self) -> bool {
        self.text.entry.home.slow.is_slow(self.since.elapsed())
    }

    fn record(&self, ending: Ending) {
        let now = Instant::now();
        let took = now - self.since;
        let entry = &*self.text.entry;
        let rows = if let Ending::Finished(rows) = ending { Some(rows) } else { None };
        entry.figures().record(took, rows);
        if entry.home.slow.is_slow(took) {
            entry.home.slow.record(entry.home.origin, &entry.text, &self.text, took, ending, now);
        }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Ending::GivenUp);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use buttress_core::Origin;
    use buttress_testkit::allocations;

    use super::*;
    use crate::{recent::RecentTexts, statistics::Statistics};

    #[test]
    fn recording_allocates_nothing() {
        let origin = Origin::new("postgres", "timed");
        let statistics = Arc::new(Statistics::new(origin, Duration::from_secs(3600)));
        let text = RecentTexts::new(statistics).parse("select 1").unwrap();
        let counted = allocations(|| {
            Timed::start(&text).finish(1);
            drop(Timed::start(&text));
        });
        assert_eq!((counted.count, text.entry.figures.count()), (0, 2));
    }
}
