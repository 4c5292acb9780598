use std::mem;

use tokio_postgres::error::SqlState;

use crate::{
    Error, QueryError,
    sent::Sent,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How a transaction stands: one for all that are nested in it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether a statement was sent.
    pub(crate) sent: Sent,
    // Several futures of the closure may use the transaction at a time. It is never held while anything is waited for.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    health: Health,
    /// How many savepoints are open: the level that may be used.
    depth: u32,
    /// How many statements are unfinished.
    running: u32,
    /// Whether one of them is a stream. What is sent behind it waits until its rows are read, and its reader may wait for
    /// what was sent: so it is alone.
    streams: bool,
    /// Whether the server said that this transaction and another stood in each other's way.
    conflict: bool,
}

impl State {
    fn worsen(&mut self, to: Health) {
        self.health = self.health.max(to);
    }

    fn end_one(&mut self) {
        self.running -= 1;
        // It was alone, if it was one.
        self.streams = false;
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    /// Everything so far went well, or was rolled back to a savepoint.
    #[default]
    Sound,
    /// A statement failed: Postgres can only roll back.
    Failed,
    /// A statement was given up while it ran: nothing more can be asked.
    Abandoned,
    /// The connection broke, or the server does not answer: nothing can be said about it any more.
    Lost,
    /// The deadline passed.
    Late,
}

impl Progress {
    pub(crate) fn health(&self) -> Health {
        self.lock().health
    }

    pub(crate) fn worsen(&self, to: Health) {
        self.lock().worsen(to);
    }

    /// Takes notice of what became of a statement that was sent, or was to be.
    pub(crate) fn note(&self, error: &Error) {
        match error {
            Error::Query { .. } => {}
            error if error.breaks_connection() => self.worsen(Health::Lost),
            error => {
                let is_conflict = error.sqlstate().is_some_and(is_conflict);
                let mut state = self.lock();
                state.worsen(Health::Failed);
                state.conflict |= is_conflict;
            }
        }
    }

    /// A statement begins at this level.
    ///
    /// # Errors
    /// If another level is open: it would be carried out there. If there is a stream.
    pub(crate) fn start(&self, depth: u32) -> Result<Unfinished<'_>, QueryError> {
        let mut state = self.lock();
        if state.depth != depth {
            return Err(QueryError::InnerTransaction);
        }
        if state.streams {
            return Err(QueryError::NotAlone);
        }
        state.running += 1;
        Ok(Unfinished(self))
    }

    /// A stream begins at this level.
    ///
    /// # Errors
    /// As for [`start`](Self::start), and if any other statement is unfinished.
    pub(crate) fn start_stream(&self, depth: u32) -> Result<Unfinished<'_>, QueryError> {
        let mut state = self.lock();
        if state.depth != depth {
            return Err(QueryError::InnerTransaction);
        }
        if state.running > 0 {
            return Err(QueryError::NotAlone);
        }
        (state.running, state.streams) = (1, true);
        Ok(Unfinished(self))
    }

    /// Whether a statement is unfinished.
    pub(crate) fn is_running(&self) -> bool {
        self.lock().running > 0
    }

    /// A level opens inside of this one.
    ///
    /// # Errors
    /// If there is one already, or a statement is unfinished, of which some might be carried out inside.
    pub(crate) fn descend(&self, depth: u32) -> Result<Level<'_>, QueryError> {
        let mut state = self.lock();
        if state.depth != depth {
            return Err(QueryError::InnerTransaction);
        }
        if state.running > 0 {
            return Err(QueryError::StatementRunning);
        }
        state.depth += 1;
        Ok(Level(self))
    }

    /// How it stands when the closure of this level has ended. Nothing of it can be unfinished then, unless a future was
    /// leaked, which is as bad as one that was dropped.
    pub(crate) fn at_the_end_of(&self, depth: u32) -> Health {
        let mut state = self.lock();
        if state.running > 0 || state.depth != depth {
            state.worsen(Health::Abandoned);
        }
        state.health
    }

    /// Whether another run of the whole may succeed, as the server said itself. Rolling back to a savepoint does not help:
    /// what stood in the way still does. It may have cut off statements beside it, which `try_join!` gives up.
    pub(crate) fn has_conflict(&self) -> bool {
        let state = self.lock();
        state.conflict && state.health < Health::Lost
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_conflict(state: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state)
}

/// A statement in a transaction. Dropped before it is done, the transaction is abandoned.
#[derive(Debug)]
pub(crate) struct Unfinished<'a>(&'a Progress);

impl Unfinished<'_> {
    pub(crate) fn finish(self) {
        self.0.lock().end_one();
        mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.end_one();
        // At the same time: whoever finds it gone finds out why.
        state.worsen(Health::Abandoned);
    }
}

/// A level that is open. Dropped before it is closed, the transaction is abandoned, and this level stays the one that is
/// open: no statement is carried out for those outside of it, since it might be in the savepoint.
#[derive(Debug)]
pub(crate) struct Level<'a>(&'a Progress);

impl Level<'_> {
    /// It was kept, never came to be, or cannot be cured.
    pub(crate) fn close(self) {
        self.0.lock().depth -= 1;
        mem::forget(self);
    }

    /// It was undone, with what had failed in it.
    pub(crate) fn cure(self) {
        let mut state = self.0.lock();
        if state.health == Health::Failed {
            state.health = Health::Sound;
        }
        state.depth -= 1;
        drop(state);
        mem::forget(self);
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.worsen(Health::Abandoned);
    }
}

#[cfg(all(test, buttress_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_innermost_level_is_used() {
        let progress = Progress::default();
        let statement = progress.start(0).unwrap();
        assert_eq!(progress.descend(0).unwrap_err(), QueryError::StatementRunning);
        statement.finish();

        let inner = progress.descend(0).unwrap();
        assert_eq!(progress.start(0).unwrap_err(), QueryError::InnerTransaction);
        assert_eq!(progress.descend(0).unwrap_err(), QueryError::InnerTransaction);
        progress.start(1).unwrap().finish();
        inner.close();
        progress.start(0).unwrap().finish();
        assert_eq!(progress.at_the_end_of(0), Health::Sound);
    }

    #[test]
    fn a_stream_is_alone() {
        let progress = Progress::default();
        let (one, other) = (progress.start(0).unwrap(), progress.start(0).unwrap());
        assert_eq!(progress.start_stream(0).unwrap_err(), QueryError::NotAlone);
        one.finish();
        assert_eq!(progress.start_stream(0).unwrap_err(), QueryError::NotAlone);
        other.finish();
        let stream = progress.start_stream(0).unwrap();
        assert_eq!(progress.start_stream(0).unwrap_err(), QueryError::NotAlone);
        assert_eq!(progress.start(0).unwrap_err(), QueryError::NotAlone);
        assert_eq!(progress.descend(0).unwrap_err(), QueryError::StatementRunning);
        stream.finish();
        progress.start(0).unwrap().finish();
        assert_eq!(progress.start_stream(1).unwrap_err(), QueryError::InnerTransaction);
        assert_eq!(progress.at_the_end_of(0), Health::Sound);
        drop(progress.start_stream(0).unwrap());
        assert_eq!(progress.health(), Health::Abandoned);
    }

    #[test]
    fn a_failure_is_cured_with_its_level_and_an_abandoned_one_is_not() {
        let progress = Progress::default();
        let inner = progress.descend(0).unwrap();
        progress.worsen(Health::Failed);
        inner.cure();
        assert_eq!(progress.health(), Health::Sound);

        let inner = progress.descend(0).unwrap();
        drop(progress.start(1).unwrap());
        inner.cure();
        assert_eq!(progress.health(), Health::Abandoned);
    }

    #[test]
    fn what_is_dropped_or_leaked_is_abandoned() {
        let progress = Progress::default();
        drop(progress.descend(0).unwrap());
        assert_eq!(progress.health(), Health::Abandoned);
        assert_eq!(progress.start(0).unwrap_err(), QueryError::InnerTransaction);

        let progress = Progress::default();
        mem::forget(progress.descend(0).unwrap());
        assert_eq!(progress.at_the_end_of(0), Health::Abandoned);

        let progress = Progress::default();
        mem::forget(progress.start(0).unwrap());
        assert_eq!(progress.at_the_end_of(0), Health::Abandoned);
    }
}
