use std::{fmt, sync::Arc, time::Duration};

use buttress_core::Origin;
use tokio::{sync::watch, time::sleep};

use crate::{
    Health, Part,
    board::Fixed,
    cause::is_odd,
    health::Owner,
    hub::{Hub, Slot},
    knobs::knobs_of,
    probe::Kind,
    rules::{Broken, Rules},
};

/// Gathers the parts: made by [`Health::builder`].
#[derive(Debug)]
#[must_use]
pub struct HealthBuilder {
    name: String,
    parts: Vec<Part>,
}

impl HealthBuilder {
    /// So many parts at most.
    const MOST_PARTS: usize = 1000;
    const LONGEST_NAME: usize = 64;

    pub(crate) fn new() -> Self {
        Self { name: "default".into(), parts: Vec::new() }
    }

    /// Stands in figures and logs; by default `default`.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Adds a part.
    pub fn part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Begins to probe, each part in a task of its own. The first probes begin at once.
    ///
    /// # Errors
    /// [`InvalidConfig`] says which part cannot be as it is, and why. Then nothing was begun.
    ///
    /// # Panics
    /// Outside a tokio runtime with a timer.
    pub fn start(self) -> Result<Health, InvalidConfig> {
        check_name(&self.name)?;
        if self.parts.len() > Self::MOST_PARTS {
            return Err(InvalidConfig::TooManyParts(self.parts.len()));
        }
        let mut slots: Vec<Slot> = Vec::with_capacity(self.parts.len());
        let mut probes = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            check_name(&part.name)?;
            if slots.iter().any(|slot| slot.fixed.name == part.name) {
                return Err(InvalidConfig::Twice(part.name));
            }
            let rules = match Rules::try_new(part.interval, part.timeout, part.down, part.up) {
                Ok(rules) => rules,
                Err(Broken::Interval) => return Err(InvalidConfig::Interval(part.name)),
                Err(Broken::Thresholds) => return Err(InvalidConfig::Thresholds(part.name)),
                Err(Broken::Timeout) => return Err(InvalidConfig::Timeout(part.name)),
            };
            let fixed = Fixed {
                // Interned there, which is what a label of a metric takes.
                name: Origin::new("health-part", &part.name).name(),
                critical: part.critical,
                liveness: part.liveness,
                kind: part.probe.as_ref().map_or(Kind::Component, |probe| probe.kind()),
                knobs: knobs_of(&part.name),
                is_probed: part.probe.is_some(),
                rules,
            };
            slots.push(Slot::new(fixed, part.passive));
            probes.push(part.probe);
        }
        // Panics here rather than in each loop, where nobody would see it.
        drop(sleep(Duration::ZERO));
        let hub = Arc::new(Hub::new(Origin::new("health", &self.name), slots.into()));
        let (alive, guard) = watch::channel(());
        let tasks = probes.into_iter().enumerate().map(|(part, probe)| {
            let (hub, guard) = (Arc::clone(&hub), guard.clone());
            let task = tokio::spawn(async move {
                let _guard = guard;
                hub.run(part, probe).await;
            });
            task.abort_handle()
        });
        let tasks = tasks.collect();
        Ok(Health::new(Owner { hub, tasks, alive }))
    }
}

fn check_name(name: &str) -> Result<(), InvalidConfig> {
    let length = name.chars().count();
    let fits = (1..=HealthBuilder::LONGEST_NAME).contains(&length);
    // A colon parts component and measurement in `application/health+json`.
    if fits && !name.chars().any(|char| is_odd(char) || char == ':') {
        Ok(())
    } else {
        Err(InvalidConfig::Name(name.chars().take(HealthBuilder::LONGEST_NAME).collect()))
    }
}

/// Why a [`Health`] cannot be as it was asked for. It holds the part's name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// A name is empty, longer than 64 characters, or has a colon in it, or a character that steers a terminal or hides.
    Name(String),
    /// Two parts have this name.
    Twice(String),
    /// The interval is below a millisecond or above a day.
    Interval(String),
    /// A threshold is zero.
    Thresholds(String),
    /// The timeout is below a millisecond, or too long for so many failures to be seen within two intervals.
    Timeout(String),
    /// There are so many parts, and there may be 1,000.
    TooManyParts(usize),
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "{name:?} cannot be a name: it has 1 to 64 characters, none of them a colon or one that steers a terminal or hides"
            ),
            Self::Twice(name) => write!(f, "there are two parts `{name}`: give each a name of its own"),
            Self::Interval(name) => write!(f, "the interval of `{name}` is not from 1 ms to a day"),
            Self::Thresholds(name) => write!(f, "a threshold of `{name}` is zero: the least is 1"),
            Self::Timeout(name) => write!(
                f,
                "the timeout of `{name}` is below 1 ms, or times its threshold for down it does not fit into its interval: \
                 down would not be known within two intervals"
            ),
            Self::TooManyParts(parts) => write!(f, "there are {parts} parts, and there may be 1,000"),
        }
    }
}

impl std::error::Error for InvalidConfig {}
