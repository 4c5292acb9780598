use std::{
    collections::HashMap,
    ptr,
    sync::{Arc, OnceLock, PoisonError, RwLock, Weak},
    time::{Duration, SystemTime},
};

use buttress_core::{Origin, Shelf, thread_number, thread_stripes};
use tokio::time::Instant;

use crate::{
    Label, Sketch,
    call::Begun,
    recorder::{Recorder, Writer},
    series::{Calls, Operations, Way},
    slow::SlowLog,
    source::{End, Series, Source},
    span::SpanSettings,
    sync::{AtomicU64, Relaxed},
    wall,
};

/// Which calls are slow.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Slow {
    /// Those that take longer.
    After(Duration),
    /// Those that take longer than so many times what 99 % of the layer's calls take, and longer than 60 ns, of those that had
    /// an answer or an error: what a layer refuses at once says nothing about how long a call takes. A factor of less than 1 is
    /// refused.
    ///
    /// What 99 % take is looked at again when the registry is read, and by every 1,024th call of each thread. None is slow
    /// before that, nor before there were 100 calls.
    OverP99(f64),
}

/// What a layer's calls are told to.
///
/// It is lent, as a breaker is: see [`Shelf`]. A call may outlive its layer: until the last has ended, nobody else is lent it.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) origin: Origin,
    pub(crate) operations: Operations,
    pub(crate) span: SpanSettings,
    /// A call reads the threshold alone, which is written by whoever holds this.
    slow: RwLock<Slow>,
    pub(crate) max_operations: usize,
    /// In nanoseconds.
    threshold: AtomicU64,
    started: Box<[Padded]>,
    /// All calls that had an answer or an error together, where slow is what is slower than most: a call has no time to add
    /// up all series. It is there since that was first so.
    answered: OnceLock<Recorder>,
    /// Written while it is lent, when there are no calls.
    log: RwLock<Weak<SlowLog>>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

static RETURNED: Shelf<Recording> = Shelf::new();

/// No quantile of fewer calls is worth its name.
const FEWEST: u64 = 100;
/// After how many calls of a thread the p99 is looked at again: a power of two.
const LOOK_AGAIN: u64 = 1024;

impl Recording {
    pub(crate) fn new(
        origin: Origin,
        metric: &'static str,
        span: SpanSettings,
        slow: Slow,
        max_operations: usize,
    ) -> Self {
        let recording = Self {
            origin,
            operations: Operations::new(metric, span.common.clone(), max_operations),
            span,
            slow: RwLock::new(slow),
            max_operations,
            threshold: AtomicU64::new(u64::MAX),
            started: (0..thread_stripes()).map(|_| Padded::default()).collect(),
            answered: OnceLock::new(),
            log: RwLock::default(),
        };
        recording.set_slow(slow);
        recording
    }

    pub(crate) fn slow(&self) -> Slow {
        *self.slow.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which calls are slow from now on.
    pub(crate) fn set_slow(&self, slow: Slow) {
        {
            let mut now = self.slow.write().unwrap_or_else(PoisonError::into_inner);
            let threshold = match slow {
                Slow::After(after) => u64::try_from(after.as_nanos()).unwrap_or(u64::MAX),
                Slow::OverP99(_) => {
                    self.answered.get_or_init(Recorder::new);
                    u64::MAX
                }
            };
            self.threshold.store(threshold, Relaxed);
            *now = slow;
        }
        self.look_again();
    }

    /// Whether it can be lent as that: no call is on its way that began under the layer before.
    fn fits(&self, other: &Self) -> bool {
        self.origin == other.origin
            && self.in_flight() == 0
            && self.operations.metric == other.operations.metric
            && self.operations.common() == other.operations.common()
            && self.span.side == other.span.side
            && self.max_operations == other.max_operations
    }

    /// A call of that operation begins. Whoever is told so counts its end.
    #[inline]
    pub(crate) fn begin(&'static self, calls: &'static Calls) -> Begun {
        let (thread, shared) = (thread_number(), self.started.len() - 1);
        let started = &self.started[thread.min(shared)].0;
        let writer = Writer { is_alone: thread < shared };
        if writer.add(started, 1).is_multiple_of(LOOK_AGAIN) {
            self.look_again();
        }
        Begun { recording: self, calls, started: Instant::now() }
    }

    /// Whether a call that ends like this, after so long, was slow.
    #[inline]
    pub(crate) fn judge(&self, end: End, nanos: u64) -> bool {
        if let Some(answered) = self.answered.get()
            && !matches!(end, End::Rejected | End::Cancelled | End::Panicked)
        {
            answered.record(nanos);
        }
        nanos > self.threshold.load(Relaxed)
    }

    /// How slow is slow by now.
    #[cold]
    fn look_again(&self) {
        // Whoever sets it now looks for himself.
        let Ok(slow) = self.slow.try_read() else { return };
        let (Slow::OverP99(factor), Some(answered)) = (*slow, self.answered.get()) else { return };
        let answered = answered.sketch();
        if let Some(p99) = answered.quantile(0.99).filter(|_| answered.count() >= FEWEST) {
            // Where most calls take no time at all, a nanosecond would be a multiple of it.
            let seconds = p99.as_secs_f64().max(Sketch::ZERO);
            self.threshold.store((seconds * 1e9 * factor) as u64, Relaxed);
        }
    }

    fn in_flight(&self) -> u64 {
        // In this order: a call that begins meanwhile is not missed.
        let ended: u64 = self.operations.ways().map(|(_, way)| way.latencies.count()).sum();
        let started: u64 = self.started.iter().map(|started| started.0.load(Relaxed)).sum();
        started.saturating_sub(ended)
    }

    /// The log of the registry, if it is there still. Calls that look for it at one moment do not hinder one another.
    pub(crate) fn log(&self) -> Option<Arc<SlowLog>> {
        self.log.try_read().ok()?.upgrade()
    }
}

/// A recording as long as it is lent: its layer and the services hold it.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) lent: &'static Recording,
    /// What was counted before.
    before: HashMap<usize, Sketch>,
    since: SystemTime,
    number: u64,
}

impl Loan {
    pub(crate) fn of(new: Recording, log: &Arc<SlowLog>) -> Self {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let lent = match RETURNED.take(|recording| recording.fits(&new)) {
            Some(recording) => {
                let slow = new.slow();
                if recording.slow() != slow {
                    recording.set_slow(slow);
                }
                recording
            }
            None => Box::leak(Box::new(new)),
        };
        *lent.log.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(log);
        let before = lent.operations.ways().map(|(_, way)| (place(way), way.latencies.sketch())).collect();
        Self {
            lent,
            before,
            since: wall::now(),
            number: NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// Every way in which calls have ended since it is lent, with its operation and its latencies.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (&str, &Way, Sketch)> {
        self.lent.operations.ways().filter_map(|(operation, way)| {
            let now = way.latencies.sketch();
            let Some(before) = self.before.get(&place(way)) else { return Some((operation, way, now)) };
            // What only the layer before has seen is none of this one's.
            let latencies = now.since(before);
            (latencies.count() > 0).then_some((operation, way, latencies))
        })
    }
}

fn place(way: &Way) -> usize {
    ptr::from_ref(way).addr()
}

impl Drop for Loan {
    fn drop(&mut self) {
        RETURNED.give_back(self.lent);
    }
}

impl Source for Loan {
    fn origin(&self) -> Origin {
        self.lent.origin
    }

    #[cfg(feature = "generate")]
    fn metric(&self) -> &'static str {
        self.lent.operations.metric
    }

    fn in_flight(&self) -> u64 {
        self.lent.in_flight()
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn series(&self, visit: &mut dyn FnMut(Series<'_>)) {
        self.lent.look_again();
        for (operation, way, latencies) in self.ways() {
            visit(way.series(self.lent.operations.metric, operation, latencies, self.since));
        }
    }
}

/// The attributes that every call of a layer has: those of its convention, and its name.
pub(crate) fn common(
    name: &'static str,
    mut of_convention: Vec<(&'static str, Label)>,
) -> Vec<(&'static str, Label)> {
    of_convention.push(("buttress.name", Label::Text(name.into())));
    of_convention
}
