use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{Cause, Overall, State};

/// How all was at one moment. Clones are cheap.
#[derive(Clone)]
pub struct Report(Arc<Summary>);

pub(crate) struct Summary {
    pub(crate) live: bool,
    pub(crate) started: bool,
    pub(crate) ready: bool,
    pub(crate) shutting_down: bool,
    pub(crate) maintenance: Option<Cause>,
    pub(crate) dead: Option<Cause>,
    pub(crate) parts: Vec<PartReport>,
}

/// How one part was.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartReport {
    /// Its name.
    pub name: &'static str,
    /// Whether the process is not ready without it.
    pub critical: bool,
    /// Whether the process is not live without it.
    pub liveness: bool,
    /// How it is.
    pub state: State,
    /// Why it is degraded or down.
    pub cause: Option<Cause>,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// When the last probe ended, and how long it took.
    pub probed: Option<(SystemTime, Duration)>,
    /// What it is, in the words of `application/health+json`: `datastore` for Postgres and Redis, else `component`.
    pub component_type: &'static str,
}

impl Report {
    pub(crate) fn new(summary: Summary) -> Self {
        Self(Arc::new(summary))
    }

    pub(crate) fn summary(&self) -> &Summary {
        &self.0
    }

    /// Whether the process works at all. Where it does not, it is to be restarted.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.live
    }

    /// Whether it should be sent calls.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready
    }

    /// Whether every critical part was up once.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.0.started
    }

    /// Whether a shutdown has begun.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutting_down
    }

    /// Whether it will never be ready again.
    pub(crate) fn is_final(&self) -> bool {
        self.0.shutting_down || self.0.dead.is_some()
    }

    /// Why it is in maintenance, if it is.
    #[must_use]
    pub fn maintenance(&self) -> Option<&Cause> {
        self.0.maintenance.as_ref()
    }

    /// How the whole is.
    #[must_use]
    pub fn overall(&self) -> Overall {
        if !self.0.ready || !self.0.live {
            Overall::Fail
        } else if self.0.parts.iter().any(|part| part.state != State::Up) {
            Overall::Warn
        } else {
            Overall::Pass
        }
    }

    /// The parts, in the order in which they were added.
    #[must_use]
    pub fn parts(&self) -> &[PartReport] {
        &self.0.parts
    }

    /// The part of this name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&PartReport> {
        self.0.parts.iter().find(|part| part.name == name)
    }
}

impl Summary {
    /// The first thing because of which it is not live.
    pub(crate) fn why_not_live(&self) -> Option<Cause> {
        self.dead.clone().or_else(|| {
            let down = |part: &&PartReport| part.liveness && part.state == State::Down;
            self.parts.iter().find(down).map(PartReport::as_cause)
        })
    }

    /// The first thing because of which it is not ready.
    pub(crate) fn why_not_ready(&self) -> Option<Cause> {
        if self.shutting_down {
            return Some(Cause::new("a shutdown has begun"));
        }
        if let Some(why) = &self.maintenance {
            return Some(Cause::new(format_args!("maintenance: {why}")));
        }
        self.why_not_live().or_else(|| {
            let missing = |part: &&PartReport| part.critical && !part.state.works();
            self.parts.iter().find(missing).map(PartReport::as_cause)
        })
    }
}

impl PartReport {
    fn as_cause(&self) -> Cause {
        let (name, state) = (self.name, self.state.as_str());
        match &self.cause {
            Some(cause) => Cause::new(format_args!("{name} is {state}: {cause}")),
            None => Cause::new(format_args!("{name} is {state}")),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("live", &self.0.live)
            .field("ready", &self.0.ready)
            .field("started", &self.0.started)
            .field("parts", &self.0.parts)
            .finish_non_exhaustive()
    }
}
