use std::{
    collections::HashMap,
    fmt, ptr,
    sync::{LazyLock, Mutex, PoisonError},
};

use crate::{Metric, Reason, Rejected, Value, tally::Tally, thread_number};

/// Who speaks: the kind of layer and the name of the instance, interned, with a count of its rejections.
///
/// It is one pointer, and copying it touches no shared memory, so every call can carry it. Two values with the same
/// layer and name are the same origin and share its counts, just as they would share a row in a metrics system.
///
/// An origin is kept for the life of the process. Names come from configuration: never make one from what a client
/// sends.
#[derive(Clone, Copy)]
pub struct Origin(&'static Interned);

struct Interned {
    layer: &'static str,
    name: &'static str,
    rejections: Tally<{ THREADS + 1 }, { Reason::ALL.len() }>,
}

/// Threads whose counts have a line of their own, which only they write. The others share the last one.
const THREADS: usize = 15;

type Table = HashMap<(&'static str, &'static str), &'static Interned>;
static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

impl Origin {
    /// The origin of that layer and name. Takes a process-wide lock: call it when a layer is made, not per call.
    pub fn new(layer: &'static str, name: &str) -> Self {
        let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
        let known: &HashMap<(&str, &str), &'static Interned> = &table;
        if let Some(interned) = known.get(&(layer, name)) {
            return Self(interned);
        }
        let name: &'static str = Box::leak(Box::from(name));
        let interned: &'static Interned =
            Box::leak(Box::new(Interned { layer, name, rejections: Tally::new() }));
        table.insert((layer, name), interned);
        Self(interned)
    }

    /// The kind of layer: `circuit-breaker`, `timeout`, ...
    pub fn layer(self) -> &'static str {
        self.0.layer
    }

    /// The instance's name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Makes a rejection and counts it.
    #[inline]
    pub fn reject(self, reason: Reason) -> Rejected {
        self.0.rejections.add(thread_number(), reason as usize);
        Rejected::new(self, reason)
    }

    /// How many rejections of this kind there were.
    pub fn rejections(self, reason: Reason) -> u64 {
        self.0.rejections.sum(reason as usize)
    }

    /// Reports the count of every kind of rejection that has happened, for an [`Observe`](crate::Observe).
    pub fn observe_rejections(self, visit: &mut dyn FnMut(Metric)) {
        for reason in Reason::ALL {
            let count = self.rejections(reason);
            if count > 0 {
                visit(Metric::new("rejections", Value::Counter(count)).with_label("reason", reason.as_str()));
            }
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.layer(), self.name())
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl Eq for Origin {}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_origin_and_share_their_counts() {
        let name = String::from("equal_names");
        let (a, b) = (Origin::new("timeout", &name), Origin::new("timeout", &name));
        assert_eq!(a, b);
        assert_ne!(a, Origin::new("retry", &name));
        let _counted = a.reject(Reason::TimedOut);
        assert_eq!(b.rejections(Reason::TimedOut), 1);
        let counted = a.reject(Reason::TimedOut);
        let _copies_are_not_counted = [counted; 3];
        assert_eq!(b.rejections(Reason::TimedOut), 2);

        let mut seen = Vec::new();
        a.observe_rejections(&mut |metric| seen.push(metric));
        assert_eq!(seen, [Metric::new("rejections", Value::Counter(2)).with_label("reason", "timed_out")]);
    }

    #[test]
    fn no_count_is_lost_on_any_number_of_threads() {
        let origin = Origin::new("timeout", "no_count_is_lost");
        std::thread::scope(|scope| {
            for _ in 0..2 * THREADS {
                scope.spawn(|| (0..1000).for_each(|_| _ = origin.reject(Reason::Closed)));
            }
        });
        assert_eq!(origin.rejections(Reason::Closed), 2 * THREADS as u64 * 1000);
    }

    #[test]
    fn every_reason_has_a_slot_of_its_own() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
