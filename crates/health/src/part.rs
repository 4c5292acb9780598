use std::{fmt, time::Duration};

use crate::{Probe, Status};

pub(crate) type Passive = Box<dyn Fn() -> Status + Send + Sync>;

/// One of the things that the process needs: a database, a service, a disk.
#[must_use]
pub struct Part {
    pub(crate) name: String,
    pub(crate) probe: Option<Probe>,
    pub(crate) passive: Option<Passive>,
    pub(crate) critical: bool,
    pub(crate) liveness: bool,
    pub(crate) interval: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) down: u32,
    pub(crate) up: u32,
}

impl Part {
    /// A part that is probed. The name has 1 to 64 characters, none of them a colon or one that steers a terminal
    /// or hides, and comes from configuration: it is kept for the life of the process.
    pub fn new(name: impl Into<String>, probe: Probe) -> Self {
        Self {
            name: name.into(),
            probe: Some(probe),
            passive: None,
            critical: false,
            liveness: false,
            interval: Duration::from_secs(10),
            timeout: None,
            down: 3,
            up: 2,
        }
    }

    /// A part without a probe, as [`passive`](Self::passive) as it can be: it is what this function says, looked at every fifth
    /// of the interval and at every report.
    pub fn passive_only(name: impl Into<String>, says: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        let nothing = Probe::from_fn(|| async { Status::Well });
        Self { probe: None, ..Self::new(name, nothing) }.passive(says)
    }

    /// Without it the process is not ready.
    pub fn critical(self) -> Self {
        Self { critical: true, ..self }
    }

    /// While it is down the process is not live, and an orchestrator restarts it. For what a restart heals (a thread that is
    /// stuck), never for a dependency: else a database's outage is a storm of restarts as well.
    pub fn liveness(self) -> Self {
        Self { liveness: true, ..self }
    }

    /// Probes so often while all is well: 1 ms to a day. By default 10 s.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Gives a probe so long. A millisecond at least, and `timeout x down` must fit into the interval. By default 2 s, or a fifth
    /// of the interval, or its share for each of `down` failures, whichever is least.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Takes so many failures in a row for down, and so many successes for up again. By default 3 and 2.
    pub fn thresholds(self, down: u32, up: u32) -> Self {
        Self { down, up, ..self }
    }

    /// What the traffic knows: while this function says [`Status::Down`] the part is down, whatever the probe says. It must
    /// neither block nor ask the `Health` that the part is of.
    pub fn passive(self, says: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        Self { passive: Some(Box::new(says)), ..self }
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("name", &self.name)
            .field("probe", &self.probe)
            .field("passive", &self.passive.is_some())
            .field("critical", &self.critical)
            .field("liveness", &self.liveness)
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("thresholds", &(self.down, self.up))
            .finish()
    }
}
