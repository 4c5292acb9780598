use std::{fmt, sync::Arc, time::Duration};

use crate::Origin;

/// A handle that gives its counters and gauges when it is asked.
///
/// Layers keep plain atomics. Whoever collects (OpenTelemetry's observable instruments, a snapshot, a test) reads them
/// here, so that a call never pays for metrics.
pub trait Observe: Send + Sync {
    /// Whose figures these are.
    fn origin(&self) -> Origin;

    /// Calls `visit` with every figure, in a fixed order. It must not block.
    fn observe(&self, visit: &mut dyn FnMut(Metric));

    /// A handle to the same that does not keep it alive. For a handle around an `Arc` it is
    /// `WeakObserve::of(&self.0, Self)`.
    fn downgrade(&self) -> WeakObserve;

    /// Calls `visit` with every setting that it runs by now, in a fixed order, so that alerts, dashboards and whoever
    /// explains a stack speak of the figures that are in force.
    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        _ = visit;
    }

    /// What an operator may do to it while it runs, such as `force_open`. By default nothing.
    fn actions(&self) -> &'static [&'static str] {
        &[]
    }

    /// Does one of its [`actions`](Self::actions).
    ///
    /// # Errors
    /// When it is none of them.
    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        _ = action;
        Err(UnknownAction)
    }
}

/// An [`Observe`] handle that does not keep alive what it observes: from [`Observe::downgrade`].
pub struct WeakObserve {
    upgrade: Box<dyn Fn() -> Option<Box<dyn Observe>> + Send + Sync>,
    /// Where the state lies. Whoever upgrades holds a `Weak`, so no other state can come to lie there.
    address: Option<usize>,
}

impl WeakObserve {
    /// Of a handle that is made of what an `Arc` holds.
    pub fn of<T, H>(state: &Arc<T>, handle: impl Fn(Arc<T>) -> H + Send + Sync + 'static) -> Self
    where
        T: ?Sized + Send + Sync + 'static,
        H: Observe + 'static,
    {
        let weak = Arc::downgrade(state);
        Self::new(state, move || weak.upgrade().map(|state| Box::new(handle(state)) as Box<dyn Observe>))
    }

    /// Of a handle that is made of several things. `upgrade` has to hold a [`Weak`](std::sync::Weak) of `state`, which
    /// tells one handle from another.
    pub fn new<T: ?Sized>(
        state: &Arc<T>,
        upgrade: impl Fn() -> Option<Box<dyn Observe>> + Send + Sync + 'static,
    ) -> Self {
        Self { upgrade: Box::new(upgrade), address: Some(Arc::as_ptr(state).cast::<()>().addr()) }
    }

    /// Of a handle to something without any state but the counts of its [`Origin`], which are never gone.
    pub fn stateless<H: Observe + Clone + 'static>(handle: &H) -> Self {
        let handle = handle.clone();
        Self { upgrade: Box::new(move || Some(Box::new(handle.clone()))), address: None }
    }

    /// The handle, unless what it observes is gone.
    pub fn upgrade(&self) -> Option<Box<dyn Observe>> {
        (self.upgrade)()
    }

    /// Whether it can be gone at all.
    pub const fn has_state(&self) -> bool {
        self.address.is_some()
    }

    /// Whether both observe the same state. What has none is the same as nothing else.
    pub fn is_same(&self, other: &Self) -> bool {
        self.has_state() && self.address == other.address
    }
}

impl fmt::Debug for WeakObserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakObserve").field("has_state", &self.has_state()).finish_non_exhaustive()
    }
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// What is counted, in `snake_case`, without the layer's name and without a unit: `calls`, `state`.
    pub name: &'static str,
    /// The figure.
    pub value: Value,
    /// The unit, as UCUM writes it: `s`, `By`. Empty where things are counted.
    pub unit: &'static str,
    /// One label with few values, such as `("reason", "timed_out")`.
    pub label: Option<(&'static str, &'static str)>,
}

impl Metric {
    /// A figure without a label, of things that are counted.
    pub const fn new(name: &'static str, value: Value) -> Self {
        Self { name, value, unit: "", label: None }
    }

    /// The same with a label.
    #[must_use]
    pub const fn with_label(mut self, key: &'static str, value: &'static str) -> Self {
        self.label = Some((key, value));
        self
    }

    /// The same in that unit.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }
}

/// A figure's kind and value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Only ever grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(f64),
}

/// One setting of what an [`Observe`] handle observes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Setting {
    /// What is set, as the builder's method is called: `failure_rate`, `open_for`.
    pub name: &'static str,
    /// What it is set to.
    pub value: SettingValue,
}

impl Setting {
    /// That setting.
    pub const fn new(name: &'static str, value: SettingValue) -> Self {
        Self { name, value }
    }
}

/// What something is set to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SettingValue {
    /// How many.
    Count(u64),
    /// A share, from 0 to 1, or a factor.
    Ratio(f64),
    /// How long.
    Duration(Duration),
    /// One of several ways, in `snake_case`.
    Word(&'static str),
    /// Not set: it does not apply, or there is no bound.
    Off,
}

/// [`Observe::act`] was asked for what is none of its [`actions`](Observe::actions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAction;

impl fmt::Display for UnknownAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it has no such action; see its `Observe::actions`")
    }
}

impl std::error::Error for UnknownAction {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Handle(Arc<u32>);

    impl Observe for Handle {
        fn origin(&self) -> Origin {
            Origin::new("test", "handle")
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            visit(Metric::new("is", Value::Gauge(f64::from(*self.0))));
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }

    #[test]
    fn a_weak_handle_reads_what_lives_and_keeps_nothing_alive() {
        let handle = Handle(Arc::new(7));
        let weak = handle.downgrade();
        let mut seen = Vec::new();
        weak.upgrade().unwrap().observe(&mut |metric| seen.push(metric.value));
        assert_eq!(seen, [Value::Gauge(7.0)]);
        assert!(weak.has_state() && weak.is_same(&handle.clone().downgrade()));
        assert!(!weak.is_same(&Handle(Arc::new(7)).downgrade()));
        drop(handle);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn what_has_no_state_is_never_gone() {
        let handle = Handle(Arc::new(7));
        let weak = WeakObserve::stateless(&handle);
        drop(handle);
        assert!(weak.upgrade().is_some() && !weak.has_state());
    }

    #[test]
    fn without_actions_every_action_is_unknown() {
        let handle = Handle(Arc::new(7));
        assert!(handle.actions().is_empty());
        assert_eq!(handle.act("force_open"), Err(UnknownAction));
    }
}
