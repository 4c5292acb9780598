use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

/// The time by which the caller wants an answer. Every layer honours it.
///
/// It is ambient: a [`Scope`] sets it around a call and around every poll of the call's future, on the thread that
/// polls. It does not follow a spawned task: take it along by value, and [`scope`](Self::scope) the task with it. (Tasks
/// of a `LocalSet` that is driven inside a scope are polled inside it, and see it.)
///
/// ```
/// use std::time::Duration;
/// use buttress_core::Deadline;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let deadline = Deadline::after(Duration::from_secs(2));
/// deadline.scope(async move { assert_eq!(Deadline::current(), Some(deadline)) }).await;
/// assert_eq!(Deadline::current(), None);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// That instant.
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// That long from now. Reads the clock. A time too far to be named is taken as 30 years.
    pub fn after(limit: Duration) -> Self {
        Self(later(Instant::now(), limit))
    }

    /// The deadline of the call that is being made or polled on this thread: the earliest of all scopes around it.
    ///
    /// Reads the clock only where a scope was given a duration that has not begun to run.
    pub fn current() -> Option<Self> {
        let mut limits = AMBIENT.get();
        if limits.after != NEVER {
            limits.fix(Instant::now());
            AMBIENT.set(limits);
        }
        limits.instant().map(Self)
    }

    /// Whether [`current`](Self::current) would say that the deadline has passed; without reading the clock where no
    /// deadline runs yet.
    pub fn has_expired() -> bool {
        AMBIENT.get().instant().is_some_and(|at| at <= Instant::now())
    }

    /// The instant.
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// The time that is left; zero when the deadline has passed. Reads the clock.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Runs a future under this deadline, or under the surrounding one where that is earlier. Nothing is cut off by
    /// itself: it is for those inside to honour it.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { future, scope: Scope::until(self) }
    }
}

/// What a layer's future carries so that those inside see a [`Deadline`].
///
/// A scope made [`within`](Self::within) a duration does not read the clock. The duration begins to run when somebody
/// inside first asks for the deadline, or when the layer asks because the call has to wait ([`fix`](Self::fix)).
#[derive(Debug, Clone)]
pub struct Scope(Limits);

impl Scope {
    /// A scope of that length, which has not begun to run.
    pub fn within(limit: Duration) -> Self {
        Self(Limits { after: u64::try_from(limit.as_nanos()).unwrap_or(NEVER - 1).min(NEVER - 1), at: NEVER })
    }

    /// A scope until that deadline.
    pub fn until(deadline: Deadline) -> Self {
        Self(Limits { after: NEVER, at: to_word(deadline.0) })
    }

    /// Runs `f` inside: with the earlier of this scope's deadline and the surrounding one. The surrounding one is
    /// restored also when `f` panics.
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let outside = AMBIENT.get();
        AMBIENT.set(self.0.earlier(outside));
        let _restore = Restore { scope: self, outside };
        f()
    }

    /// The deadline of this scope, or of the earliest that ever surrounded it when it was entered. Where it has not begun
    /// to run, it begins at `now`.
    pub fn fix(&mut self, now: impl FnOnce() -> Instant) -> Option<Deadline> {
        if self.0.after != NEVER {
            self.0.fix(now());
        }
        self.0.instant().map(Deadline)
    }
}

struct Restore<'a> {
    scope: &'a mut Scope,
    outside: Limits,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        self.scope.0 = AMBIENT.get();
        // Whoever asked inside began all that surrounds him.
        if self.scope.0.after == NEVER && self.outside.after != NEVER {
            self.outside.fix(Instant::now());
        }
        AMBIENT.set(self.outside);
    }
}

pin_project! {
    /// A future that runs under a [`Deadline`]: made by [`Deadline::scope`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        #[pin]
        future: F,
        scope: Scope,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.scope.enter(|| this.future.poll(cx))
    }
}

/// Two words, because a lazy limit inside a running one has to keep both until somebody reads the clock. Words and not
/// `Option<Instant>`: measured, an enum in the cell costs several times as much.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Nanoseconds that have not begun to run.
    after: u64,
    /// Nanoseconds since the process's first deadline, offset by half the range.
    at: u64,
}

const NEVER: u64 = u64::MAX;
const HALF: u64 = 1 << 63;

thread_local! {
    static AMBIENT: Cell<Limits> = const { Cell::new(Limits { after: NEVER, at: NEVER }) };
}

impl Limits {
    fn earlier(self, other: Self) -> Self {
        Self { after: self.after.min(other.after), at: self.at.min(other.at) }
    }

    fn fix(&mut self, now: Instant) {
        self.at = self.at.min(to_word(later(now, Duration::from_nanos(self.after))));
        self.after = NEVER;
    }

    fn instant(self) -> Option<Instant> {
        (self.at != NEVER).then(|| from_word(self.at))
    }
}

/// A paused clock can stand before the first reading of another runtime's, hence the offset.
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

fn to_word(at: Instant) -> u64 {
    let base = base();
    let distance = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(HALF).min(HALF - 2);
    if at >= base { HALF + distance(at - base) } else { HALF - distance(base - at) }
}

fn from_word(at: u64) -> Instant {
    let distance = Duration::from_nanos(at.abs_diff(HALF));
    if at >= HALF { base() + distance } else { base() - distance }
}

/// `Instant` panics where it overflows; a limit that long is no limit within 30 years.
fn later(now: Instant, limit: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 86_400);
    now + limit.min(YEARS)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_lazy_scope_begins_when_it_is_asked() {
        let mut scope = Scope::within(SECOND);
        advance(SECOND).await;
        let now = Instant::now();
        assert!(!scope.enter(Deadline::has_expired));
        assert_eq!(scope.enter(Deadline::current), Some(Deadline::at(now + SECOND)));
        advance(SECOND / 2).await;
        assert_eq!(scope.enter(Deadline::current), Some(Deadline::at(now + SECOND)), "it does not move");
        assert_eq!(scope.fix(|| unreachable!("it runs already")), Some(Deadline::at(now + SECOND)));
        advance(SECOND).await;
        assert!(scope.enter(Deadline::has_expired));
        assert_eq!(Deadline::current(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn asking_inside_begins_the_scopes_around() {
        let now = Instant::now();
        let (mut outer, mut inner) = (Scope::within(5 * SECOND), Scope::within(10 * SECOND));
        let asked = outer.enter(|| inner.enter(Deadline::current));
        assert_eq!(asked, Some(Deadline::at(now + 5 * SECOND)));
        advance(3 * SECOND).await;
        assert_eq!(outer.enter(Deadline::current), asked);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_nested_scopes_holds() {
        let now = Instant::now();
        let mut outer = Scope::until(Deadline::at(now + 3 * SECOND));
        let mut inner = Scope::within(5 * SECOND);
        let mut innermost = Scope::within(SECOND);
        outer.enter(|| {
            inner.enter(|| {
                innermost.enter(|| assert_eq!(Deadline::current(), Some(Deadline::at(now + SECOND))));
                assert_eq!(Deadline::current(), Some(Deadline::at(now + 3 * SECOND)));
            });
        });
        assert_eq!(inner.fix(Instant::now), Some(Deadline::at(now + 3 * SECOND)));
        assert_eq!(Deadline::current(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_inside_restores_the_outside() {
        let mut outer = Scope::until(Deadline::after(SECOND));
        let expected = outer.enter(Deadline::current);
        outer.enter(|| {
            let mut inner = Scope::within(Duration::ZERO);
            let caught = catch_unwind(AssertUnwindSafe(|| inner.enter(|| panic!("inside"))));
            assert!(caught.is_err());
            assert_eq!(Deadline::current(), expected);
        });
        assert_eq!(Deadline::current(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn interleaved_futures_keep_their_own() {
        let start = Instant::now();
        let run = |seconds: u32| async move {
            for _ in 0..3 {
                let expected = Deadline::at(start + seconds * SECOND);
                assert_eq!(Deadline::current(), Some(expected));
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::join!(
            Deadline::at(start + SECOND).scope(run(1)),
            Deadline::at(start + 2 * SECOND).scope(run(2)),
            Deadline::at(start + 3 * SECOND).scope(run(3)),
        );
    }

    #[tokio::test(start_paused = true)]
    async fn limits_too_long_for_an_instant_do_not_panic() {
        let century = Duration::from_secs(29 * 365 * 86_400);
        assert!(Deadline::after(Duration::MAX).remaining() > century);
        assert!(Scope::within(Duration::MAX).enter(Deadline::current).unwrap().remaining() > century);
    }

    proptest! {
        #[test]
        fn words_keep_instants_in_order_on_both_sides_of_the_base(a in 0..1u64 << 60, b in 0..1u64 << 60, back: bool) {
            let instant = |ns| {
                let distance = Duration::from_nanos(ns);
                if back { base().checked_sub(distance) } else { Some(base() + distance) }
            };
            if let (Some(x), Some(y)) = (instant(a), instant(b)) {
                prop_assert_eq!(from_word(to_word(x)), x);
                prop_assert_eq!(x.cmp(&y), to_word(x).cmp(&to_word(y)));
            }
        }
    }
}
