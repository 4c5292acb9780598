mod model;

use buttress_core::Backoff;
use proptest::prelude::*;

use super::*;
use crate::{Probes, Ramp, Throttle, Trip, Window};

const SECOND: Duration = Duration::from_secs(1);
const OPEN_FOR: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(4);

fn settings(trip: Trip, permitted: u32) -> Settings {
    Settings {
        probes: Probes::try_new(permitted, LEASE).unwrap(),
        open_for: Backoff::constant(OPEN_FOR),
        ramp: Ramp::NONE,
        ..Settings::default().trip(trip)
    }
}

fn call(failed: bool) -> Tally {
    Tally { calls: 1, failed: failed.into(), slow: 0 }
}

fn fresh(trip: Trip, permitted: u32) -> Machine {
    Machine::new(settings(trip, permitted))
}

#[test]
fn regression_01_a_window_of_calls_slides_whatever_came_before() {
    for successes in [0, 10, 100, 10_000] {
        let trip = Trip::failure_rate(0.5, Window::calls(10).unwrap()).unwrap();
        let mut machine = fresh(trip, 1);
        for _ in 0..successes {
            machine.count(call(false), Instant::now);
        }
        let failures = (1..).find(|_| machine.count(call(true), Instant::now).is_some());
        assert_eq!(failures, Some(if successes == 0 { 10 } else { 5 }), "after {successes} successes");
    }
}

#[test]
fn regression_02_half_open_always_ends() {
    let mut machine = fresh(Trip::consecutive(1).unwrap(), 2);
    let mut now = Instant::now();
    machine.count(call(true), || now);
    now += OPEN_FOR;

    // Probes that give no verdict keep it half-open for three leases, not for ever.
    for _ in 0..3 {
        let ticket = machine.admit(now).0.unwrap();
        assert_eq!(machine.state(), State::HalfOpen);
        machine.judge(ticket, Verdict::None, now);
        now += LEASE;
    }
    assert_eq!(machine.admit(now).0.unwrap().probe, None);
    assert_eq!(machine.state(), State::Closed);

    // Probes that hang lose their lease, and it opens again.
    machine.count(call(true), || now);
    now += OPEN_FOR;
    let (_hangs, _too) = (machine.admit(now).0.unwrap(), machine.admit(now).0.unwrap());
    assert_eq!(machine.admit(now).0, Err(Some(now + LEASE)));
    now += LEASE;
    assert_eq!(machine.admit(now).0, Err(Some(now + OPEN_FOR)));
    assert_eq!(machine.state(), State::Open);
    assert!(Probes::try_new(0, LEASE).is_err(), "and no probe at all is refused at construction");
}

#[test]
fn regression_03_a_verdict_of_an_older_epoch_changes_nothing() {
    let mut machine = fresh(Trip::consecutive(1).unwrap(), 1);
    let mut now = Instant::now();
    let stale = machine.admit(now).0.unwrap();
    machine.count(call(true), || now);
    now += OPEN_FOR;
    let first = machine.admit(now).0.unwrap();
    for ticket in [stale, Ticket { epoch: first.epoch, probe: None }, Ticket { epoch: stale.epoch, ..first }]
    {
        assert_eq!(machine.judge(ticket, Verdict::Good { slow: false }, now), None);
        assert_eq!(machine.state(), State::HalfOpen);
    }
    assert_eq!(machine.judge(first, Verdict::Bad { slow: false }, now).unwrap().to, State::Open);
    now += OPEN_FOR;
    let second = machine.admit(now).0.unwrap();
    assert_eq!(machine.judge(first, Verdict::Good { slow: false }, now), None, "the same probe twice");
    assert_eq!(machine.judge(second, Verdict::Good { slow: false }, now).unwrap().to, State::Closed);
}

#[test]
fn regression_05_a_window_of_time_costs_the_same_however_many_calls_it_holds() {
    let trip = Trip::failure_rate(1.0, Window::time(60 * SECOND).unwrap()).unwrap();
    let mut machine = fresh(trip, 1);
    let size = |machine: &Machine| format!("{:?}", machine.meter).matches("Tally").count();
    let before = size(&machine);
    for bucket in 0..1000 {
        let ended = Tally { calls: 100_000, failed: 1, slow: 0 };
        machine.add_to_bucket(bucket, ended);
        machine.count(ended, Instant::now);
    }
    assert_eq!(size(&machine), before);
    assert!(before <= 20, "a handful of buckets: {before}");
}

#[test]
fn a_probe_that_answers_after_its_lease_has_failed() {
    let mut machine = fresh(Trip::consecutive(1).unwrap(), 1);
    let mut now = Instant::now();
    machine.count(call(true), || now);
    now += OPEN_FOR;
    let probe = machine.admit(now).0.unwrap();
    now += LEASE;
    assert_eq!(machine.judge(probe, Verdict::Good { slow: false }, now).unwrap().to, State::Open);
}

#[test]
fn the_open_time_grows_until_it_closes() {
    let ms = Duration::from_millis;
    let open_for = Backoff::exponential(ms(100), ms(300)).unwrap().with_jitter(buttress_core::Jitter::None);
    let mut machine = Machine::new(Settings { open_for, ..settings(Trip::consecutive(1).unwrap(), 1) });
    let mut now = Instant::now();
    let mut length = machine.count(call(true), || now).unwrap().open_for;
    for expected in [100, 200, 300, 300] {
        assert_eq!(length, Some(ms(expected)));
        now += ms(expected);
        let probe = machine.admit(now).0.unwrap();
        length = machine.judge(probe, Verdict::Bad { slow: false }, now).unwrap().open_for;
    }
    now += ms(300);
    let probe = machine.admit(now).0.unwrap();
    assert_eq!(machine.judge(probe, Verdict::Good { slow: false }, now).unwrap().to, State::Closed);
    assert_eq!(machine.count(call(true), || now).unwrap().open_for, Some(ms(100)));
}

#[test]
fn slow_calls_open_it_and_slow_probes_do_not_close_it() {
    let trip = Trip::failure_rate(1.0, Window::calls(4).unwrap()).unwrap().with_slow_rate(0.75).unwrap();
    let mut machine = fresh(trip, 1);
    let mut now = Instant::now();
    let slow = Tally { calls: 1, failed: 0, slow: 1 };
    for more in [call(false), slow, slow] {
        assert_eq!(machine.count(more, || now), None);
    }
    let opened = machine.count(slow, || now).unwrap();
    assert_eq!((opened.calls, opened.failed, opened.slow), (4, 0, 3));
    now += OPEN_FOR;
    let probe = machine.admit(now).0.unwrap();
    assert_eq!(machine.judge(probe, Verdict::Good { slow: true }, now).unwrap().to, State::Open);
}

#[test]
fn held_states_end_with_reset_alone() {
    let mut machine = fresh(Trip::consecutive(1).unwrap(), 1);
    let now = Instant::now();
    machine.hold(Hold::Open);
    assert_eq!(machine.admit(now + 1000 * OPEN_FOR).0, Err(None));
    machine.hold(Hold::Closed);
    assert_eq!(machine.count(call(true), || now), None);
    assert_eq!((machine.state(), machine.consecutive()), (State::ForcedClosed, 1));
    machine.reset();
    assert_eq!((machine.state(), machine.consecutive()), (State::Closed, 0));
    machine.isolate(Duration::MAX, now);
    assert!(machine.admit(now).0.is_err());
    machine.hold(Hold::Open);
    assert_eq!(machine.isolate(Duration::ZERO, now), None, "held is held");
}

/// Ends with the last probe's success.
fn after_the_probes(machine: &mut Machine, now: &mut Instant) {
    machine.count(call(true), || *now);
    *now += OPEN_FOR;
    let probe = machine.admit(*now).0.unwrap();
    machine.judge(probe, Verdict::Good { slow: false }, *now);
}

#[test]
fn a_backend_that_fails_while_it_recovers_is_left_alone_for_longer() {
    let open_for =
        Backoff::exponential(SECOND, 60 * SECOND).unwrap().with_jitter(buttress_core::Jitter::None);
    let settings =
        settings(Trip::consecutive(1).unwrap(), 1).open_for(open_for).ramp(Ramp::over(SECOND).unwrap());
    let mut machine = Machine::new(settings);
    let mut now = Instant::now();
    after_the_probes(&mut machine, &mut now);
    assert_eq!(machine.state(), State::Recovering);
    let again = machine.count(call(true), || now).unwrap();
    assert_eq!((again.from, again.to, again.open_for), (State::Recovering, State::Open, Some(2 * SECOND)));

    now += 2 * SECOND;
    let probe = machine.admit(now).0.unwrap();
    machine.judge(probe, Verdict::Good { slow: false }, now);
    let epoch = machine.epoch();
    now += SECOND;
    assert_eq!(machine.tick(now).unwrap().to, State::Closed);
    assert_eq!(machine.epoch(), epoch, "its calls are counted on");
    assert_eq!(machine.count(call(true), || now).unwrap().open_for, Some(SECOND), "forgiven");
}

#[test]
fn what_a_backend_asks_for_makes_the_open_time_longer_and_never_shorter() {
    for (asked, expected) in [(5, 10), (30, 30)] {
        let mut machine = fresh(Trip::consecutive(2).unwrap(), 1);
        let now = Instant::now();
        machine.leave_alone(now + asked * SECOND);
        machine.leave_alone(now);
        assert_eq!(machine.count(call(true), || now), None, "one answer opens nothing by itself");
        assert_eq!(machine.count(call(true), || now).unwrap().open_for, Some(expected * SECOND));
    }
    let mut machine = fresh(Trip::consecutive(2).unwrap(), 1);
    let now = Instant::now();
    let ticket = machine.admit(now).0.unwrap();
    assert_eq!(machine.obey(ticket, now), None, "nothing was asked");
    machine.leave_alone(now + 7 * SECOND);
    assert_eq!(machine.obey(Ticket { epoch: NonZeroU64::MAX, probe: None }, now), None, "another epoch");
    assert_eq!(machine.obey(ticket, now).unwrap().open_for, Some(7 * SECOND));
}

#[test]
fn a_throttle_admits_what_the_backend_accepts_and_ends_when_it_accepts_all() {
    let throttle = Throttle::try_new(2.0, 8 * SECOND).unwrap();
    let mut machine = Machine::new(settings(Trip::default(), 1).throttle(throttle));
    let now = Instant::now();
    let bucket = |seconds: u64| machine_bucket(seconds);
    let end = |machine: &mut Machine, at: u64, ended: Tally| {
        machine.add_to_bucket(bucket(at), ended);
        machine.count(ended, || now)
    };
    assert_eq!(end(&mut machine, 0, Tally { calls: 100, failed: 50, slow: 0 }), None, "just what it may");
    let begun = end(&mut machine, 0, Tally { calls: 100, failed: 100, slow: 0 }).unwrap();
    assert_eq!((begun.to, begun.calls, begun.failed), (State::Throttling, 200, 150));
    let share = |machine: &Machine| match machine.part() {
        Some(Part::Share(share)) => f64::from(share) / 1e6,
        _ => panic!("it does not throttle"),
    };
    assert!((share(&machine) - (1.0 - 100.0 / 201.0)).abs() < 1e-5, "{}", share(&machine));
    assert_eq!(end(&mut machine, 1, Tally { calls: 10_000, failed: 10_000, slow: 0 }), None);
    assert!((share(&machine) - 0.1).abs() < 1e-5, "never more than nine in ten");

    machine.advance(bucket(40));
    assert_eq!(machine.tick(now).unwrap().to, State::Closed, "all is forgotten");
    assert!(machine.admit(now).0.is_ok());
}

fn machine_bucket(seconds: u64) -> u64 {
    crate::window::Buckets::of(8 * SECOND).index(seconds * 1_000_000_000)
}

#[test]
fn after_a_throttles_breaker_was_isolated_it_recovers_as_any_other() {
    let throttle = Throttle::try_new(2.0, 3 * SECOND).unwrap();
    let mut machine = Machine::new(settings(Trip::default(), 1).throttle(throttle).ramp(Ramp::default()));
    let now = Instant::now();
    machine.isolate(Duration::ZERO, now);
    let probe = machine.admit(now).0.unwrap();
    machine.judge(probe, Verdict::Good { slow: false }, now);
    assert_eq!(machine.tick(now + 3 * SECOND - Duration::from_millis(1)), None);
    assert_eq!(machine.tick(now + 3 * SECOND).unwrap().to, State::Closed);
}

#[test]
fn other_thresholds_judge_what_was_counted_before() {
    let of_ten = |rate| Trip::failure_rate(rate, Window::calls(10).unwrap()).unwrap();
    let mut machine = fresh(of_ten(0.9), 1);
    let now = Instant::now();
    for i in 0..10 {
        assert_eq!(machine.count(call(i % 2 == 0), || now), None);
    }
    machine.configure(settings(of_ten(0.5), 1), now);
    assert_eq!(machine.tally(), Tally { calls: 10, failed: 5, slow: 0 });
    assert_eq!(machine.count(call(false), || now), None, "a success opens nothing");
    assert_eq!(machine.count(call(true), || now).unwrap().to, State::Open);

    let mut machine = fresh(of_ten(1.0), 1);
    for failed in [true, true, true, true, true, false, false, false, false, true] {
        machine.count(call(failed), || now);
    }
    let smaller = Trip::failure_rate(1.0, Window::calls(4).unwrap()).unwrap();
    machine.configure(settings(smaller, 1), now);
    assert_eq!(machine.tally(), Tally { calls: 4, failed: 1, slow: 0 }, "the last four");
    machine.configure(settings(of_ten(1.0), 1), now);
    assert_eq!(machine.tally(), Tally { calls: 4, failed: 1, slow: 0 });
}

#[test]
fn an_open_breaker_stays_open_whatever_is_configured() {
    let mut machine = fresh(Trip::consecutive(1).unwrap(), 3);
    let mut now = Instant::now();
    machine.count(call(true), || now);
    machine.configure(settings(Trip::default(), 1), now);
    assert_eq!(machine.admit(now).0, Err(Some(now + OPEN_FOR)));
    // Half-open, with fewer successes to come than there were: it does not wait for one more.
    now += OPEN_FOR;
    machine.configure(settings(Trip::default(), 3), now);
    let probe = machine.admit(now).0.unwrap();
    machine.judge(probe, Verdict::Good { slow: false }, now);
    assert_eq!(machine.configure(settings(Trip::default(), 1), now).unwrap().to, State::Closed);
}

#[test]
fn a_candidate_is_counted_and_does_nothing() {
    let strict = Trip::consecutive(2).unwrap();
    let mut machine = Machine::new(settings(Trip::consecutive(100).unwrap(), 2).shadow(strict));
    let mut now = Instant::now();
    let end = |machine: &mut Machine, failed: bool, now: Instant| {
        assert_eq!(machine.count(call(failed), || now), None);
        machine.shadow().unwrap()
    };
    end(&mut machine, true, now);
    let shadow = end(&mut machine, true, now);
    assert_eq!((shadow.state, shadow.opened, shadow.refused), (State::Open, 1, 0));
    assert!(!machine.is_quiet(), "every call matters to it");
    end(&mut machine, true, now);
    let shadow = end(&mut machine, false, now);
    assert_eq!((shadow.refused, shadow.refused_good), (2, 1));
    now += OPEN_FOR;
    assert_eq!(end(&mut machine, false, now).state, State::HalfOpen);
    assert_eq!(end(&mut machine, false, now).state, State::Closed);
    assert!(machine.is_quiet());
    let shadow = end(&mut machine, true, now);
    assert_eq!((shadow.state, shadow.opened, shadow.refused), (State::Closed, 1, 2));
    machine.configure(settings(Trip::consecutive(100).unwrap(), 2), now);
    assert_eq!(machine.shadow(), None);
}

#[test]
fn a_candidate_opens_for_longer_each_time_until_it_has_closed() {
    let open_for =
        Backoff::exponential(SECOND, 60 * SECOND).unwrap().with_jitter(buttress_core::Jitter::None);
    let slow_rate = Trip::failure_rate(1.0, Window::calls(1).unwrap()).unwrap().with_slow_rate(1.0).unwrap();
    let live = settings(Trip::consecutive(100).unwrap(), 1).open_for(open_for);
    let mut machine = Machine::new(live.shadow(slow_rate));
    let now = Instant::now();
    let slow = Tally { calls: 1, failed: 0, slow: 1 };
    // Each after so many seconds: refused, a probe that is slow, refused, a probe that is good, opened anew.
    for (at, ended, expected) in [
        (0, call(true), (State::Open, 1, 0)),
        (0, call(false), (State::Open, 1, 1)),
        (1, slow, (State::Open, 2, 1)),
        (2, call(false), (State::Open, 2, 2)),
        (3, call(false), (State::Closed, 2, 2)),
        (3, call(true), (State::Open, 3, 2)),
        (4, call(false), (State::Closed, 3, 2)),
    ] {
        machine.count(ended, || now + at * SECOND);
        let shadow = machine.shadow().unwrap();
        assert_eq!((shadow.state, shadow.opened, shadow.refused), expected, "at {at} s");
    }
}

#[test]
fn metrics_only_counts_what_it_would_have_done() {
    let mut machine = fresh(Trip::consecutive(2).unwrap(), 1);
    let now = Instant::now();
    machine.hold(Hold::MetricsOnly);
    for _ in 0..5 {
        assert!(machine.admit(now).0.is_ok());
        assert_eq!(machine.count(call(true), || now), None);
    }
    let shadow = machine.shadow().unwrap();
    assert_eq!((machine.state(), shadow.opened, shadow.refused), (State::MetricsOnly, 1, 3));
    machine.reset();
    assert_eq!(machine.shadow(), None);
    machine.count(call(true), || now);
    assert_eq!(machine.count(call(true), || now).unwrap().to, State::Open);
}

proptest! {
    /// What a candidate says it would have done is what a breaker with its trip does, as long as nothing was refused.
    #[test]
    fn a_candidate_opens_when_a_breaker_would(failures in prop::collection::vec(any::<bool>(), 1..200), n in 1..8_u32) {
        let trip = Trip::failure_rate(0.6, Window::calls(10)?)?.with_consecutive(n)?;
        let mut live = fresh(trip, 1);
        let mut trial = Machine::new(settings(Trip::consecutive(u32::MAX)?, 1).shadow(trip));
        let now = Instant::now();
        for failed in failures {
            live.count(call(failed), || now);
            trial.count(call(failed), || now);
            let shadow = trial.shadow().unwrap();
            prop_assert_eq!(shadow.state, live.state());
            if shadow.state == State::Open {
                break;
            }
            prop_assert_eq!((shadow.calls, shadow.failed), (live.tally().calls, live.tally().failed));
        }
    }
}
