use std::{thread, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{Rate, clock::START};

proptest! {
    /// On one thread, what is shared does what the machine does.
    #[test]
    fn a_shared_limit_is_the_machine(units in 1..20u32, steps in prop::collection::vec((0..400_000u64, 1..4u32, any::<bool>()), 1..200)) {
        let rate = Rate::try_new(units, Duration::from_millis(1)).unwrap();
        for limit in [
            Limit::sliding_window(rate),
            Limit::sliding_log(rate).unwrap(),
            Limit::fixed_window(rate),
            Limit::gcra(rate, units).unwrap(),
        ] {
            let (meter, machine) = (Meter::new(limit), Machine::new(limit));
            let (mut state, mut now, mut taken_before) = (machine.idle(), START, Vec::new());
            for (step, n, back) in &steps {
                now += step;
                let taken = machine.take(&mut state, *n, now);
                prop_assert_eq!(meter.take(*n, now, now), taken);
                if taken.is_ok() {
                    taken_before.push((*n, now));
                }
                if *back && let Some((n, at)) = taken_before.pop() {
                    machine.give_back(&mut state, n, at, now);
                    meter.give_back(n, at, now);
                }
                prop_assert_eq!(meter.available(now), machine.available(&state, now));
                for queue in [1, 7] {
                    prop_assert_eq!(meter.wait(queue, now), machine.wait(&state, queue, now));
                    // What is to come is looked at, and changes nothing.
                    prop_assert_eq!(meter.wait(queue, now + 700_000), machine.wait(&state, queue, now + 700_000));
                }
                prop_assert_eq!(meter.idle_after(now), machine.idle_after(&state, now));
            }
        }
    }
}

/// Two threads take while parts of the window begin and units are given back.
#[test]
fn threads_take_no_more_than_there_is() {
    let rate = Rate::try_new(1_000, Duration::from_micros(100)).unwrap();
    for limit in
        [Limit::sliding_window(rate), Limit::gcra(rate, 1_000).unwrap(), Limit::sliding_log(rate).unwrap()]
    {
        let meter = Meter::new(limit);
        let admitted = || -> Vec<u64> {
            let step = |call: u64| START + call * 7;
            (0..200_000u64).map(step).filter(|now| meter.take(1, *now, *now).is_ok()).collect()
        };
        let mut all = thread::scope(|scope| {
            let threads = [scope.spawn(admitted), scope.spawn(admitted)];
            threads.map(|thread| thread.join().unwrap()).concat()
        });
        all.sort_unstable();
        // Each thread has its own clock here: within a window, one may be a part behind the other.
        let total = all.len() as u64;
        let most = 1_000 * (200_000 * 7 / 100_000 + 2);
        assert!(total <= most, "{limit:?} {total}");
        assert!(total > most / 2, "{limit:?} {total}");
    }
}
