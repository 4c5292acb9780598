//! What a worker has done so far, for a registry and for the last line that it prints.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Effect and end are committed.
    Done,
    /// The job will be tried again.
    Failed,
    /// It will not.
    Dead,
    /// Somebody else has it, or nobody could be told: the lease decides.
    Lost,
    /// Given back when the worker stopped.
    GivenBack,
}

impl End {
    const ALL: [Self; 5] = [Self::Done, Self::Failed, Self::Dead, Self::Lost, Self::GivenBack];

    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Lost => "lost",
            Self::GivenBack => "given_back",
        }
    }
}

/// Attempts by their end. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Counts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Origin,
    ends: [AtomicU64; End::ALL.len()],
}

impl Counts {
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::new(Inner { origin: Origin::new("worker", name), ends: Default::default() }))
    }

    pub(crate) fn add(&self, end: End, n: u64) {
        self.0.ends[end as usize].fetch_add(n, Relaxed);
    }

    fn of(&self, end: End) -> u64 {
        self.0.ends[end as usize].load(Relaxed)
    }
}

impl Observe for Counts {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        for end in End::ALL {
            visit(Metric::new("attempts", Value::Counter(self.of(end))).with_label("end", end.name()));
        }
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, end) in End::ALL.into_iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", self.of(end), end.name().replace('_', " "))?;
        }
        Ok(())
    }
}
