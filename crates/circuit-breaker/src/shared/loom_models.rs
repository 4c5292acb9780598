//! Every interleaving of a few threads (loom), on the protocol as it ships. `cargo xtask ci loom` runs them.

use std::time::Duration;

use buttress_core::Backoff;
use loom::{sync::Arc, thread};

use super::*;
use crate::{
    Probes, Ramp, Trip, Window,
    state::{Hold, Verdict},
    window::Tally,
};

const BAD: Verdict = Verdict::Bad { slow: false };
const GOOD: Verdict = Verdict::Good { slow: false };

/// Every interleaving with at most two preemptions of a running thread: the bound at which most of what goes wrong does
/// (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007), and seconds instead of hours. `LOOM_MAX_PREEMPTIONS`
/// asks for another; three take minutes, and have found nothing more.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

/// Opens for no time at all, so that the next call makes it half-open.
fn shared(trip: Trip, permitted: u32, cells: usize, now: Instant) -> Arc<Shared> {
    let probes = Probes::try_new(permitted, Duration::from_secs(1)).unwrap();
    let open_for = Backoff::constant(Duration::ZERO);
    Arc::new(Shared::new(
        Settings { probes, open_for, ramp: Ramp::NONE, ..Settings::default().trip(trip) },
        cells,
        now,
    ))
}

/// On a ramp that lasts a second.
fn recovering(consecutive: u32, now: Instant) -> Arc<Shared> {
    let probes = Probes::try_new(1, Duration::from_secs(1)).unwrap();
    // All of the calls: a model must not depend on chance.
    let ramp = Ramp::over(Duration::from_secs(1)).unwrap().from_share(1.0).unwrap();
    let settings =
        Settings { probes, ramp, open_for: Backoff::constant(Duration::ZERO), ..Settings::default() };
    let shared = Arc::new(Shared::new(settings.trip(Trip::consecutive(consecutive).unwrap()), 1, now));
    shared.with(now, |machine| machine.isolate(Duration::ZERO, now));
    let probe = shared.admit(|| now).0.unwrap();
    assert_eq!(shared.settle(0, probe, GOOD, || now)[0].to, State::Recovering);
    shared
}

fn state(shared: &Shared) -> State {
    shared.lock().state()
}

/// Runs one call on another thread, with the verdict, and says which transitions it caused.
fn call(shared: &Arc<Shared>, cell: usize, verdict: Verdict, now: Instant) -> thread::JoinHandle<Changes> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let (ticket, mut changes) = shared.admit(|| now);
        changes.extend(ticket.into_iter().flat_map(|ticket| shared.settle(cell, ticket, verdict, || now)));
        changes
    })
}

#[test]
fn loom_no_failure_is_lost_whoever_has_the_turn() {
    for cells in [1, 2] {
        model(move || {
            let now = Instant::now();
            let shared = shared(Trip::consecutive(3).unwrap(), 1, cells, now);
            let ticket = shared.admit(|| now).0.unwrap();
            let others = [call(&shared, 0, BAD, now), call(&shared, 1, BAD, now)];
            let own = shared.settle(0, ticket, BAD, || now);
            let told = others.map(|other| other.join().unwrap());
            assert_eq!(state(&shared), State::Open);
            let transitions = told.into_iter().flatten().chain(own).count();
            assert_eq!(transitions, 1, "told once");
        });
    }
}

#[test]
fn loom_a_success_neither_hides_a_failure_nor_gets_lost() {
    model(|| {
        let now = Instant::now();
        let trip = Trip::failure_rate(0.5, Window::calls(2).unwrap()).unwrap().with_min_calls(2).unwrap();
        let shared = shared(trip, 1, 2, now);
        let others = [call(&shared, 0, GOOD, now), call(&shared, 1, BAD, now)];
        for other in others {
            other.join().unwrap();
        }
        // Good before bad opens it; bad before good leaves both in the window.
        let tally = shared.with(now, |machine| machine.tally()).0;
        match state(&shared) {
            State::Open => {}
            _ => assert_eq!(tally, Tally { calls: 2, failed: 1, slow: 0 }),
        }
    });
}

#[test]
fn loom_never_more_probes_than_permitted() {
    for permitted in [1, 2] {
        model(move || {
            let now = Instant::now();
            let shared = shared(Trip::consecutive(1).unwrap(), permitted, 1, now);
            let ticket = shared.admit(|| now).0.unwrap();
            shared.settle(0, ticket, BAD, || now);
            let admit = |shared: &Arc<Shared>| {
                let shared = Arc::clone(shared);
                thread::spawn(move || shared.admit(|| now).0.is_ok_and(|ticket| ticket.probe.is_some()))
            };
            let others = [admit(&shared), admit(&shared)];
            let own = shared.admit(|| now).0.is_ok();
            let probes = others
                .map(|other| other.join().unwrap())
                .into_iter()
                .chain([own])
                .filter(|probe| *probe)
                .count();
            assert!(probes >= 1 && probes <= permitted as usize, "{probes}");
            assert_eq!(state(&shared), State::HalfOpen);
        });
    }
}

#[test]
fn loom_a_probes_verdict_is_never_lost() {
    model(|| {
        let now = Instant::now();
        let shared = shared(Trip::consecutive(1).unwrap(), 2, 1, now);
        let ticket = shared.admit(|| now).0.unwrap();
        shared.settle(0, ticket, BAD, || now);
        let probes = [shared.admit(|| now).0.unwrap(), shared.admit(|| now).0.unwrap()];
        let ends = probes.map(|probe| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.settle(0, probe, GOOD, || now))
        });
        // A third caller meanwhile.
        let third = shared.admit(|| now).0;
        let closed = ends.map(|end| end.join().unwrap()).into_iter().flatten().count();
        assert_eq!((state(&shared), closed), (State::Closed, 1));
        assert!(third.is_err() || third.is_ok_and(|ticket| ticket.probe.is_none()), "not a third probe");
    });
}

#[test]
fn loom_a_verdict_of_an_older_epoch_changes_nothing() {
    model(|| {
        let now = Instant::now();
        let shared = shared(Trip::consecutive(1).unwrap(), 1, 1, now);
        let stale = shared.admit(|| now).0.unwrap();
        let late = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.settle(0, stale, BAD, || now))
        };
        // Opens, and closes again by reset: the late failure belongs to one of the two states before.
        shared.with(now, |machine| machine.hold(Hold::Open));
        shared.with(now, |machine| machine.reset());
        late.join().unwrap();
        assert_eq!(state(&shared), State::Closed);
        assert_eq!(shared.with(now, |machine| machine.consecutive()).0, 0);
    });
}

#[test]
fn loom_the_end_of_a_ramp_is_told_once_and_refuses_nobody() {
    model(|| {
        let now = Instant::now();
        let shared = recovering(3, now);
        let end = now + Duration::from_secs(1);
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (ticket, told) = shared.admit(|| end);
                // A bad one, so that the lock is held meanwhile.
                let settled = shared.settle(0, ticket.expect("nobody is refused"), BAD, || end);
                assert!(settled.is_empty());
                told
            })
        });
        let told = others.map(|other| other.join().unwrap()).into_iter().flatten().count();
        let (state, late) = shared.with(end, |machine| machine.state());
        assert_eq!((state, told + late.len()), (State::Closed, 1));
    });
}

#[test]
fn loom_a_call_that_ends_a_ramp_and_one_that_fails_at_the_time_are_both_told_of() {
    model(|| {
        let now = Instant::now();
        let shared = recovering(1, now);
        let running = shared.admit(|| now).0.unwrap();
        let end = now + Duration::from_secs(1);
        let fails = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.settle(0, running, BAD, || end))
        };
        let mut told = shared.admit(|| end).1;
        told.extend(fails.join().unwrap());
        told.extend(shared.with(end, |_| ()).1);
        // Open, half-open and recovering were told of before.
        let mut numbers: Vec<_> = told.iter().map(|transition| transition.number).collect();
        numbers.sort_unstable();
        let last = shared.with(end, |machine| machine.standing().number).0;
        assert_eq!(numbers, (4..=last).collect::<Vec<_>>());
        assert!(told.iter().any(|transition| transition.to == State::Open));
    });
}

#[test]
fn loom_what_a_backend_asked_for_is_known_when_it_opens() {
    model(|| {
        let now = Instant::now();
        let shared = shared(Trip::consecutive(2).unwrap(), 1, 2, now);
        let asks = shared.admit(|| now).0.unwrap();
        let other = call(&shared, 1, BAD, now);
        let asked = Duration::from_secs(30);
        let mut told = shared.leave_alone(asks, asked, now);
        told.extend(shared.settle(0, asks, BAD, || now));
        told.extend(other.join().unwrap());
        assert_eq!((told.len(), told[0].to, told[0].open_for), (1, State::Open, Some(asked)));
    });
}

#[test]
fn loom_what_an_older_epoch_asked_for_is_not_obeyed() {
    model(|| {
        let now = Instant::now();
        let shared = shared(Trip::consecutive(1).unwrap(), 1, 1, now);
        let asks = shared.admit(|| now).0.unwrap();
        let late = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.leave_alone(asks, Duration::from_secs(30), now))
        };
        shared.with(now, |machine| machine.renew());
        let ticket = shared.admit(|| now).0.unwrap();
        let opened = shared.settle(0, ticket, BAD, || now);
        assert_eq!(opened[0].open_for, Some(Duration::ZERO));
        late.join().unwrap();
        // Nor later.
        let again = shared.admit(|| now).0.unwrap();
        assert_eq!(shared.settle(0, again, BAD, || now)[0].open_for, Some(Duration::ZERO));
    });
}

#[test]
fn loom_calls_that_run_while_the_settings_change_are_not_counted_and_later_ones_are() {
    model(|| {
        let now = Instant::now();
        let trip = |n, window| {
            Trip::failure_rate(1.0, Window::calls(window).unwrap()).unwrap().with_consecutive(n).unwrap()
        };
        let shared = shared(trip(9, 4), 1, 2, now);
        let running = shared.admit(|| now).0.unwrap();
        let late = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.settle(0, running, GOOD, || now))
        };
        let other = call(&shared, 1, GOOD, now);
        let settings = shared.with(now, |machine| machine.settings().trip(trip(9, 2))).0;
        shared.with(now, |machine| machine.configure(settings, now));
        late.join().unwrap();
        other.join().unwrap();
        let ticket = shared.admit(|| now).0.unwrap();
        shared.settle(0, ticket, GOOD, || now);
        // Each of the two may have been counted before the change, or not at all; the last one always is.
        let tally = shared.with(now, |machine| machine.tally()).0;
        assert!(tally.failed == 0 && (1..=2).contains(&tally.calls), "{tally:?}");
    });
}

#[test]
fn loom_a_call_goes_by_the_settings_of_its_epoch() {
    model(|| {
        let (now, short) = (Instant::now(), Duration::from_millis(1));
        let shared = shared(Trip::consecutive(9).unwrap(), 1, 1, now);
        let epoch = move |shared: &Shared| shared.admit(|| now).0.unwrap().epoch;
        let before = epoch(&shared);
        let begins = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (epoch(&shared) == before, shared.knobs.0.is_slow(short)))
        };
        let trip = Trip::consecutive(8).unwrap();
        shared.with(now, |machine| machine.configure(machine.settings().trip(trip).slow_call(short), now));
        // One of before may go by either.
        let (is_of_before, is_slow) = begins.join().unwrap();
        assert!(is_of_before || is_slow);
        assert_ne!(epoch(&shared), before);
    });
}
