use std::time::Duration;

use buttress_core::Backoff;

use super::*;
use crate::{
    Probes, Ramp, Trip, Window,
    state::{Hold, Verdict},
    window::Tally,
};

const GOOD: Verdict = Verdict::Good { slow: false };
const BAD: Verdict = Verdict::Bad { slow: false };
const SECOND: Duration = Duration::from_secs(1);

fn shared(trip: Trip, start: Instant) -> Shared {
    let settings =
        Settings { ramp: Ramp::NONE, open_for: Backoff::constant(SECOND), ..Settings::default().trip(trip) };
    Shared::new(settings, 4, start)
}

fn last_second() -> Trip {
    Trip::failure_rate(0.5, Window::time(SECOND).unwrap()).unwrap()
}

fn admitted(shared: &Shared, now: Instant) -> Ticket {
    shared.admit(|| now).0.unwrap()
}

#[test]
fn regression_07_nothing_refused_waits_for_a_lock() {
    let now = Instant::now();
    let shared = shared(Trip::consecutive(1).unwrap(), now);
    let refused_while_locked = |at: Instant| {
        let _held = shared.lock();
        shared.admit(|| at).0.is_err()
    };
    let ticket = admitted(&shared, now);
    shared.settle(0, ticket, BAD, || now);
    assert!(refused_while_locked(now), "open");
    assert!(refused_while_locked(now + SECOND), "nobody waits to be the first probe");
    let probes = [(); 3].map(|()| admitted(&shared, now + SECOND));
    assert!(refused_while_locked(now + SECOND), "every probe is out");
    shared.settle(0, probes[0], Verdict::None, || now);
    assert!(refused_while_locked(now + SECOND), "nobody waits to be the next probe");
    shared.with(now, |machine| machine.hold(Hold::Open));
    assert!(refused_while_locked(now), "held open");
}

#[test]
fn calls_of_a_later_bucket_than_the_counting_threads_clock_are_counted() {
    let start = Instant::now();
    let (early, late) = (start + 10 * SECOND, start + 10 * SECOND + SECOND / 8);
    let shared = shared(last_second(), start);
    let ticket = admitted(&shared, early);
    for _ in 0..1000 {
        shared.settle(1, ticket, GOOD, || late);
    }
    shared.settle(0, ticket, BAD, || early);
    let tally = shared.with(early, |machine| machine.tally()).0;
    assert_eq!(tally, Tally { calls: 1001, failed: 1, slow: 0 });
}

#[test]
fn calls_of_an_idle_thread_are_forgotten_in_time() {
    let start = Instant::now();
    let shared = shared(last_second(), start);
    let ticket = admitted(&shared, start);
    for _ in 0..1000 {
        shared.settle(1, ticket, GOOD, || start);
    }
    let later = start + 3600 * SECOND;
    for _ in 0..20 {
        shared.settle(0, ticket, BAD, || later);
    }
    assert_eq!(shared.state(), State::Open);
}

#[test]
fn while_the_counting_thread_is_held_up_nothing_is_lost_and_the_rate_stays() {
    for (calls, every, opens) in [(10_000, 100, false), (100_000, 100, false), (10_000, 2, true)] {
        let now = Instant::now();
        let shared = shared(Trip::default(), now);
        let ticket = admitted(&shared, now);
        for _ in 0..100 {
            shared.settle(0, ticket, GOOD, || now);
        }
        assert!(shared.is_quiet_for(ticket, 0));
        // Somebody has the turn, and is held up.
        shared.turn.store(TAKEN, Relaxed);
        for i in 1..=calls {
            shared.settle(1, ticket, if i % every == 0 { BAD } else { GOOD }, || now);
        }
        // He comes back.
        shared.turn.store(FREE, Relaxed);
        shared.settle(0, ticket, BAD, || now);
        assert_eq!(shared.state() == State::Open, opens, "{calls} calls, one in {every} failed");
        if !opens {
            let tally = shared.with(now, |machine| machine.tally()).0;
            assert!(tally.failed <= 3, "{tally:?}");
        }
    }
}

#[test]
fn leftovers_of_old_epochs_do_not_make_it_deaf() {
    let mut now = Instant::now();
    let shared = shared(Trip::consecutive(1).unwrap(), now);
    let probes = Probes::default().permitted;
    for _ in 0..2000 {
        // A call of the closed epoch that ends when it is over already, in the cell of a thread that is idle then.
        let ticket = admitted(&shared, now);
        shared.cell(2).store(Gathered::one(ticket.epoch.get(), 0, false, false).pack(), Relaxed);
        shared.settle(1, ticket, BAD, || now);
        assert_eq!(shared.state(), State::Open);
        shared.cell(2).store(Gathered::one(ticket.epoch.get(), 0, false, false).pack(), Relaxed);
        now += SECOND;
        for _ in 0..probes {
            let probe = admitted(&shared, now);
            shared.settle(1, probe, GOOD, || now);
        }
        assert_eq!(shared.state(), State::Closed);
        let ticket = admitted(&shared, now);
        shared.settle(2, ticket, BAD, || now);
        assert_eq!(shared.state(), State::Open, "the idle thread is heard");
        shared.with(now, |machine| machine.reset());
    }
}

#[test]
fn debug_says_the_state_and_waits_for_nobody() {
    let shared = shared(Trip::default(), Instant::now());
    let _held = shared.lock();
    assert_eq!(format!("{shared:?}"), "Shared { state: Closed, .. }");
}

#[test]
fn after_a_pause_of_any_length_it_is_not_deaf() {
    for hours in 1..200 {
        let start = Instant::now();
        let shared = shared(last_second(), start);
        let ticket = admitted(&shared, start);
        // They wait in the cell of a thread that nobody asks again.
        shared.settle(1, ticket, GOOD, || start);
        let later = start + hours * 1_800 * SECOND;
        for _ in 0..20 {
            shared.settle(0, ticket, BAD, || later);
        }
        assert_eq!(shared.state(), State::Open, "after {hours} half hours");
    }
}

#[test]
fn what_an_older_epoch_asked_for_is_not_obeyed() {
    let now = Instant::now();
    let shared = shared(Trip::consecutive(1).unwrap(), now);
    let straggler = admitted(&shared, now);
    shared.with(now, Machine::renew);
    assert!(shared.leave_alone(straggler, 30 * SECOND, now).is_empty());
    let ticket = admitted(&shared, now);
    assert_eq!(shared.settle(0, ticket, BAD, || now)[0].open_for, Some(SECOND));
}

#[test]
fn regression_07_a_busy_machine_is_no_reason_to_refuse_where_it_is_closed() {
    let now = Instant::now();
    let shared = shared(Trip::consecutive(2).unwrap(), now);
    let _held = shared.lock();
    assert!(shared.admit_by_machine(now, Err(Refusal::SOON)).0.is_ok());
}

#[test]
fn a_candidate_with_a_window_of_time_sees_probes() {
    let now = Instant::now();
    let shared = shared(Trip::consecutive(1).unwrap(), now);
    shared.with(now, |machine| {
        let settings = machine.settings().shadow(last_second());
        machine.configure(settings, now)
    });
    shared.with(now, |machine| machine.isolate(Duration::ZERO, now));
    let probe = admitted(&shared, now);
    shared.settle(0, probe, BAD, || now);
    let shadow = shared.with(now, |machine| machine.shadow()).0.unwrap();
    assert_eq!((shadow.calls, shadow.failed), (1, 1));
    // One that is over is none of them.
    shared.settle(0, probe, BAD, || now);
    assert_eq!(shared.with(now, |machine| machine.shadow()).0.unwrap().calls, 1);
}
