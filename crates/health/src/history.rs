use std::{collections::VecDeque, time::SystemTime};

use crate::{Cause, State};

/// A change of a part or of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its number, from 1 on, among all changes.
    pub number: u64,
    /// When it was seen.
    pub at: SystemTime,
    /// What changed.
    pub event: Event,
    /// Why, where it is not for the better.
    pub cause: Option<Cause>,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A part is in another state.
    Part {
        /// Its name.
        name: &'static str,
        /// The state before.
        from: State,
        /// The state after.
        to: State,
    },
    /// Every critical part was up once.
    Started,
    /// Whether the process is ready from now on.
    Ready(bool),
    /// Whether it is live from now on.
    Live(bool),
}

impl Change {
    pub(crate) fn tell(&self, health: &'static str) {
        let cause = self.cause.as_ref().map_or("", Cause::as_str);
        match self.event {
            Event::Part { name, from, to: State::Down } => {
                tracing::warn!(health, part = name, from = from.as_str(), cause, "a part is down");
            }
            Event::Part { name, from, to } => {
                let (from, to) = (from.as_str(), to.as_str());
                tracing::info!(health, part = name, from, to, cause, "a part is in another state");
            }
            Event::Started => tracing::info!(health, "started"),
            Event::Ready(true) => tracing::info!(health, "ready"),
            Event::Ready(false) => tracing::warn!(health, cause, "not ready any more"),
            Event::Live(true) => tracing::info!(health, "live again"),
            Event::Live(false) => tracing::error!(health, cause, "not live any more"),
        }
    }
}

/// The last changes of one part or of the whole, so that a part that flaps does not push out the others'.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Change>);

impl Recent {
    pub(crate) const MOST: usize = 20;

    pub(crate) fn push(&mut self, change: Change) {
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }
}
