use std::thread;

use proptest::prelude::*;

use super::*;
use crate::ledger::MOST;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn refuses_what_cannot_be() {
    for ratio in [-0.1, 1000.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(Budget::try_new(ratio, 10, WINDOW), Err(InvalidBudget::Ratio(_))));
    }
    for window in [Duration::ZERO, 999 * MS, 3601 * SECOND] {
        assert_eq!(Budget::try_new(0.2, 10, window).unwrap_err(), InvalidBudget::Window(window));
    }
    assert_eq!(Budget::try_new(0.0, 0, WINDOW).unwrap_err(), InvalidBudget::Nothing);
    assert!(Budget::try_new(0.0, 1, SECOND).is_ok());
    assert!(Budget::try_new(1000.0, u32::MAX, LONGEST).is_ok());
}

/// Takes all there is.
fn drain(budget: &Budget, now: Instant) -> u64 {
    (0..1_000_000).take_while(|_| budget.withdraw(now)).count() as u64
}

#[test]
fn grants_the_floor_of_a_window_at_once_and_then_as_it_comes_back() {
    let budget = Budget::default();
    let start = budget.inner.start;
    assert_eq!(drain(&budget, start), 100);
    assert_eq!(
        drain(&budget, start + 10 * SECOND),
        0,
        "extra calls of the first slot count until it has left whole"
    );
    assert_eq!(drain(&budget, start + 10_500 * MS), 100);
}

#[test]
fn grants_a_share_of_the_calls() {
    let budget = Budget::try_new(0.2, 0, WINDOW).unwrap();
    let now = budget.inner.start;
    for _ in 0..1004 {
        budget.deposit(|| now);
    }
    assert_eq!(budget.available(now), Some(200));
    assert_eq!(drain(&budget, now), 200);
    assert_eq!(budget.available(now), Some(0));
    budget.deposit(|| now);
    assert_eq!(drain(&budget, now), 1);
    assert_eq!(budget.calls(), 1005);
}

#[test]
fn old_calls_give_nothing() {
    let budget = Budget::try_new(0.2, 0, WINDOW).unwrap();
    let now = budget.inner.start;
    for _ in 0..1000 {
        budget.deposit(|| now);
    }
    assert_eq!(budget.available(now + 9_500 * MS), Some(200));
    assert_eq!(budget.available(now + 10 * SECOND), Some(0));
}

/// What is spent at a steady rate comes near to the share, however slow the rate is.
#[test]
fn a_steady_rate_gets_its_share() {
    for (pause, calls) in [(MS, 60_000), (100 * MS, 6000), (SECOND, 600), (7 * SECOND, 600)] {
        let budget = Budget::try_new(0.5, 0, WINDOW).unwrap();
        let mut granted = 0;
        for n in 0..calls {
            let now = budget.inner.start + n * pause;
            budget.deposit(|| now);
            granted += u32::from(budget.withdraw(now));
        }
        let share = f64::from(granted) / f64::from(calls);
        assert!((0.44..=0.5).contains(&share), "{share} at one call in {pause:?}");
    }
}

#[test]
fn an_incident_after_a_long_time_of_peace_finds_the_budget_full() {
    let budget = Budget::try_new(0.2, 0, WINDOW).unwrap();
    let mut now = budget.inner.start;
    for _ in 0..3_600_000 {
        now += MS;
        budget.deposit(|| now);
    }
    // 10,000 calls in the last window; a twentieth may have left already.
    let available = budget.available(now).unwrap();
    assert!((1880..=2000).contains(&available), "{available}");
}

/// As a retry and the hedge inside of it, which sees the same calls.
#[test]
fn a_call_that_passes_two_layers_counts_once() {
    let retry = Budget::try_new(0.2, 0, WINDOW).unwrap();
    let hedge = retry.counted_outside().clone();
    let now = retry.inner.start;
    for _ in 0..1000 {
        retry.deposit(|| now);
        hedge.deposit(|| now);
    }
    assert_eq!((retry.calls(), hedge.calls()), (1000, 1000));
    assert_eq!(drain(&hedge, now), 200);
    assert!(!retry.withdraw(now));
}

#[test]
fn unlimited_grants_everything_and_still_counts_calls() {
    let budget = Budget::unlimited();
    budget.deposit(|| budget.inner.start);
    assert!((0..100_000).all(|_| budget.withdraw(budget.inner.start)));
    assert_eq!((budget.available(budget.inner.start), budget.calls()), (None, 1));
}

#[test]
fn many_threads_never_take_more_than_there_is() {
    let budget = Budget::try_new(0.1, 5, WINDOW).unwrap();
    let now = budget.inner.start + 3 * SECOND;
    let granted: usize = thread::scope(|scope| {
        let worker = || {
            (0..10_000)
                .filter(|_| {
                    budget.deposit(|| now);
                    budget.withdraw(now)
                })
                .count()
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    let granted = granted as u64 + drain(&budget, now);
    assert_eq!(budget.calls(), 40_000);
    assert_eq!(granted, 4000 + 50, "no more, and after the rush no less");
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    Calls { thread: usize, number: usize },
    Extra(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..400_u32).prop_map(Step::Wait),
        1 => (0..30_000_u32).prop_map(Step::Wait),
        4 => (0..4_usize, 1..150_usize).prop_map(|(thread, number)| Step::Calls { thread, number }),
        4 => (1..40_usize).prop_map(Step::Extra),
    ];
    prop::collection::vec(step, 1..60)
}

/// A log of everything that happened, looked through for each question.
#[derive(Default)]
struct Naive {
    calls: Vec<Duration>,
    extra: Vec<Duration>,
}

fn within(log: &[Duration], after: impl Fn(Duration) -> bool) -> u64 {
    log.iter().filter(|at| after(**at)).count() as u64
}

proptest! {
    #[test]
    fn keeps_its_promise_and_is_not_miserly(
        steps in steps(), ratio in 0..2_000_000_u64, floor in 0..20_u32, window in 1000..20_000_u64,
    ) {
        prop_assume!(ratio > 0 || floor > 0);
        let window = Duration::from_millis(window);
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let Ok(budget) = Budget::try_new(ratio as f64 / 1e6, floor, window) else { return Ok(()) };
        let limit = budget.inner.limit.as_ref().unwrap();
        let slot = Duration::from_nanos(budget.inner.slot_nanos);
        let slots = |at: Duration| at.as_nanos() / slot.as_nanos();
        let mut naive = Naive::default();
        let mut at = Duration::ZERO;
        for step in steps {
            let now = budget.inner.start + at;
            match step {
                Step::Wait(ms) => at += ms * MS,
                Step::Calls { thread, number } => for _ in 0..number {
                    budget.deposit_by(thread, || now);
                    naive.calls.push(at);
                },
                Step::Extra(number) => for _ in 0..number {
                    if budget.withdraw(now) {
                        naive.extra.push(at);
                        let in_window = |then| then + window > at;
                        let allowed = limit.allowed(within(&naive.calls, in_window));
                        prop_assert!(within(&naive.extra, in_window) <= allowed, "too many");
                    } else {
                        let calls = within(&naive.calls, |then| slots(then) + u128::from(SLOTS) > slots(at));
                        let extra = within(&naive.extra, |then| slots(then) + u128::from(SLOTS) >= slots(at));
                        let missed = MOST * thread_stripes() as u64;
                        prop_assert!(extra >= limit.allowed(calls.saturating_sub(missed)), "too few");
                    }
                },
            }
        }
        prop_assert_eq!(budget.calls(), naive.calls.len() as u64);
    }
}

#[test]
fn others_are_asked_in_turn_and_only_where_the_budget_itself_grants() {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    };

    let (first, second) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (one, two) = (Arc::clone(&first), Arc::clone(&second));
    // Two extra calls by itself.
    let budget = Budget::try_new(0.0, 2, Duration::from_secs(1))
        .unwrap()
        .also(move || one.fetch_add(1, Relaxed) != 0)
        .also(move || two.fetch_add(1, Relaxed) == 0);
    let now = budget.inner.start;
    assert!(!budget.withdraw(now), "the first says no, and the second is not asked");
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (1, 0));
    assert!(budget.counted_outside().withdraw(now), "both say yes");
    assert!(!budget.withdraw(now), "what was refused stays counted");
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (2, 1));
}
