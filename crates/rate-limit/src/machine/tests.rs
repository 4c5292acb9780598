use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Rate, clock::START};

const PERIOD: u64 = 1_000_000;

fn rate(units: u32) -> Rate {
    Rate::try_new(units, Duration::from_nanos(PERIOD)).unwrap()
}

fn limits(units: u32) -> [Limit; 5] {
    [
        Limit::sliding_log(rate(units)).unwrap(),
        Limit::sliding_window(rate(units)),
        Limit::fixed_window(rate(units)),
        Limit::gcra(rate(units), 1).unwrap(),
        Limit::gcra(rate(units), units).unwrap(),
    ]
}

/// Everything that was let through, one after the other: slow and plain.
#[derive(Debug, Default)]
struct Naive(Vec<(u64, u32)>);

impl Naive {
    /// Units in the time of that length which ends at `to`, and holds its end.
    fn within(&self, length: u64, to: u64) -> u64 {
        self.0
            .iter()
            .filter(|(at, _)| *at <= to && to - *at < length)
            .map(|(_, units)| u64::from(*units))
            .sum()
    }

    /// The most in any time of that length: it ends where something came.
    fn worst(&self, length: u64) -> u64 {
        self.0.iter().map(|(at, _)| self.within(length, *at)).max().unwrap_or(0)
    }
}

/// Steps of time and units: bursts, pauses, and what comes just at an edge.
fn arrivals() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let step = prop_oneof![
        3 => Just(0),
        3 => 0..PERIOD / 100,
        2 => 0..2 * PERIOD,
        1 => (1..4u64).prop_map(|periods| periods * PERIOD),
        1 => (1..3u64).prop_map(|periods| periods * PERIOD - 1),
        1 => Just(300 * PERIOD),
    ];
    prop::collection::vec((step, 1..4u32), 1..200)
}

fn run(
    machine: Machine,
    arrivals: &[(u64, u32)],
    mut each: impl FnMut(&State, u64, u32, &Result<(), Wait>),
) -> Naive {
    let (mut state, mut now, mut naive) = (machine.idle(), START, Naive::default());
    for (step, units) in arrivals {
        now += step;
        let before = state.clone();
        let taken = machine.take(&mut state, *units, now);
        each(&before, now, *units, &taken);
        if taken.is_ok() {
            naive.0.push((now, *units));
        } else {
            assert_eq!(
                machine.available(&before, now),
                machine.available(&state, now),
                "a refusal takes nothing"
            );
        }
    }
    naive
}

proptest! {
    #[test]
    fn a_log_admits_what_fits_and_nothing_else(units in 1..20u32, arrivals in arrivals()) {
        let machine = Machine::new(limits(units)[0]);
        let (mut state, mut now, mut naive) = (machine.idle(), START, Naive::default());
        for (step, n) in arrivals {
            now += step;
            let fits = naive.within(PERIOD, now) + u64::from(n) <= u64::from(units);
            prop_assert_eq!(machine.take(&mut state, n, now).is_ok(), fits);
            if fits {
                naive.0.push((now, n));
            }
            prop_assert_eq!(u64::from(units) - naive.within(PERIOD, now), u64::from(machine.available(&state, now)));
        }
    }

    #[test]
    fn regression_10_no_window_of_a_period_holds_more_than_the_limit(units in 1..20u32, arrivals in arrivals(), parts in 1..300u32) {
        prop_assert!(run(Machine::new(limits(units)[0]), &arrivals, |_, _, _, _| ()).worst(PERIOD) <= units.into());
        let window = Machine::cut(limits(units)[1], parts);
        prop_assert!(run(window, &arrivals, |_, _, _, _| ()).worst(PERIOD) <= units.into());
    }

    /// The other side of the bound: what an exact log over a period longer by two parts would admit is admitted.
    #[test]
    fn a_window_refuses_little_that_a_log_would_admit(units in 1..20u32, arrivals in arrivals(), parts in 1..300u32) {
        let machine = Machine::cut(limits(units)[1], parts);
        let longer = PERIOD + 2 * PERIOD / u64::from(parts);
        let (mut state, mut now, mut naive) = (machine.idle(), START, Naive::default());
        for (step, n) in arrivals {
            now += step;
            let surely = naive.within(longer, now) + u64::from(n) <= u64::from(units);
            let taken = machine.take(&mut state, n, now).is_ok();
            prop_assert!(taken || !surely);
            if taken {
                naive.0.push((now, n));
            }
        }
    }

    #[test]
    fn gcra_admits_the_burst_and_what_the_rate_makes_of_any_time(units in 1..20u32, burst in 1..30u32, arrivals in arrivals(), length in 1..3 * PERIOD) {
        let machine = Machine::new(Limit::gcra(rate(units), burst).unwrap());
        let naive = run(machine, &arrivals, |_, _, _, _| ());
        let interval = PERIOD.div_ceil(units.into());
        prop_assert!(naive.worst(length) <= u64::from(burst) + (length - 1) / interval);
    }

    #[test]
    fn a_fixed_window_holds_its_limit_between_edges(units in 1..20u32, arrivals in arrivals()) {
        let naive = run(Machine::new(limits(units)[2]), &arrivals, |_, _, _, _| ());
        for (at, _) in &naive.0 {
            let edge = at / PERIOD * PERIOD;
            let sum: u32 = naive.0.iter().filter(|(at, _)| *at >= edge && at - edge < PERIOD).map(|(_, units)| units).sum();
            prop_assert!(sum <= units);
        }
    }

    #[test]
    fn what_a_refusal_says_is_exact(units in 1..20u32, arrivals in arrivals()) {
        for limit in limits(units) {
            let machine = Machine::new(limit);
            run(machine, &arrivals, |state, now, n, taken| {
                let wait = machine.wait(state, n.into(), now);
                match taken {
                    Ok(()) => assert_eq!(wait, 0),
                    Err(None) => assert!(n > limit.most_at_once()),
                    Err(Some(said)) => {
                        assert_eq!(*said, wait);
                        assert!(machine.take(&mut state.clone(), n, now + said).is_ok(), "{limit:?} {said}");
                        assert!(machine.take(&mut state.clone(), n, now + said - 1).is_err(), "{limit:?} {said}");
                    }
                }
            });
        }
    }

    /// Single units, each taken as soon as it can be.
    #[test]
    fn the_wait_of_a_queue_is_what_its_last_waits(units in 1..20u32, arrivals in arrivals(), queue in 1..100u64) {
        for limit in limits(units) {
            let machine = Machine::new(limit);
            let (mut state, mut now) = (machine.idle(), START);
            for (step, n) in &arrivals {
                now += step;
                let _ = machine.take(&mut state, *n, now);
            }
            let said = machine.wait(&state, queue, now);
            let mut at = now;
            for _ in 0..queue {
                at += machine.wait(&state, 1, at);
                prop_assert!(machine.take(&mut state, 1, at).is_ok());
            }
            prop_assert_eq!(at - now, said, "{:?}", limit);
        }
    }

    #[test]
    fn what_is_given_back_was_never_taken(units in 1..20u32, arrivals in arrivals(), later in 0..2 * PERIOD) {
        for limit in limits(units) {
            let machine = Machine::new(limit);
            let (mut state, mut now) = (machine.idle(), START);
            for (step, n) in &arrivals {
                now += step;
                let _ = machine.take(&mut state, *n, now);
            }
            now += PERIOD / 7;
            let mut untouched = state.clone();
            if machine.take(&mut state, 1, now).is_ok() {
                let later = now + later;
                machine.give_back(&mut state, 1, now, later);
                // What the burst could not keep meanwhile is lost, for nobody had room for it.
                prop_assert!(machine.available(&state, later) <= machine.available(&untouched, later));
                if later == now || !matches!(limit.algorithm(), Algorithm::Gcra { .. }) {
                    prop_assert_eq!(machine.available(&state, later), machine.available(&untouched, later), "{:?}", limit);
                    prop_assert_eq!(machine.take(&mut state, 1, later), machine.take(&mut untouched, 1, later));
                }
            }
        }
    }

    /// Given back late, when some of it may have come back by itself, and others have taken since.
    #[test]
    fn what_is_given_back_late_makes_no_units(units in 1..20u32, first in arrivals(), second in arrivals()) {
        for limit in limits(units) {
            let machine = Machine::new(limit);
            let (mut state, mut now) = (machine.idle(), START);
            for (step, n) in &first {
                now += step;
                let _ = machine.take(&mut state, *n, now);
            }
            now += PERIOD / 3;
            let mut without = state.clone();
            if machine.take(&mut state, 1, now).is_err() {
                continue;
            }
            let taken = now;
            for (step, n) in &second {
                now += step;
                // The same calls are let through in both worlds.
                if machine.available(&without, now) >= *n && machine.take(&mut state, *n, now).is_ok() {
                    prop_assert!(machine.take(&mut without, *n, now).is_ok());
                }
                let mut back = state.clone();
                machine.give_back(&mut back, 1, taken, now);
                prop_assert!(machine.available(&back, now) <= machine.available(&without, now), "{:?}", limit);
                prop_assert!(machine.wait(&back, 50, now) >= machine.wait(&without, 50, now), "{:?}", limit);
            }
        }
    }

    #[test]
    fn an_idle_state_says_the_same_as_none(units in 1..20u32, arrivals in arrivals()) {
        for limit in limits(units) {
            let machine = Machine::new(limit);
            let (mut state, mut now) = (machine.idle(), START);
            for (step, n) in &arrivals {
                now += step;
                let _ = machine.take(&mut state, *n, now);
            }
            let after = machine.idle_after(&state, now);
            prop_assert_eq!(machine.available(&state, now + after), limit.most_at_once());
            if after > 0 {
                prop_assert!(machine.available(&state, now + after - 1) < limit.most_at_once());
            }
        }
    }

    /// Threads read the clock one after the other and come in another order.
    #[test]
    fn a_clock_that_steps_back_a_little_harms_nothing(units in 1..5u32, steps in prop::collection::vec((0..PERIOD / 4, 0..2_000u64), 1..200)) {
        for limit in limits(units) {
            let machine = Machine::new(limit);
            let (mut state, mut now, mut admitted) = (machine.idle(), START, 0u64);
            for (step, back) in &steps {
                now += step;
                let at = now - back;
                match machine.take(&mut state, 1, at) {
                    Ok(()) => admitted += 1,
                    Err(wait) => prop_assert!(wait.unwrap() <= 2 * PERIOD),
                }
            }
            let periods = (now - START) / PERIOD + 2;
            prop_assert!(admitted <= periods * u64::from(units) + u64::from(units), "{:?}", limit);
        }
    }
}

#[test]
fn a_burst_after_a_timer_that_was_late_is_not_lost() {
    let machine = Machine::new(Limit::gcra(rate(10), 1).unwrap());
    let mut state = machine.idle();
    let interval = PERIOD / 10;
    machine.take(&mut state, 1, START).unwrap();
    // Three wait since then, and are let through by one timer.
    for _ in 0..3 {
        machine.take_late(&mut state, 1, START, START + 3 * interval + 5).unwrap();
    }
    assert_eq!(machine.take_late(&mut state, 1, START, START + 3 * interval + 5), Err(Some(interval - 5)));
}

#[test]
fn units_that_can_never_be_there_are_refused_for_good() {
    for limit in limits(5) {
        let machine = Machine::new(limit);
        let mut state = machine.idle();
        assert_eq!(machine.take(&mut state, limit.most_at_once() + 1, START), Err(None));
        assert_eq!(machine.take(&mut state, u32::MAX, START), Err(None));
        assert_eq!(machine.take(&mut state, 0, START), Ok(()));
        assert_eq!(machine.take(&mut state, limit.most_at_once(), START), Ok(()));
    }
}

#[test]
fn extreme_rates_do_not_overflow() {
    let slow = Rate::try_new(1, Rate::MAX_PERIOD).unwrap();
    let fast = Rate::try_new(u32::MAX, Duration::from_secs(5)).unwrap();
    let short = Rate::try_new(1, Duration::from_nanos(1)).unwrap();
    for rate in [slow, fast, short] {
        for limit in [Limit::sliding_window(rate), Limit::fixed_window(rate), Limit::gcra(rate, 1).unwrap()] {
            let machine = Machine::new(limit);
            let mut state = machine.idle();
            assert_eq!(machine.take(&mut state, 1, START), Ok(()));
            assert!(machine.wait(&state, u64::MAX, START) > 0);
            assert!(machine.idle_after(&state, START) <= 2 * rate.nanos());
            assert_eq!(machine.take(&mut state, limit.most_at_once(), START + 3 * rate.nanos()), Ok(()));
        }
    }
}
