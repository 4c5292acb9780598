use std::{
    cell::{Cell, RefCell},
    mem,
};

use tokio::time::Instant;

use crate::Origin;

/// What a layer decided about one call, and on which figures.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// The layer that decided.
    pub origin: Origin,
    /// What it did, in `snake_case`: `refused`, `retried`, `gave_up`, `hedged`, `served_stale`.
    pub what: &'static str,
    /// The figures, in a few words: `open since 2.1 s: 62 % of 100 failed`. Nothing that a caller sent is in it.
    pub why: String,
    /// When.
    pub at: Instant,
}

impl Decision {
    /// Notes that `origin` did `what`, if somebody [collects](Decisions::collect) the decisions about the call that is
    /// being made or polled on this thread. Otherwise neither `why` nor the clock is asked for.
    ///
    /// It is for what happens rarely: a refusal, another attempt. A layer that just lets a call pass notes nothing.
    #[inline]
    pub fn note(origin: Origin, what: &'static str, why: impl FnOnce() -> String) {
        if STATE.get() != State::Idle {
            Self::add(origin, what, why);
        }
    }

    #[cold]
    fn add(origin: Origin, what: &'static str, why: impl FnOnce() -> String) {
        if NOTED.with_borrow(Vec::len) < Decisions::MAX {
            // Not while the list is borrowed: it is a layer's code.
            let decision = Self { origin, what, why: why(), at: Instant::now() };
            NOTED.with_borrow_mut(|noted| noted.push(decision));
            STATE.set(State::Noted);
        }
    }
}

/// What this thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody collects.
    Idle,
    Collected,
    /// Something was noted since it is collected.
    Noted,
}

thread_local! {
    // A word without a destructor is read in an instant; the list is touched only where there is something to note.
    static STATE: Cell<State> = const { Cell::new(State::Idle) };
    static NOTED: RefCell<Vec<Decision>> = const { RefCell::new(Vec::new()) };
}

/// The decisions about one call, in their order: the first [`MAX`](Self::MAX) of them.
///
/// Whoever observes a call keeps one beside the call's future and [collects](Self::collect) around `call` and every poll.
/// Like a [`Deadline`](crate::Deadline) this does not follow a spawned task. Empty, it holds no heap memory.
#[derive(Debug, Default)]
pub struct Decisions(Vec<Decision>);

impl Decisions {
    /// More are not kept.
    pub const MAX: usize = 32;

    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Runs `f` and collects what is decided in it. What surrounds it is restored also when `f` panics.
    ///
    /// Where collections are nested, the inner one alone collects, until its owner [passes](Self::pass_on) it on.
    #[inline]
    pub fn collect<R>(&mut self, f: impl FnOnce() -> R) -> R {
        if STATE.get() == State::Noted {
            return self.collect_beside(f);
        }
        let _restore = Restore { outside: STATE.replace(State::Collected), inside: self };
        f()
    }

    /// Where the collection around this one has noted something in this very poll.
    #[cold]
    fn collect_beside<R>(&mut self, f: impl FnOnce() -> R) -> R {
        struct Outside(Vec<Decision>);
        impl Drop for Outside {
            fn drop(&mut self) {
                NOTED.set(mem::take(&mut self.0));
                STATE.set(State::Noted);
            }
        }
        let _outside = Outside(NOTED.take());
        STATE.set(State::Collected);
        self.collect(f)
    }

    /// The decisions so far.
    pub fn as_slice(&self) -> &[Decision] {
        &self.0
    }

    /// Gives them to the collection around this one, if there is one.
    pub fn pass_on(self) {
        if !self.0.is_empty() && STATE.get() != State::Idle {
            NOTED.with_borrow_mut(|noted| append(noted, self.0));
            STATE.set(State::Noted);
        }
    }

    #[cold]
    fn take_noted(&mut self) {
        append(&mut self.0, NOTED.take());
    }
}

fn append(list: &mut Vec<Decision>, more: Vec<Decision>) {
    let room = Decisions::MAX.saturating_sub(list.len());
    list.extend(more.into_iter().take(room));
}

struct Restore<'a> {
    inside: &'a mut Decisions,
    outside: State,
}

impl Drop for Restore<'_> {
    #[inline]
    fn drop(&mut self) {
        if STATE.replace(self.outside) == State::Noted {
            self.inside.take_noted();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn origin() -> Origin {
        Origin::new("test", "decision")
    }

    fn words(decisions: &Decisions) -> Vec<&str> {
        decisions.as_slice().iter().map(|decision| &*decision.why).collect()
    }

    fn note(why: &str) {
        Decision::note(origin(), "refused", || why.into());
    }

    #[test]
    fn nobody_is_asked_why_where_nobody_listens() {
        Decision::note(origin(), "refused", || panic!("asked"));
    }

    #[test]
    fn an_inner_collection_keeps_its_own_until_it_is_passed_on() {
        let (mut outer, mut inner) = (Decisions::new(), Decisions::new());
        outer.collect(|| {
            note("a");
            inner.collect(|| note("b"));
            note("c");
        });
        assert_eq!((words(&outer), words(&inner)), (vec!["a", "c"], vec!["b"]));
        outer.collect(|| inner.pass_on());
        assert_eq!(words(&outer), ["a", "c", "b"]);
        note("nobody listens any more");
        assert_eq!(words(&outer).len(), 3);
    }

    #[test]
    fn what_was_decided_before_a_panic_is_kept_and_the_outside_restored() {
        let (mut outer, mut inner) = (Decisions::new(), Decisions::new());
        outer.collect(|| {
            let panic = AssertUnwindSafe(|| {
                inner.collect(|| {
                    note("before");
                    panic!("on purpose");
                })
            });
            assert!(catch_unwind(panic).is_err());
            note("after");
        });
        assert_eq!((words(&outer), words(&inner)), (vec!["after"], vec!["before"]));
    }

    #[test]
    fn a_reason_may_itself_make_decisions() {
        let mut decisions = Decisions::new();
        decisions.collect(|| {
            Decision::note(origin(), "outer", || {
                note("inner");
                "outer".into()
            })
        });
        assert_eq!(words(&decisions), ["inner", "outer"]);
    }

    #[test]
    fn there_are_never_more_than_the_bound() {
        let mut decisions = Decisions::new();
        decisions.collect(|| (0..3 * Decisions::MAX).for_each(|_| note("again")));
        assert_eq!(decisions.as_slice().len(), Decisions::MAX);
        let mut outer = Decisions::new();
        outer.collect(|| {
            note("first");
            decisions.pass_on();
        });
        assert_eq!(outer.as_slice().len(), Decisions::MAX);
    }
}
