use std::{
    collections::HashSet, error::Error, fmt, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    AlertState, AlertStatus, Notify, Rule,
    machine::Machine,
    notify::deliver,
    queue::Queue,
    task::{Board, watch},
};
use crate::Registry;

/// Rules that are watched over. Clones are the same; the last one that is dropped ends it, and what fires then never clears.
///
/// Every alert that fires or clears is told to `tracing` (`error` if it is critical, `warn` if not, `info` when it clears) and
/// to those that were given to [`notify`](AlertsBuilder::notify).
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    origin: Origin,
    board: Arc<Board>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Alerts {
    /// Alerts over what that registry knows.
    pub fn builder(registry: &Registry) -> AlertsBuilder {
        AlertsBuilder {
            registry: registry.clone(),
            name: "alerts".to_owned(),
            rules: Vec::new(),
            every: Duration::from_secs(5),
            notify: Vec::new(),
        }
    }

    /// What is pending or fires now, in the order of the rules, and by name of the instance.
    #[must_use]
    pub fn active(&self) -> Vec<AlertState> {
        self.0.board.active()
    }
}

/// How many alerts are `firing` and `pending`, and `notifications` by their `outcome`: `delivered`, `failed`, or `dropped` for
/// newer ones.
impl Observe for Alerts {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let active = self.active();
        for (name, status) in [("firing", AlertStatus::Firing), ("pending", AlertStatus::Pending)] {
            let count = active.iter().filter(|state| state.status == status).count();
            visit(Metric::new(name, Value::Gauge(count as f64)));
        }
        let counts = &self.0.board.counts;
        for (outcome, count) in
            [("delivered", &counts.delivered), ("failed", &counts.failed), ("dropped", &counts.dropped)]
        {
            let count = Value::Counter(count.load(Relaxed));
            visit(Metric::new("notifications", count).with_label("outcome", outcome));
        }
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts").field("origin", &self.0.origin).finish_non_exhaustive()
    }
}

/// Alerts that are about to be watched: by [`Alerts::builder`].
#[derive(Debug)]
#[must_use = "it does nothing before `build`"]
pub struct AlertsBuilder {
    registry: Registry,
    name: String,
    rules: Vec<Rule>,
    every: Duration,
    notify: Vec<Notify>,
}

impl AlertsBuilder {
    /// One more rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// More rules, such as the [default ones](super::default_rules).
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// How often it looks: every 5 s by default. What does not last so long may not be seen.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// One more that is told. Each is told on its own: a slow one delays no other.
    pub fn notify(mut self, notify: Notify) -> Self {
        self.notify.push(notify);
        self
    }

    /// Its name in metrics, `alerts` by default.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// When a rule cannot be used, two have one name, it would look all the time, or outside of a tokio runtime.
    pub fn build(self) -> Result<Alerts, InvalidRules> {
        let Self { registry, name, rules, every, notify } = self;
        let mut names = HashSet::new();
        for rule in &rules {
            if let Some(why) = rule.flaw() {
                return Err(InvalidRules::Rule { name: rule.name.clone(), why });
            }
            if !names.insert(&rule.name) {
                return Err(InvalidRules::Twice { name: rule.name.clone() });
            }
        }
        if every < Duration::from_millis(1) {
            return Err(InvalidRules::Always);
        }
        let runtime = Handle::try_current().map_err(|_| InvalidRules::NoRuntime)?;
        let board = Arc::new(Board::default());
        let (mut tasks, mut queues) = (Vec::new(), Vec::new());
        for notify in notify {
            let queue = Arc::new(Queue::default());
            let delivery = deliver(notify, Arc::clone(&queue), Arc::clone(&board.counts));
            tasks.push(runtime.spawn(delivery).abort_handle());
            queues.push(queue);
        }
        let watch = watch(registry, Machine::new(rules), every, Arc::clone(&board), queues);
        tasks.push(runtime.spawn(watch).abort_handle());
        Ok(Alerts(Arc::new(Inner { origin: Origin::new("alerts", &name), board, tasks })))
    }
}

/// [`AlertsBuilder::build`] cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRules {
    /// A rule contradicts itself.
    Rule {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Two rules have one name.
    Twice {
        /// The name.
        name: String,
    },
    /// It would look all the time.
    Always,
    /// There is no tokio runtime here.
    NoRuntime,
}

impl fmt::Display for InvalidRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { name, why } => write!(f, "rule {name:?} cannot be used: {why}"),
            Self::Twice { name } => write!(f, "two rules are called {name:?}: rename one"),
            Self::Always => f.write_str("`every` must be at least a millisecond"),
            Self::NoRuntime => f.write_str("alerts need a tokio runtime: build them within one"),
        }
    }
}

impl Error for InvalidRules {}
