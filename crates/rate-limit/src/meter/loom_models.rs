//! What is left of a window is neither lost nor made, however threads come between each other.

use std::time::Duration;

use loom::{model::Builder, sync::Arc, thread};

use super::{shared::Shared, *};
use crate::{Rate, clock::START, machine::Window};

const PERIOD: u64 = 1 << 10;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A period of four parts.
fn window(units: u32) -> Shared {
    let window = Window::new(Rate::try_new(units, Duration::from_nanos(PERIOD)).unwrap(), 4);
    Shared::new(window, window.idle())
}

fn available(shared: &Shared, now: u64) -> u32 {
    shared.look(|window, parts| window.available(parts, now))
}

#[test]
fn loom_a_new_part_begins_while_others_take() {
    check(|| {
        let shared = Arc::new(window(3));
        let other = Arc::clone(&shared);
        // The last of one part, and the first of the next: they begin it both.
        let thread = thread::spawn(move || [START + 10, START + 300].map(|now| other.take(1, now).is_ok()));
        let here = [START + 20, START + 310].map(|now| shared.take(1, now).is_ok());
        let there = thread.join().unwrap();
        let taken = here.into_iter().chain(there).filter(|taken| *taken).count();
        assert_eq!(taken, 3, "three were there for four");
        assert_eq!(available(&shared, START + 320), 0);
        // What was taken in the first part, and only that, has left by then.
        let back = available(&shared, START + PERIOD + 260);
        assert!((1..=2).contains(&back), "{back}");
        assert_eq!(available(&shared, START + 3 * PERIOD), 3);
    });
}

#[test]
fn loom_units_given_back_are_not_lost_to_who_takes_meanwhile() {
    check(|| {
        let shared = Arc::new(window(2));
        assert!(shared.take(2, START).is_ok());
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || other.take(1, START + 300).is_ok());
        shared.give_back(1, START, START + 1);
        let taken = u32::from(thread.join().unwrap());
        assert_eq!(available(&shared, START + 300), 1 - taken);
        assert_eq!(available(&shared, START + PERIOD + 260), 2 - taken);
    });
}

#[test]
fn loom_what_is_published_of_a_refusal_hides_no_unit_that_came_back() {
    check(|| {
        let shared = Arc::new(window(1));
        assert!(shared.take(1, START).is_ok());
        let other = Arc::clone(&shared);
        // One is refused and publishes until when, while the unit comes back.
        let thread = thread::spawn(move || other.take(1, START + 1));
        shared.give_back(1, START, START + 1);
        match thread.join().unwrap() {
            Ok(()) => assert!(shared.take(1, START + 2).is_err()),
            Err(wait) => {
                assert!(wait.is_some_and(|wait| wait > PERIOD / 2));
                assert_eq!(shared.take(1, START + 2), Ok(()));
            }
        }
    });
}

#[test]
fn loom_gcra_admits_its_burst_once() {
    check(|| {
        let limit = Limit::gcra(Rate::per_second(1), 2).unwrap();
        let meter = Arc::new(Meter::new(limit));
        let threads = [1, 2].map(|_| {
            let meter = Arc::clone(&meter);
            thread::spawn(move || u32::from(meter.take(1, START, START).is_ok()))
        });
        let here = u32::from(meter.take(1, START, START).is_ok());
        let taken: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(here + taken, 2);
    });
}

#[test]
fn loom_a_window_changes_while_others_take() {
    // More bits of what is left, longer parts; and both the other way round.
    for [(units, period), (other_units, other_period)] in
        [[(3u32, PERIOD), (9u32, 4 * PERIOD)], [(9, 4 * PERIOD), (3, PERIOD)]]
    {
        check(move || {
            let cut =
                |units, period| Window::new(Rate::try_new(units, Duration::from_nanos(period)).unwrap(), 4);
            let (from, to) = (cut(units, period), cut(other_units, other_period));
            let shared = Arc::new(Shared::new(from, from.idle()));
            assert!(shared.take(1, START).is_ok());
            let other = Arc::clone(&shared);
            let thread = thread::spawn(move || [START + 1, START + 2].map(|now| other.take(1, now).is_ok()));
            shared.change(to, START + 1);
            let here = shared.take(1, START + 3).is_ok();
            let there = thread.join().unwrap();
            let taken = 1 + there.into_iter().chain([here]).filter(|taken| *taken).count();
            let taken = u32::try_from(taken).unwrap();
            // Whoever came before and after: three were there for four, or nine.
            assert!(taken >= 3 && (taken == 4 || units.min(other_units) == 3));
            assert_eq!(available(&shared, START + 4), other_units.saturating_sub(taken));
            assert_eq!(available(&shared, START + 9 * other_period), other_units);
        });
    }
}

#[test]
fn loom_a_word_changes_while_others_take() {
    let slow = |units, seconds| Rate::try_new(units, Duration::from_secs(seconds)).unwrap();
    let buckets = [Limit::gcra(slow(1, 10), 2).unwrap(), Limit::gcra(slow(1, 20), 3).unwrap()];
    let windows = [Limit::fixed_window(slow(2, 1 << 24)), Limit::fixed_window(slow(3, 1 << 23))];
    for [from, to] in [buckets, windows] {
        check(move || {
            let meter = Arc::new(Meter::new(from));
            let other = Arc::clone(&meter);
            let thread = thread::spawn(move || [1, 2].map(|_| other.take(1, START, START).is_ok()));
            meter.change(to, START);
            let here = [3, 4].map(|_| meter.take(1, START, START).is_ok());
            let there = thread.join().unwrap();
            let taken = here.into_iter().chain(there).filter(|taken| *taken).count();
            assert_eq!(taken, 3, "three were there for four");
            assert_eq!(meter.available(START), 0);
        });
    }
}
