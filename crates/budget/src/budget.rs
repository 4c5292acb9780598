use std::{error::Error, fmt, sync::Arc, time::Duration};

use buttress_core::{Setting, SettingValue, thread_number, thread_stripes};
use tokio::time::Instant;

use crate::ledger::{LAST_SLOT, Ledger, SLOTS};

/// How many extra calls there may be for all callers together: a share of the calls, and a floor.
///
/// **The promise**: whenever an extra call is granted, those granted in the window that ends there, this one included,
/// are at most `ratio` x the calls begun in that window + `floor_per_second` x the window. It holds exactly, with any
/// number of threads.
///
/// What is left beyond that is a matter of precision. Time is counted in twentieths of the window, and the one that is
/// leaving the window counts for the extra calls and not for the calls. Each thread gathers up to 64 calls before it looks
/// at the clock, and where traffic falls suddenly, those can be missed. So the budget may grant less than promised, by a
/// tenth at most and by 64 x `ratio` for each thread.
///
/// A clone is the same budget. All services of a layer share one; give the same to several layers, and they share it.
/// It goes by one clock: in tests with paused clocks, each of which is a runtime's own, make one for each runtime.
///
/// Neither [`deposit`](Self::deposit) nor [`withdraw`](Self::withdraw) takes a lock or allocates.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
    counts_calls: bool,
    /// Who else is asked, each after the one before.
    others: Option<Arc<Other>>,
}

struct Other {
    grants: Box<dyn Fn() -> bool + Send + Sync>,
    before: Option<Arc<Self>>,
}

#[derive(Debug)]
struct Inner {
    limit: Option<Limit>,
    start: Instant,
    slot_nanos: u64,
    ledger: Ledger,
}

#[derive(Debug)]
struct Limit {
    millionths: u64,
    floor: u64,
}

const WINDOW: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

impl Budget {
    /// Extra calls for that share of the calls (counted in millionths), and that many a second besides. Both are taken over
    /// the window: a quiet caller has the floor of a whole window at once. Reads the clock.
    ///
    /// # Errors
    /// If the ratio is not between 0 and 1000, the window not between a second and an hour, or nothing is granted at
    /// all.
    pub fn try_new(ratio: f64, floor_per_second: u32, window: Duration) -> Result<Self, InvalidBudget> {
        if !(0.0..=1000.0).contains(&ratio) {
            return Err(InvalidBudget::Ratio(ratio));
        }
        if !(SHORTEST..=LONGEST).contains(&window) {
            return Err(InvalidBudget::Window(window));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        let millionths = (ratio * 1e6).round() as u64;
        // An hour of the highest rate has 44 bits.
        let floor = window.as_nanos() * u128::from(floor_per_second) / 1_000_000_000;
        let floor = u64::try_from(floor).unwrap_or(u64::MAX);
        if millionths == 0 && floor == 0 {
            return Err(InvalidBudget::Nothing);
        }
        Ok(Self::of(Some(Limit { millionths, floor }), window))
    }

    /// Every extra call is granted; attempts alone bound them. Calls are counted all the same.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::of(None, WINDOW)
    }

    fn of(limit: Option<Limit>, window: Duration) -> Self {
        let slot_nanos = u64::try_from(window.as_nanos()).expect("an hour has 42 bits") / SLOTS;
        let inner = Inner { limit, start: Instant::now(), slot_nanos, ledger: Ledger::new(thread_stripes()) };
        Self { inner: Arc::new(inner), counts_calls: true, others: None }
    }

    /// The same budget for a layer further inside of a stack, whose calls an outer layer has counted already: it counts
    /// no calls, grants extra ones and counts those.
    #[must_use]
    pub fn counted_outside(&self) -> Self {
        Self { counts_calls: false, ..self.clone() }
    }

    /// The same budget, which asks somebody else as well before it grants an extra call: a limit that several processes
    /// share, for example. The function is called only where the budget itself grants the call; where it says no, the call
    /// stays counted. It must not block. Its panic is the caller's.
    #[must_use]
    pub fn also(self, grants: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let other = Other { grants: Box::new(grants), before: self.others };
        Self { others: Some(Arc::new(other)), ..self }
    }

    /// Counts a call that begins. Asks for the time once for up to 64 calls of a thread.
    #[inline]
    pub fn deposit(&self, now: impl FnOnce() -> Instant) {
        self.deposit_by(thread_number(), now);
    }

    #[inline]
    fn deposit_by(&self, thread: usize, now: impl FnOnce() -> Instant) {
        if self.counts_calls {
            self.inner.ledger.deposit(thread, || self.slot(now()));
        }
    }

    /// Asks for an extra call. `true` grants it and counts it.
    #[must_use = "what was granted is counted"]
    pub fn withdraw(&self, now: Instant) -> bool {
        let own = match &self.inner.limit {
            None => true,
            Some(limit) => self.inner.ledger.withdraw(self.slot(now), |calls| limit.allowed(calls)),
        };
        own && self.others.as_ref().is_none_or(|other| other.grants())
    }

    /// How many extra calls it would grant now by itself; `None` where it is unlimited.
    #[must_use]
    pub fn available(&self, now: Instant) -> Option<u64> {
        let limit = self.inner.limit.as_ref()?;
        let slot = self.slot(now);
        Some(limit.allowed(self.inner.ledger.calls(slot)).saturating_sub(self.inner.ledger.extra(slot)))
    }

    /// Tells its settings, for the [`Observe`](buttress_core::Observe) of the layer that asks it: `budget_ratio`, and for
    /// each `budget_window` a `budget_floor`.
    #[expect(clippy::cast_precision_loss, reason = "a share of calls, not a ledger")]
    pub fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let ratio = self.inner.limit.as_ref().map(|limit| SettingValue::Ratio(limit.millionths as f64 / 1e6));
        let floor = self.inner.limit.as_ref().map(|limit| SettingValue::Count(limit.floor));
        let window = Duration::from_nanos(self.inner.slot_nanos.saturating_mul(SLOTS));
        visit(Setting::new("budget_ratio", ratio.unwrap_or(SettingValue::Off)));
        visit(Setting::new("budget_floor", floor.unwrap_or(SettingValue::Off)));
        visit(Setting::new("budget_window", SettingValue::Duration(window)));
    }

    /// How many calls were ever counted.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.ledger.made()
    }

    fn slot(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.inner.start).as_nanos();
        u64::try_from(nanos / u128::from(self.inner.slot_nanos)).unwrap_or(LAST_SLOT).min(LAST_SLOT)
    }
}

impl Other {
    fn grants(&self) -> bool {
        self.before.as_ref().is_none_or(|before| before.grants()) && (self.grants)()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("inner", &self.inner)
            .field("counts_calls", &self.counts_calls)
            .field("asks_others", &self.others.is_some())
            .finish()
    }
}

impl Limit {
    fn allowed(&self, calls: u64) -> u64 {
        // A window counts at most 36 bits of calls, so this has 66: rather too few than an overflow.
        calls.saturating_mul(self.millionths) / 1_000_000 + self.floor
    }
}

/// A fifth of the calls of the last 10 s, and 10 a second.
impl Default for Budget {
    fn default() -> Self {
        Self::try_new(0.2, 10, WINDOW).expect("the default is valid")
    }
}

/// Why a [`Budget`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidBudget {
    /// The ratio is not between 0 and 1000.
    Ratio(f64),
    /// The window is not between a second and an hour.
    Window(Duration),
    /// Nothing would ever be granted. Whoever wants no extra calls says so to the layer, by its number of attempts.
    Nothing,
}

impl fmt::Display for InvalidBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ratio(ratio) => {
                write!(f, "a budget's ratio of extra calls to calls must be between 0 and 1000, not {ratio}")
            }
            Self::Window(window) => {
                write!(f, "a budget's window must be between a second and an hour, not {window:?}")
            }
            Self::Nothing => f.write_str("a budget without a ratio and without a floor grants nothing"),
        }
    }
}

impl Error for InvalidBudget {}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
