//! Limits that become others at any moment, against lists that remember everything.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{Rate, clock::START};

const PERIOD: u64 = 1_000_000;
const PERIODS: [u64; 4] = [PERIOD, 2 * PERIOD, PERIOD / 3, 5 * PERIOD];

fn rate(units: u32, period: u64) -> Rate {
    Rate::try_new(units, Duration::from_nanos(period)).unwrap()
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Take(u32),
    /// Of the one that was taken so many ago.
    Back(usize),
    /// So many units in that of the periods.
    Change(u32, usize),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let time = prop_oneof![
        3 => Just(0),
        4 => 0..PERIOD / 50,
        2 => 0..2 * PERIOD,
        1 => (1..3u64).prop_map(|periods| periods * PERIOD),
        1 => (1..3u64).prop_map(|periods| periods * PERIOD - 1),
    ];
    let step = prop_oneof![
        8 => (0..4u32).prop_map(Step::Take),
        1 => (0..5usize).prop_map(Step::Back),
        2 => (1..20u32, 0..PERIODS.len()).prop_map(|(units, period)| Step::Change(units, period)),
    ];
    prop::collection::vec((time, step), 1..60)
}

struct Taken {
    at: u64,
    units: u32,
    /// By all the limits that there were.
    is_known: bool,
    was_given_back: bool,
}

/// What a limit of units within any period must know and may not hold against anybody.
struct Naive {
    taken: Vec<Taken>,
    units: u32,
    period: u64,
}

impl Naive {
    fn within(&self, length: u64, now: u64, also_forgotten: bool) -> u32 {
        let counts = |one: &&Taken| now - one.at < length && (one.is_known || also_forgotten);
        self.taken.iter().filter(counts).map(|one| one.units).sum()
    }

    fn change(&mut self, units: u32, period: u64, now: u64) {
        for one in &mut self.taken {
            one.is_known &= now - one.at < self.period;
        }
        (self.units, self.period) = (units, period);
    }
}

/// A call goes after as long as it was told, whatever the limits have been.
fn is_told_the_truth(meter: &Meter, mut now: u64) -> Result<(), TestCaseError> {
    let (before, said) = (now, meter.wait(7, now));
    for _ in 0..7 {
        now += meter.wait(1, now);
        prop_assert_eq!(meter.take(1, now, now), Ok(()));
    }
    prop_assert_eq!(now - before, said);
    Ok(())
}

fn windows(make: impl Fn(Rate) -> Limit, slack: u64, steps: Vec<(u64, Step)>) -> Result<(), TestCaseError> {
    let meter = Meter::new(make(rate(5, PERIOD)));
    let mut naive = Naive { taken: Vec::new(), units: 5, period: PERIOD };
    let mut now = START;
    for (time, step) in steps {
        now += time;
        match step {
            Step::Take(n) => match meter.take(n, now, now) {
                Ok(()) => {
                    naive.taken.push(Taken { at: now, units: n, is_known: true, was_given_back: false });
                    prop_assert!(n == 0 || naive.within(naive.period, now, false) <= naive.units);
                }
                Err(None) => prop_assert!(n > naive.units),
                Err(Some(wait)) => {
                    prop_assert!(n <= naive.units && wait > 0);
                    prop_assert!(naive.within(naive.period + slack, now, true) + n > naive.units);
                }
            },
            Step::Back(ago) => {
                if let Some(index) = naive.taken.len().checked_sub(ago + 1) {
                    let one = &mut naive.taken[index];
                    if !std::mem::replace(&mut one.was_given_back, true) {
                        meter.give_back(one.units, one.at, now);
                        // What counts a little longer than it should, by this limit or by one before it, is not
                        // given back in that time.
                        if one.is_known && now - one.at < naive.period {
                            naive.taken.remove(index);
                        }
                    }
                }
            }
            Step::Change(units, period) => {
                meter.change(make(rate(units, PERIODS[period])), now);
                naive.change(units, PERIODS[period], now);
            }
        }
        let left = naive.units.saturating_sub(naive.within(naive.period, now, false));
        prop_assert!(meter.available(now) <= left);
        let surely = naive.units.saturating_sub(naive.within(naive.period + slack, now, true));
        prop_assert!(meter.available(now) >= surely, "{} of {surely}", meter.available(now));
    }
    is_told_the_truth(&meter, now)
}

proptest! {
    #[test]
    fn a_window_that_changes_forgets_nothing_that_it_knew(steps in steps()) {
        // Parts of the longest period that a unit came in, and two of the longest for the window itself.
        windows(Limit::sliding_window, 3 * 5 * PERIOD / 256, steps)?;
    }

    #[test]
    fn a_log_that_changes_forgets_nothing_that_it_knew(steps in steps()) {
        windows(|rate| Limit::sliding_log(rate).unwrap(), 0, steps)?;
    }

    #[test]
    fn a_fixed_window_that_changes_counts_on(steps in steps()) {
        let meter = Meter::new(Limit::fixed_window(rate(5, PERIOD)));
        let (mut now, mut units, mut period, mut window, mut taken) = (START, 5, PERIOD, 0, 0);
        for (time, step) in steps {
            now += time;
            if now / period != window {
                (window, taken) = (now / period, 0);
            }
            match step {
                Step::Take(n) => {
                    let fits = n <= units && taken + n <= units;
                    prop_assert_eq!(meter.take(n, now, now).is_ok(), fits || (n == 0 && taken <= units));
                    taken += if fits { n } else { 0 };
                }
                Step::Back(_) => {}
                Step::Change(to, at) => {
                    (units, period) = (to, PERIODS[at]);
                    window = now / period;
                    meter.change(Limit::fixed_window(rate(units, period)), now);
                }
            }
            prop_assert_eq!(meter.available(now), units.saturating_sub(taken));
        }
        is_told_the_truth(&meter, now)?;
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "a model")]
    fn a_bucket_that_changes_keeps_its_level(burst in 1..10u32, steps in steps()) {
        let meter = Meter::new(Limit::gcra(rate(5, PERIOD), burst).unwrap());
        let (mut now, mut burst, mut per_nano, mut level) = (START, f64::from(burst), 5.0 / PERIOD as f64, 0.0f64);
        for (time, step) in steps {
            now += time;
            level = (level - time as f64 * per_nano).max(0.0);
            match step {
                Step::Take(n) => {
                    let sum = level + f64::from(n);
                    match meter.take(n, now, now) {
                        Ok(()) => {
                            prop_assert!(sum <= burst + 0.001, "{sum} of {burst}");
                            level = sum;
                        }
                        Err(_) => prop_assert!(sum > burst - 0.01, "{sum} of {burst}"),
                    }
                }
                Step::Back(_) => {}
                Step::Change(units, period) => {
                    let limit = Limit::gcra(rate(units, PERIODS[period]), units).unwrap();
                    meter.change(limit, now);
                    burst = f64::from(units);
                    per_nano = 1.0 / limit.interval() as f64;
                }
            }
        }
        is_told_the_truth(&meter, now)?;
    }
}

/// Calls that come while the limits change again and again: what was taken in all is within the largest of them.
#[test]
fn changes_under_way_make_no_units() {
    let slow = Duration::from_secs(1 << 20);
    let make: [fn(Rate) -> Limit; 4] = [
        Limit::sliding_window,
        |rate| Limit::sliding_log(rate).unwrap(),
        Limit::fixed_window,
        |rate| Limit::gcra(rate, rate.units()).unwrap(),
    ];
    for make in make {
        let limit = |units, periods| make(Rate::try_new(units, slow * periods).unwrap());
        let meter = Meter::new(limit(30_000, 1));
        let admitted: u32 = thread::scope(|scope| {
            let take =
                || (0..100_000u64).map(|at| u32::from(meter.take(1, START + at, START + at).is_ok())).sum();
            let threads: [thread::ScopedJoinHandle<'_, u32>; 2] = [scope.spawn(take), scope.spawn(take)];
            for round in 0..2_000 {
                let (units, periods) = [(30_000, 1), (10, 2), (40_000, 4), (17, 1)][round % 4];
                meter.change(limit(units, periods), START);
                thread::yield_now();
            }
            meter.change(limit(40_000, 2), START);
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(meter.available(START + 100_000), 40_000 - admitted, "{:?}", limit(1, 1));
    }
}

/// It has come back by itself before the limit changed: by the new one alone, it would seem to be taken still.
#[test]
fn a_unit_that_came_back_before_the_change_is_not_given_back_by_hand() {
    let at = |periods| START / PERIOD * PERIOD + periods * PERIOD;
    let bucket = |period| Limit::gcra(rate(1, period), 1).unwrap();
    let window = |period| Limit::fixed_window(rate(1, period));
    let makes: [&dyn Fn(u64) -> Limit; 2] = [&bucket, &window];
    for make in makes {
        let meter = Meter::new(make(PERIOD));
        assert_eq!(meter.take(1, at(1), at(1)), Ok(()));
        assert_eq!(meter.take(1, at(2), at(2)), Ok(()), "the first has come back");
        meter.change(make(1_000 * PERIOD), at(2));
        meter.give_back(1, at(1), at(2) + 1);
        assert!(meter.take(1, at(4), at(4)).is_err(), "{:?}", make(PERIOD));
    }
}

/// What was taken since then is given back as ever.
#[test]
fn a_unit_that_was_taken_since_the_change_is_given_back() {
    let bucket = |period| Limit::gcra(rate(1, period), 1).unwrap();
    let window = |period| Limit::fixed_window(rate(1, period));
    let makes: [&dyn Fn(u64) -> Limit; 2] = [&bucket, &window];
    for make in makes {
        let meter = Meter::new(make(PERIOD));
        meter.change(make(1_000 * PERIOD), START);
        assert_eq!(meter.take(1, START, START), Ok(()));
        meter.give_back(1, START, START);
        assert_eq!(meter.take(1, START, START), Ok(()), "{:?}", make(PERIOD));
    }
}

/// A call that comes while the limit changes is judged by the one or the other, and not by half of each.
#[test]
fn a_change_under_way_refuses_nothing_for_good() {
    let bucket = |period| Limit::gcra(rate(1, period), 1).unwrap();
    let meter = Meter::new(bucket(PERIOD));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let refused =
                (0..300_000).map(|_| meter.take(1, START, START)).filter(|taken| *taken == Err(None));
            let refused = refused.count();
            over.store(true, Relaxed);
            refused
        });
        for round in 0.. {
            if over.load(Relaxed) {
                break;
            }
            meter.change(bucket([PERIOD, 1_000_000 * PERIOD][round % 2]), START);
        }
        assert_eq!(asks.join().unwrap(), 0);
    });
}

/// A million days and more do not fit into the word.
#[test]
fn what_takes_longer_than_time_lasts_is_refused_after_every_change() {
    let bucket = |units, period, burst| {
        Limit::gcra(Rate::try_new(units, Duration::from_secs(period)).unwrap(), burst).unwrap()
    };
    let meter = Meter::new(bucket(1_000_000, 1, 1_000_000));
    assert_eq!(meter.take(1_000_000, START, START), Ok(()));
    for days in 1..4 {
        meter.change(bucket(1, days * 86_400, 1), START);
        assert!(meter.take(1, START, START).is_err_and(|wait| wait.is_some()));
    }
}
