use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn rules(down: u32, up: u32) -> Rules {
    Rules::try_new(Duration::from_secs(10), None, down, up).unwrap()
}

fn verdict(good: bool) -> Verdict {
    if good { Verdict::Good } else { Verdict::Bad }
}

#[test]
fn the_first_result_counts_at_once() {
    for (first, standing) in [(Verdict::Good, Standing::Up), (Verdict::Bad, Standing::Down)] {
        let mut machine = Machine::new(rules(3, 2), Instant::now());
        assert_eq!(machine.standing(), Standing::Unknown);
        machine.begin(Instant::now(), 0.0);
        assert!(machine.end(first));
        assert_eq!(machine.standing(), standing);
    }
}

#[test]
fn it_hurries_from_the_first_failure_on() {
    let start = Instant::now();
    let at = |seconds| Some(start + Duration::from_secs(seconds));
    let mut machine = Machine::new(rules(3, 2), start);
    assert_eq!(machine.due(), at(0), "the first one begins at once");
    machine.begin(start, 0.0);
    assert_eq!(machine.due(), None, "they never overlap");
    machine.end(Verdict::Good);
    assert_eq!(machine.due(), at(10));
    machine.count(Verdict::Bad);
    assert_eq!(machine.due(), at(2), "a signal hurries it as well");
    machine.count(Verdict::Good);
    assert_eq!(machine.due(), at(10));
    for _ in 0..3 {
        machine.count(Verdict::Bad);
    }
    assert_eq!((machine.standing(), machine.due()), (Standing::Down, at(2)));
    machine.count(Verdict::Good);
    assert_eq!((machine.standing(), machine.due()), (Standing::Down, at(2)));
    machine.count(Verdict::Good);
    assert_eq!((machine.standing(), machine.due()), (Standing::Up, at(10)));
}

/// Looks at all results each time: down when the last `down` ones are bad, all of them later than the last change.
fn naive(results: &[bool], down: usize, up: usize) -> Standing {
    let Some(&first) = results.first() else { return Standing::Unknown };
    let mut is_up = first;
    let mut since_change = 1;
    for end in 1..=results.len() {
        let needed = if is_up { down } else { up };
        let row = &results[since_change.min(end)..end];
        if row.len() >= needed && row[row.len() - needed..].iter().all(|&good| good != is_up) {
            is_up = !is_up;
            since_change = end;
        }
    }
    if is_up { Standing::Up } else { Standing::Down }
}

proptest! {
    #[test]
    fn it_agrees_with_a_naive_model(
        down in 1_u32..6,
        up in 1_u32..6,
        results in prop::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut machine = Machine::new(rules(down, up), Instant::now());
        for end in 0..=results.len() {
            prop_assert_eq!(machine.standing(), naive(&results[..end], down as usize, up as usize));
            if let Some(&good) = results.get(end) {
                let before = machine.standing();
                let changed = machine.count(verdict(good));
                prop_assert_eq!(changed, machine.standing() != before);
            }
        }
    }

    /// The README's promise, for any settings that are accepted, any moment of death and any chance.
    #[test]
    fn down_is_known_within_two_intervals(
        interval_ms in 1_u64..100_000,
        timeout_share in prop::option::of(0.001_f64..=1.0),
        down in 1_u32..12,
        up in 1_u32..4,
        dies_after in 0.0_f64..30.0,
        hangs in any::<bool>(),
        chances in prop::collection::vec(0.0_f64..=1.0, 40),
    ) {
        let interval = Duration::from_millis(interval_ms);
        let timeout = timeout_share.map(|share| interval.mul_f64(share / f64::from(down)));
        let Ok(rules) = Rules::try_new(interval, timeout, down, up) else {
            // Rounded up by a nanosecond.
            return Ok(());
        };
        let start = Instant::now();
        let dies = start + interval.mul_f64(dies_after);
        let mut machine = Machine::new(rules, start);
        let (mut now, mut last_end) = (start, start);
        let mut chances = chances.iter().copied().cycle();
        loop {
            let due = machine.due().expect("none runs");
            now = now.max(due);
            prop_assert!(now >= last_end, "no overlap");
            machine.begin(now, chances.next().unwrap());
            let good = now < dies;
            // A good answer takes no time here: that is the latest moment at which the part could die after it.
            if !good && hangs {
                now += rules.timeout;
            }
            last_end = now;
            machine.end(verdict(good));
            if !good && machine.standing() == Standing::Down {
                break;
            }
        }
        let took = now - dies;
        // What rounding of `mul_f64` may add.
        prop_assert!(took <= 2 * interval + Duration::from_micros(1), "{took:?} of {interval:?}");
    }

    #[test]
    fn chance_shortens_a_wait_by_a_tenth_at_most(chance in 0.0_f64..=1.0) {
        let start = Instant::now();
        let mut machine = Machine::new(rules(3, 2), start);
        machine.begin(start, chance);
        machine.end(Verdict::Good);
        let wait = machine.due().unwrap() - start;
        prop_assert!((Duration::from_millis(8999)..=Duration::from_secs(10)).contains(&wait), "{wait:?}");
    }
}
