use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buttress_core::{Metric, Observe, Origin, Setting, WeakObserve};
use tokio::time::Instant;

#[cfg(feature = "opentelemetry")]
use crate::instruments::Export;
use crate::{
    SlowCall, Snapshot,
    book::{Book, Gone},
    slow::SlowLog,
    source::Source,
};

/// Where all layers of a program can be seen: it holds a weak handle of each.
///
/// Clones are the same registry. It keeps no layer alive: one that is dropped leaves it, and its name is free again. A
/// layer does not know whether it is registered, so a call pays nothing for it.
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) book: Mutex<Book>,
    slow: Arc<SlowLog>,
    began: Instant,
    /// For as long as the registry lives: what a meter calls holds them weakly.
    #[cfg(feature = "opentelemetry")]
    exports: Mutex<Vec<Arc<Export>>>,
}

/// A layer that is registered and lives.
#[non_exhaustive]
pub struct Handle {
    /// What gives its figures.
    pub observe: Box<dyn Observe>,
    /// The stacks in which it stands.
    pub stacks: Vec<Arc<str>>,
}

impl Registry {
    /// How many layers one registry holds at most.
    pub const MAX_LAYERS: usize = 10_000;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            book: Mutex::default(),
            slow: Arc::default(),
            began: Instant::now(),
            #[cfg(feature = "opentelemetry")]
            exports: Mutex::default(),
        }))
    }

    /// Registers one layer that stands in no stack: a pool, a health check.
    ///
    /// # Errors
    /// As [`StackBuilder::register`].
    ///
    /// Calls in flight, and whoever reads the figures at this moment, keep a layer alive for a while after its owner has
    /// dropped it. To register another one of its name right then, [`remove`](Self::remove) it first.
    pub fn register(&self, handle: &(impl Observe + ?Sized)) -> Result<(), RegisterError> {
        self.add(None, vec![(handle.origin(), handle.downgrade())])
    }

    /// Begins a stack of that name: then its layers, outermost first.
    pub fn stack(&self, name: &str) -> StackBuilder<'_> {
        StackBuilder { registry: self, name: Arc::from(name), layers: Vec::new() }
    }

    /// Takes a layer out, whether it lives or not, and out of its stacks; of a telemetry layer the latencies, too. Whether it
    /// was there.
    ///
    /// Most layers leave when they are dropped. One without a state, such as a timeout, does not: it is nothing but a name.
    pub fn remove(&self, layer: &str, name: &str) -> bool {
        let removed = self.book().remove(layer, name);
        !removed.is_empty()
    }

    /// The layers that live, in the order of their registration.
    #[must_use]
    pub fn handles(&self) -> Vec<Handle> {
        let mut gone = Gone::default();
        let living = self.book().living(&mut gone);
        // Not before the lock is free.
        drop(gone);
        living
    }

    /// All that is known now: counts since the program began, quantiles, gauges, the process.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::read(self)
    }

    /// The slowest calls of the last hour, the slowest first: at most `limit` of them, and never more than 128.
    #[must_use]
    pub fn slow_calls(&self, limit: usize) -> Vec<SlowCall> {
        self.0.slow.slowest(limit)
    }

    /// The latest slow calls, however long ago they were, the latest first: at most `limit` of them, and never more than
    /// 128.
    #[must_use]
    pub fn latest_slow_calls(&self, limit: usize) -> Vec<SlowCall> {
        self.0.slow.latest(limit)
    }

    /// How many slow calls there were, those that are kept no more included.
    #[must_use]
    pub fn slow_calls_total(&self) -> u64 {
        self.0.slow.total()
    }

    pub(crate) fn slow_log(&self) -> &Arc<SlowLog> {
        &self.0.slow
    }

    pub(crate) fn began(&self) -> Instant {
        self.0.began
    }

    /// The stacks, each with its layers, outermost first.
    pub(crate) fn stacks(&self) -> Vec<(Arc<str>, Vec<Origin>)> {
        self.book().stacks()
    }

    /// Reads the latencies of this one too, as long as it lives.
    pub(crate) fn add_source(&self, source: &Arc<dyn Source>) -> Result<(), RegisterError> {
        self.book().add_source(source)
    }

    pub(crate) fn sources(&self) -> Vec<Arc<dyn Source>> {
        self.book().sources()
    }

    #[cfg(feature = "opentelemetry")]
    pub(crate) fn downgrade(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.0))
    }

    #[cfg(feature = "opentelemetry")]
    pub(crate) fn keep(&self, export: Arc<Export>) {
        self.0.exports.lock().unwrap_or_else(PoisonError::into_inner).push(export);
    }

    fn add(&self, stack: Option<Arc<str>>, layers: Vec<(Origin, WeakObserve)>) -> Result<(), RegisterError> {
        let mut gone = Gone::default();
        let result = self.book().add(stack, layers, &mut gone);
        // Not before the lock is free.
        drop(gone);
        result
    }

    fn replace(&self, name: Arc<str>, layers: Vec<(Origin, WeakObserve)>) -> Result<(), RegisterError> {
        let mut gone = Gone::default();
        let result = self.book().replace(name, layers, &mut gone);
        drop(gone);
        result
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registry that is not kept alive.
#[cfg(feature = "opentelemetry")]
#[derive(Debug)]
pub(crate) struct WeakRegistry(std::sync::Weak<Inner>);

#[cfg(feature = "opentelemetry")]
impl WeakRegistry {
    pub(crate) fn upgrade(&self) -> Option<Registry> {
        self.0.upgrade().map(Registry)
    }
}

impl Handle {
    /// Its settings; of one that panics none.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        let read = AssertUnwindSafe(|| self.observe.settings(&mut |setting| settings.push(setting)));
        if catch_unwind(read).is_err() {
            return Vec::new();
        }
        settings
    }

    /// Its figures. One that panics has none: it must not take those of the others along.
    pub(crate) fn figures(&self) -> Vec<Metric> {
        let mut figures = Vec::new();
        let read = AssertUnwindSafe(|| self.observe.observe(&mut |metric| figures.push(metric)));
        if catch_unwind(read).is_err() {
            return Vec::new();
        }
        figures
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("layers", &self.book().origins()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("origin", &self.observe.origin())
            .field("stacks", &self.stacks)
            .finish()
    }
}

/// A stack that is about to be registered: made by [`Registry::stack`].
#[must_use = "nothing is registered before `register`"]
pub struct StackBuilder<'a> {
    registry: &'a Registry,
    name: Arc<str>,
    layers: Vec<(Origin, WeakObserve)>,
}

impl StackBuilder<'_> {
    /// The next layer, inside of those before. One that is registered already may stand in another stack too, such as a
    /// pool that two stacks share.
    pub fn layer(mut self, handle: &(impl Observe + ?Sized)) -> Self {
        self.layers.push((handle.origin(), handle.downgrade()));
        self
    }

    /// Registers all of them, or none.
    ///
    /// # Errors
    /// When another layer that lives bears the kind and the name of one of these, a stack has this name already, or the
    /// registry is full.
    pub fn register(self) -> Result<(), RegisterError> {
        self.registry.add(Some(self.name), self.layers)
    }

    /// The same, taking the places of the stack of this name and of other layers with these kinds and names, where there are
    /// such: for a stack that is made anew while the program runs. Calls in flight keep the old layers alive for a while;
    /// the registry reads the new ones from here on.
    ///
    /// # Errors
    /// When two of these layers bear one name, or the registry is full; then all is as it was before.
    pub fn replace(self) -> Result<(), RegisterError> {
        self.registry.replace(self.name, self.layers)
    }
}

impl fmt::Debug for StackBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers: Vec<Origin> = self.layers.iter().map(|(origin, _)| *origin).collect();
        f.debug_struct("StackBuilder").field("name", &self.name).field("layers", &layers).finish()
    }
}

/// Why a layer could not be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another layer of this kind has this name.
    NameTaken {
        /// The kind and the name.
        origin: Origin,
    },
    /// A stack has this name.
    StackExists {
        /// The name.
        name: String,
    },
    /// There are [`Registry::MAX_LAYERS`], or as many stacks.
    Full,
    /// The factor of [`Slow::OverP99`](crate::Slow::OverP99) is less than 1, or no number.
    InvalidFactor {
        /// The name of the telemetry layer.
        name: &'static str,
    },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { origin } => write!(
                f,
                "another {} is registered as `{}`: give each a name of its own, or remove that one from the registry",
                origin.layer(),
                origin.name()
            ),
            Self::StackExists { name } => {
                write!(f, "a stack `{name}` is registered already: give each a name of its own")
            }
            Self::InvalidFactor { name } => {
                write!(f, "telemetry `{name}`: `Slow::OverP99` takes a factor of 1 or more, such as 3.0")
            }
            Self::Full => {
                write!(
                    f,
                    "{} layers or stacks are registered: names that clients choose?",
                    Registry::MAX_LAYERS
                )
            }
        }
    }
}

impl std::error::Error for RegisterError {}
