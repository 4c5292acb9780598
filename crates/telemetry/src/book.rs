use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Weak},
};

use buttress_core::{Observe, Origin, WeakObserve};
use foldhash::fast::RandomState;

use crate::{Handle, RegisterError, Registry, source::Source};

/// What a registry has written down, behind its lock.
///
/// A handle that was upgraded may be the last one, and what it drops then may register something: nothing of a layer is
/// dropped in here, all is handed out.
#[derive(Default)]
pub(crate) struct Book {
    /// In the order of registration. The dead are found when somebody looks.
    entries: Vec<Entry>,
    index: HashMap<Id, usize, RandomState>,
    /// In the order of registration.
    stacks: Vec<Stack>,
    sources: Vec<Weak<dyn Source>>,
    /// So many entries make it worth while to look for the dead.
    sweep_at: usize,
}

type Id = (&'static str, &'static str);

pub(crate) struct Entry {
    origin: Origin,
    weak: Arc<WeakObserve>,
    stacks: Vec<Arc<str>>,
}

/// What is to be dropped once the book is closed.
#[derive(Default)]
pub(crate) struct Gone {
    upgraded: Vec<Box<dyn Observe>>,
    entries: Vec<Entry>,
}

struct Stack {
    name: Arc<str>,
    /// Outermost first.
    layers: Vec<Origin>,
}

fn id(origin: Origin) -> Id {
    (origin.layer(), origin.name())
}

impl Book {
    pub(crate) fn origins(&self) -> Vec<Origin> {
        self.entries.iter().map(|entry| entry.origin).collect()
    }

    pub(crate) fn stacks(&self) -> Vec<(Arc<str>, Vec<Origin>)> {
        self.stacks.iter().map(|stack| (Arc::clone(&stack.name), stack.layers.clone())).collect()
    }

    pub(crate) fn living(&mut self, gone: &mut Gone) -> Vec<Handle> {
        // All of the layers' code before anything is changed: it may panic.
        let upgraded: Vec<_> = self.entries.iter().map(|entry| entry.weak.upgrade()).collect();
        let (mut handles, mut lives) =
            (Vec::with_capacity(upgraded.len()), Vec::with_capacity(upgraded.len()));
        for (entry, observe) in self.entries.iter().zip(upgraded) {
            lives.push(observe.is_some());
            handles.extend(observe.map(|observe| Handle { observe, stacks: entry.stacks.clone() }));
        }
        gone.entries.append(&mut self.forget(&lives));
        handles
    }

    pub(crate) fn remove(&mut self, layer: &str, name: &str) -> Vec<Entry> {
        let is_it = |origin: Origin| origin.layer() == layer && origin.name() == name;
        let others: Vec<bool> = self.entries.iter().map(|entry| !is_it(entry.origin)).collect();
        // The latencies of a telemetry layer, too: calls in flight would keep its name from the next one.
        self.sources.retain(|source| source.upgrade().is_some_and(|source| !is_it(source.origin())));
        self.forget(&others)
    }

    /// Registers all of them, or none.
    pub(crate) fn add(
        &mut self,
        stack: Option<Arc<str>>,
        layers: Vec<(Origin, WeakObserve)>,
        gone: &mut Gone,
    ) -> Result<(), RegisterError> {
        if self.needs_a_sweep(stack.as_ref(), &layers, gone) {
            self.sweep(gone);
        }
        if let Some(name) = stack.as_ref().filter(|name| self.has_stack(name)) {
            return Err(RegisterError::StackExists { name: name.to_string() });
        }
        let mut fresh: Vec<Entry> = Vec::new();
        let mut fresh_index: HashMap<Id, usize, RandomState> = HashMap::default();
        let mut order: Vec<Origin> = Vec::new();
        for (origin, weak) in layers {
            let registered = self.index.get(&id(origin)).map(|at| &self.entries[*at]);
            let again = fresh_index.get(&id(origin)).map(|at: &usize| &fresh[*at]);
            if let Some(known) = registered.or(again) {
                if is_another(&known.weak, &weak, gone) {
                    return Err(RegisterError::NameTaken { origin });
                }
                if !order.contains(&origin) {
                    order.push(origin);
                }
            } else {
                fresh_index.insert(id(origin), fresh.len());
                fresh.push(Entry { origin, weak: Arc::new(weak), stacks: Vec::new() });
                order.push(origin);
            }
        }
        let is_full = self.entries.len() + fresh.len() > Registry::MAX_LAYERS
            || self.stacks.len() + usize::from(stack.is_some()) > Registry::MAX_LAYERS;
        if is_full {
            return Err(RegisterError::Full);
        }
        for entry in fresh {
            self.index.insert(id(entry.origin), self.entries.len());
            self.entries.push(entry);
        }
        // A stack without a layer is none.
        if let Some(name) = stack.filter(|_| !order.is_empty()) {
            for origin in &order {
                self.entries[self.index[&id(*origin)]].stacks.push(Arc::clone(&name));
            }
            self.stacks.push(Stack { name, layers: order });
        }
        Ok(())
    }

    /// Registers all of them, or none. What stands in their places goes.
    pub(crate) fn replace(
        &mut self,
        stack: Arc<str>,
        layers: Vec<(Origin, WeakObserve)>,
        gone: &mut Gone,
    ) -> Result<(), RegisterError> {
        self.sweep(gone);
        let mut new = Self::default();
        new.add(Some(Arc::clone(&stack)), layers, gone)?;
        let fresh = new.entries.iter().filter(|entry| !self.index.contains_key(&id(entry.origin))).count();
        let is_full = self.entries.len() + fresh > Registry::MAX_LAYERS
            || self.stacks.len() + usize::from(!self.has_stack(&stack)) > Registry::MAX_LAYERS;
        if is_full {
            return Err(RegisterError::Full);
        }
        self.entries.iter_mut().for_each(|entry| entry.stacks.retain(|name| *name != stack));
        self.stacks.retain(|known| known.name != stack);
        for mut entry in new.entries {
            if let Some(at) = self.index.get(&id(entry.origin)) {
                entry.stacks.extend_from_slice(&self.entries[*at].stacks);
                gone.entries.push(mem::replace(&mut self.entries[*at], entry));
            } else {
                self.index.insert(id(entry.origin), self.entries.len());
                self.entries.push(entry);
            }
        }
        self.stacks.append(&mut new.stacks);
        Ok(())
    }

    fn sweep(&mut self, gone: &mut Gone) {
        let living = self.living(gone);
        self.sweep_at = (2 * living.len()).max(64);
        gone.upgraded.extend(living.into_iter().map(|handle| handle.observe));
    }

    pub(crate) fn add_source(&mut self, source: &Arc<dyn Source>) -> Result<(), RegisterError> {
        let origin = source.origin();
        self.sources.retain(|source| source.strong_count() > 0);
        // One that dies at this moment gives its recording back, which takes no lock of this registry.
        if self.sources().iter().any(|known| known.origin() == origin) {
            return Err(RegisterError::NameTaken { origin });
        }
        if self.sources.len() >= Registry::MAX_LAYERS {
            return Err(RegisterError::Full);
        }
        self.sources.push(Arc::downgrade(source));
        Ok(())
    }

    pub(crate) fn sources(&self) -> Vec<Arc<dyn Source>> {
        self.sources.iter().filter_map(Weak::upgrade).collect()
    }

    /// Looking at all of them at each registration would make many registrations slow.
    fn needs_a_sweep(
        &self,
        stack: Option<&Arc<str>>,
        layers: &[(Origin, WeakObserve)],
        gone: &mut Gone,
    ) -> bool {
        let mut is_dead = |origin: Origin| {
            self.index.get(&id(origin)).is_some_and(|at| {
                let living = self.entries[*at].weak.upgrade();
                let is_dead = living.is_none();
                gone.upgraded.extend(living);
                is_dead
            })
        };
        self.entries.len() + layers.len() > self.sweep_at.min(Registry::MAX_LAYERS)
            || self.stacks.len() == Registry::MAX_LAYERS
            || stack.is_some_and(|name| self.has_stack(name))
            || layers.iter().any(|(origin, _)| is_dead(*origin))
    }

    fn has_stack(&self, name: &str) -> bool {
        self.stacks.iter().any(|stack| *stack.name == *name)
    }

    /// Keeps the entries that are marked, and hands out the others. A stack whose layers are all gone is gone.
    fn forget(&mut self, keep: &[bool]) -> Vec<Entry> {
        if !keep.contains(&false) {
            return Vec::new();
        }
        let mut marks = keep.iter();
        let is_gone = |_: &mut Entry| !*marks.next().expect("one for each entry");
        let gone = self.entries.extract_if(.., is_gone).collect();
        let places = self.entries.iter().enumerate().map(|(at, entry)| (id(entry.origin), at));
        self.index = places.collect();
        for stack in &mut self.stacks {
            stack.layers.retain(|origin| self.index.contains_key(&id(*origin)));
        }
        self.stacks.retain(|stack| !stack.layers.is_empty());
        gone
    }
}

/// Whether two handles of one name observe different things. Those without a state are the same if they are set alike.
fn is_another(known: &WeakObserve, new: &WeakObserve, gone: &mut Gone) -> bool {
    if known.has_state() || new.has_state() {
        return !known.is_same(new);
    }
    let mut settings = |weak: &WeakObserve| {
        let mut all = Vec::new();
        if let Some(handle) = weak.upgrade() {
            handle.settings(&mut |setting| all.push(setting));
            gone.upgraded.push(handle);
        }
        all
    };
    settings(known) != settings(new)
}

#[cfg(test)]
mod tests {
    use buttress_core::{Metric, Value};

    use super::*;

    #[derive(Clone)]
    struct Layer(Arc<String>);

    impl Layer {
        fn new(name: &str) -> Self {
            Self(Arc::new(name.to_owned()))
        }
    }

    impl Observe for Layer {
        fn origin(&self) -> Origin {
            Origin::new("book-test", &self.0)
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            visit(Metric::new("calls", Value::Counter(1)));
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }

    fn names(registry: &Registry) -> Vec<&'static str> {
        registry.handles().iter().map(|handle| handle.observe.origin().name()).collect()
    }

    #[test]
    fn what_dies_leaves_its_name_and_its_stack_to_others() {
        let registry = Registry::new();
        let (a, b) = (Layer::new("a"), Layer::new("b"));
        registry.stack("s").layer(&a).layer(&b).register().unwrap();
        assert_eq!(
            registry.register(&Layer::new("a")),
            Err(RegisterError::NameTaken { origin: a.origin() }),
            "it lives"
        );
        let taken = registry.stack("s").layer(&Layer::new("c")).register();
        assert_eq!(taken, Err(RegisterError::StackExists { name: "s".into() }));
        drop(a);
        let again = Layer::new("a");
        registry.register(&again).unwrap();
        assert_eq!(names(&registry), ["b", "a"], "it is new, and the last");
        let stacks: Vec<usize> = registry.handles().iter().map(|handle| handle.stacks.len()).collect();
        assert_eq!(stacks, [1, 0], "the new one does not stand in the old one's stack");
        drop(b);
        registry.stack("s").layer(&again).register().unwrap();
        assert_eq!(registry.stacks().len(), 1);
        assert!(registry.remove("book-test", "a") && !registry.remove("book-test", "a"));
        assert!(registry.handles().is_empty() && registry.stacks().is_empty());
    }

    #[test]
    fn the_dead_make_room_and_what_lives_is_bounded() {
        let registry = Registry::new();
        let layers: Vec<Layer> = (0..Registry::MAX_LAYERS).map(|at| Layer::new(&at.to_string())).collect();
        layers.iter().for_each(|layer| registry.register(layer).unwrap());
        let one_more = Layer::new("more");
        assert_eq!(registry.register(&one_more), Err(RegisterError::Full));
        drop(layers);
        registry.register(&one_more).unwrap();
        assert_eq!(registry.0.book.lock().unwrap().entries.len(), 1);
    }

    #[test]
    fn a_handle_that_registers_when_it_is_dropped_finds_no_lock() {
        struct Last {
            registry: Registry,
            _alive: Arc<u8>,
        }
        #[derive(Clone)]
        struct Shared(Arc<Last>);
        impl Observe for Shared {
            fn origin(&self) -> Origin {
                Origin::new("book-test", "last")
            }
            fn observe(&self, _: &mut dyn FnMut(Metric)) {}
            fn downgrade(&self) -> WeakObserve {
                WeakObserve::of(&self.0, Self)
            }
        }
        impl Drop for Last {
            fn drop(&mut self) {
                self.registry.register(&Layer::new("from drop")).unwrap();
            }
        }
        let (registry, alive) = (Registry::new(), Arc::new(1));
        let last = Shared(Arc::new(Last { registry: registry.clone(), _alive: Arc::clone(&alive) }));
        registry.register(&last).unwrap();
        let handles = registry.handles();
        drop(last);
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(handles);
        assert_eq!(Arc::strong_count(&alive), 1);
        assert!(names(&registry).is_empty(), "what was registered died with the statement");
    }
}
