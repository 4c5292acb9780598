//! What the registry asks or drops may itself use the registry, or panic.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use buttress_telemetry::Registry;

/// Fails where `work` hangs.
fn ends(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        _ = done.send(());
    });
    let waited = wait.recv_timeout(Duration::from_secs(20));
    assert_ne!(waited, Err(mpsc::RecvTimeoutError::Timeout), "a deadlock");
    worker.join().unwrap();
}

#[derive(Clone)]
struct Plain(Arc<Origin>);

impl Plain {
    fn new(name: &str) -> Self {
        Self(Arc::new(Origin::new("plain", name)))
    }
}

impl Observe for Plain {
    fn origin(&self) -> Origin {
        *self.0
    }
    fn observe(&self, _: &mut dyn FnMut(Metric)) {}
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

/// Uses the registry when it is dropped.
struct State(Registry, Arc<Mutex<u32>>);

impl Drop for State {
    fn drop(&mut self) {
        let made = Plain::new("made by a drop");
        self.0.stack("made by a drop").layer(&made).register().unwrap();
        assert!(self.0.snapshot().layer("plain", "made by a drop").is_some());
        assert!(self.0.remove("plain", "made by a drop"));
        *self.1.lock().unwrap() += 1;
    }
}

/// Whoever upgrades it becomes the only owner of its state.
struct Last {
    state: Arc<State>,
    owner: Arc<Mutex<Option<Arc<State>>>>,
}

impl Last {
    fn new(registry: &Registry, dropped: &Arc<Mutex<u32>>) -> Self {
        let state = Arc::new(State(registry.clone(), Arc::clone(dropped)));
        Self { owner: Arc::new(Mutex::new(Some(Arc::clone(&state)))), state }
    }
}

impl Observe for Last {
    fn origin(&self) -> Origin {
        Origin::new("last", "last")
    }
    fn observe(&self, _: &mut dyn FnMut(Metric)) {}
    fn downgrade(&self) -> WeakObserve {
        let (owner, weak) = (Arc::clone(&self.owner), Arc::downgrade(&self.state));
        WeakObserve::new(&self.state, move || {
            let state = weak.upgrade();
            drop(owner.lock().unwrap().take());
            state.map(|state| Box::new(Self { state, owner: Arc::clone(&owner) }) as Box<dyn Observe>)
        })
    }
}

#[test]
fn what_is_dropped_while_the_registry_looks_may_use_the_registry() {
    let looks: [fn(&Registry); 4] = [
        |registry| drop(registry.handles()),
        |registry| drop(registry.snapshot()),
        // In the way, as it seems: they have to be looked for.
        |registry| registry.stack("last").layer(&Plain::new("other")).register().unwrap_or(()),
        |registry| {
            let many: Vec<Plain> = (0..200).map(|n| Plain::new(&format!("plain {n}"))).collect();
            many.iter().for_each(|plain| registry.register(plain).unwrap());
        },
    ];
    for look in looks {
        ends(move || {
            let (registry, dropped) = (Registry::new(), Arc::default());
            let last = Last::new(&registry, &dropped);
            registry.stack("last").layer(&last).register().unwrap();
            drop(last);
            assert_eq!(*dropped.lock().unwrap(), 0, "nobody has looked");
            look(&registry);
            assert_eq!(*dropped.lock().unwrap(), 1);
            assert!(registry.snapshot().layer("last", "last").is_none());
        });
    }
}

#[test]
fn what_a_handle_takes_along_may_use_the_registry_when_it_is_removed() {
    #[derive(Clone)]
    struct Stateless {
        kind: &'static str,
        _state: Arc<State>,
    }
    impl Observe for Stateless {
        fn origin(&self) -> Origin {
            Origin::new(self.kind, "last")
        }
        fn observe(&self, _: &mut dyn FnMut(Metric)) {}
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::stateless(self)
        }
    }
    ends(|| {
        let (registry, dropped) = (Registry::new(), Arc::default());
        let stateless =
            Stateless { kind: "stateless", _state: Arc::new(State(registry.clone(), Arc::clone(&dropped))) };
        registry.register(&stateless).unwrap();
        drop(stateless);
        assert!(registry.remove("stateless", "last"));
        assert_eq!(*dropped.lock().unwrap(), 1);
    });
}

#[test]
fn a_handle_may_use_the_registry_while_it_is_read() {
    #[derive(Clone)]
    struct Curious(Arc<Registry>);
    impl Observe for Curious {
        fn origin(&self) -> Origin {
            assert!(format!("{:?}", self.0).starts_with("Registry"));
            Origin::new("curious", "curious")
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            visit(Metric::new("layers", Value::Gauge(self.0.handles().len() as f64)));
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }
    ends(|| {
        let curious = Curious(Arc::new(Registry::new()));
        curious.0.stack("curious").layer(&curious).register().unwrap();
        assert_eq!(curious.0.snapshot().layers[0].figure("layers", None), Some(1.0));
    });
}

#[test]
fn a_layer_that_panics_while_it_is_read_has_no_figures_and_poisons_nothing() {
    #[derive(Clone)]
    struct Broken(Arc<()>);
    impl Observe for Broken {
        fn origin(&self) -> Origin {
            Origin::new("broken", "broken")
        }
        fn observe(&self, _: &mut dyn FnMut(Metric)) {
            panic!("on purpose");
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }
    let (registry, broken) = (Registry::new(), Broken(Arc::new(())));
    registry.register(&broken).unwrap();
    let reader = registry.clone();
    let snapshot = thread::spawn(move || reader.snapshot()).join().expect("the others' figures are read");
    assert!(snapshot.layer("broken", "broken").unwrap().figures.is_empty());
    drop(broken);
    let fine = Plain::new("after a panic");
    registry.register(&fine).unwrap();
    assert_eq!(registry.snapshot().layers.len(), 1);
}
