//! Whole clusters in virtual time: closed loops of clients, seeded.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Weak, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::{Endpoint, config::nanos, member::State, pool::Pool};
use std::sync::atomic::Ordering::Relaxed;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;

type Member = crate::member::Member<usize, ()>;

fn rules() -> Rules {
    Rules {
        pace: Pace::new(Duration::from_secs(10)),
        slow_start: nanos(Duration::from_secs(10)),
        bound: None,
    }
}

fn member(key: usize, weight: f64) -> Arc<Member> {
    Arc::new(Member {
        key,
        label: key.to_string().into(),
        hash: sticky::hash(&key),
        endpoint: Endpoint::new(()).weight(weight).unwrap(),
        pool: Weak::<Pool<usize, ()>>::new(),
        began: Instant::now(),
        pace: rules().pace,
        state: State::new(),
    })
}

fn cluster<const N: usize>() -> [Arc<Member>; N] {
    std::array::from_fn(|key| member(key, 1.0))
}

/// What a call met.
enum Answer {
    After(Nanos),
    FailureAfter(Nanos),
}

#[derive(Default)]
struct Outcome {
    calls: Vec<u64>,
    failures: u64,
    latencies: Vec<Nanos>,
}

impl Outcome {
    fn share(&self, of: usize) -> f64 {
        self.calls[of] as f64 / self.calls.iter().sum::<u64>() as f64
    }

    fn percentile(&mut self, share: f64) -> Nanos {
        self.latencies.sort_unstable();
        self.latencies[(self.latencies.len() as f64 * share) as usize]
    }
}

/// `clients` calls are in flight all the time, from `from` to `to`; what is counted began after `warm`.
fn run(
    members: &[Arc<Member>],
    clients: usize,
    (from, warm, to): (Nanos, Nanos, Nanos),
    mut answer: impl FnMut(usize) -> Answer,
) -> Outcome {
    let rules = rules();
    let mut outcome = Outcome { calls: vec![0; members.len()], ..Outcome::default() };
    let mut ends = BinaryHeap::new();
    let mut begin = |now: Nanos, ends: &mut BinaryHeap<_>, outcome: &mut Outcome| {
        let chosen = rules.choose(members, None, now).unwrap();
        chosen.state.pending.fetch_add(1, Relaxed);
        let (took, fails) = match answer(chosen.key) {
            Answer::After(took) => (took, false),
            Answer::FailureAfter(took) => (took, true),
        };
        if now >= warm {
            outcome.calls[chosen.key] += 1;
            outcome.failures += u64::from(fails);
            outcome.latencies.push(took);
        }
        ends.push(Reverse((now + took, chosen.key, took, fails)));
    };
    (0..clients).for_each(|client| begin(from + client as u64 * 1_000, &mut ends, &mut outcome));
    while let Some(Reverse((now, key, took, fails))) = ends.pop() {
        let state = &members[key].state;
        state.pending.fetch_sub(1, Relaxed);
        if fails {
            state.load.punish(took, now, &rules.pace);
        } else {
            state.load.record(took, now, &rules.pace);
        }
        if now < to {
            begin(now, &mut ends, &mut outcome);
        }
    }
    outcome
}

/// Some noise, and a tail: one call in two hundred takes longer by twenty times the usual.
fn noisy(base: Nanos, usual: Nanos) -> Answer {
    let noise = (usual as f64 * 0.2 * fastrand::f64()) as Nanos;
    let tail = if fastrand::u32(..200) == 0 { 20 * usual } else { 0 };
    Answer::After(base + noise + tail)
}

#[test]
fn of_three_a_slow_one_gets_next_to_nothing() {
    fastrand::seed(7);
    for usual in [MS, 10 * MS] {
        for clients in [1, 8, 64] {
            let seconds = if clients < 16 { 45 } else { 7 };
            let times = (SECOND, 4 * SECOND, seconds * SECOND);
            let steady = |key: usize| if key == 2 { 10 * usual } else { usual };
            let mut three = run(&cluster::<3>(), clients, times, |key| noisy(steady(key), usual));
            let mut two = run(&cluster::<2>(), clients, times, |key| noisy(steady(key), usual));
            let (p99, of_two) = (three.percentile(0.99), two.percentile(0.99));
            assert!(three.share(2) < 0.002, "{clients} clients: {}", three.share(2));
            assert!(p99 as f64 <= of_two as f64 * 1.3, "{clients} clients: {p99} against {of_two}");
            assert!(clients >= 16 || three.share(2) > 0.0, "{clients} clients: it is never tried again");
        }
    }
}

#[test]
fn one_that_becomes_slow_is_left_and_one_that_recovers_is_found() {
    fastrand::seed(8);
    let members = cluster::<3>();
    let slow = |key: usize| if key == 2 { 100 * MS } else { 10 * MS };
    run(&members, 32, (0, 0, 20 * SECOND), |_| Answer::After(10 * MS));
    let before = run(&members, 32, (20 * SECOND, 23 * SECOND, 40 * SECOND), |key| Answer::After(slow(key)));
    assert!(before.share(2) < 0.01, "{}", before.share(2));
    let after = run(&members, 32, (40 * SECOND, 45 * SECOND, 60 * SECOND), |_| Answer::After(10 * MS));
    assert!((0.25..0.4).contains(&after.share(2)), "{}", after.share(2));
}

/// The second half of regression 30: without a penalty, one that fails at once looks best.
#[test]
fn regression_30_an_endpoint_that_fails_fast_does_not_look_best() {
    fastrand::seed(9);
    for (clients, usual) in [(1, 10 * MS), (8, 10 * MS), (64, 10 * MS), (64, 3 * SECOND)] {
        let times = (SECOND, 6 * SECOND, 120 * SECOND);
        let fails = |key| if key == 2 { Answer::FailureAfter(MS / 10) } else { Answer::After(usual) };
        let outcome = run(&cluster::<3>(), clients, times, fails);
        assert!(outcome.share(2) < 0.02, "{clients} clients at {usual}: {}", outcome.share(2));
    }
}

/// As equals, one failure of two endpoints would be followed by another in every second attempt.
#[test]
fn regression_51_beside_one_that_failed_one_that_nobody_has_measured_is_tried_first() {
    for _ in 0..64 {
        let members = cluster::<2>();
        members[0].state.load.punish(MS, SECOND, &rules().pace);
        members[0].state.verdicts.failure(0, 5);
        let (later, pending_there) = (SECOND + MS, &members[1].state.pending);
        for pending in 0..3 {
            pending_there.store(pending, Relaxed);
            assert_eq!(rules().choose(&members, None, later).unwrap().key, 1, "{pending} pending");
        }
        // One that does not answer is not given everything either.
        pending_there.store(4, Relaxed);
        assert_eq!(rules().choose(&members, None, later).unwrap().key, 0);
    }
}

/// Whoever failed too seldom for an ejection must not stay away longer than an ejection takes.
#[test]
fn one_that_failed_and_is_well_is_back_at_its_share_in_about_the_time_of_an_ejection() {
    fastrand::seed(12);
    for (clients, usual) in [(1, MS / 3), (4, MS / 3), (1, 10 * MS), (64, 10 * MS)] {
        for failures in 1..=4 {
            let members = cluster::<3>();
            run(&members, clients, (0, 0, SECOND), |_| Answer::After(usual));
            // Far enough apart that each counts in full.
            let mut now = SECOND;
            for _ in 0..failures {
                now += 2 * SECOND;
                members[2].state.load.punish(MS, now, &rules().pace);
            }
            let (soon, back) = (now + 2 * SECOND, now + 36 * SECOND);
            let at_first = run(&members, clients, (now, now, soon), |_| Answer::After(usual));
            assert!(at_first.share(2) < 0.01, "{clients} clients: {}", at_first.share(2));
            let between = now + 33 * SECOND;
            for member in &members[..2] {
                member.state.load.record(usual, between, &rules().pace);
            }
            let later = run(&members, clients, (between, back, back + SECOND), |_| Answer::After(usual));
            assert!(later.share(2) > 0.2, "{failures} failures, {clients} clients: {}", later.share(2));
        }
    }
}

/// It looks faster and faster while nothing comes back from it, but not faster than the others.
#[test]
fn one_that_hangs_is_left_with_no_more_calls_than_the_others_have() {
    fastrand::seed(13);
    let members = cluster::<3>();
    run(&members, 64, (0, 0, 5 * SECOND), |_| Answer::After(10 * MS));
    let hangs = |key| Answer::After(if key == 2 { 3_600 * SECOND } else { 10 * MS });
    let outcome = run(&members, 64, (5 * SECOND, 5 * SECOND, 120 * SECOND), hangs);
    assert!(outcome.calls[2] < 32, "{} of 64 clients hang", outcome.calls[2]);
}

#[test]
fn weights_share_what_is_in_flight() {
    fastrand::seed(10);
    let members = [member(0, 1.0), member(1, 2.0), member(2, 5.0)];
    let outcome = run(&members, 160, (SECOND, 2 * SECOND, 20 * SECOND), |_| Answer::After(10 * MS));
    for (key, share) in [0.125, 0.25, 0.625].into_iter().enumerate() {
        assert!((outcome.share(key) / share - 1.0).abs() < 0.1, "{key}: {}", outcome.share(key));
    }
}

#[test]
fn a_new_one_is_not_flooded_and_begins_with_a_tenth() {
    fastrand::seed(11);
    let members = cluster::<3>();
    run(&members[..2], 64, (0, 0, 5 * SECOND), |_| Answer::After(10 * MS));
    let from = 5 * SECOND;
    members[2].state.settled_at.store(from + 10 * SECOND, Relaxed);
    let at_first = run(&members, 64, (from, from, from + SECOND / 2), |_| Answer::After(10 * MS));
    assert!((0.02..0.12).contains(&at_first.share(2)), "{}", at_first.share(2));
    let later = from + 10 * SECOND;
    let at_last = run(&members, 64, (later, later + SECOND, later + 5 * SECOND), |_| Answer::After(10 * MS));
    assert!((0.3..0.36).contains(&at_last.share(2)), "{}", at_last.share(2));
    // Where all are new, nobody is held back.
    let new = cluster::<3>();
    new.iter().for_each(|member| member.state.settled_at.store(10 * SECOND, Relaxed));
    let all_new = run(&new, 64, (0, SECOND, 3 * SECOND), |_| Answer::After(10 * MS));
    assert!((0.3..0.36).contains(&all_new.share(2)), "{}", all_new.share(2));
}

#[test]
fn one_that_wants_no_calls_gets_none_while_there_is_another() {
    let members = cluster::<3>();
    members[0].state.avoided_until.store(SECOND, Relaxed);
    members[1].state.avoided_until.store(SECOND, Relaxed);
    for _ in 0..100 {
        assert_eq!(rules().choose(&members, None, 0).unwrap().key, 2);
    }
    members[2].state.avoided_until.store(SECOND, Relaxed);
    assert!(rules().choose(&members, None, 0).is_some(), "all of them: then it is asked nevertheless");
    assert!((0..100).any(|_| rules().choose(&members, None, SECOND).unwrap().key != 2));
}

fn sticky(members: &[Arc<Member>], key: u64) -> usize {
    rules().choose(members, Some(sticky::hash(&key)), 0).unwrap().key
}

#[test]
fn a_key_moves_only_where_its_endpoint_comes_or_goes() {
    let members = cluster::<10>();
    let without: Vec<_> = members.iter().filter(|member| member.key != 4).map(Arc::clone).collect();
    let mut of_four = 0;
    for key in 0..10_000 {
        let (all, fewer) = (sticky(&members, key), sticky(&without, key));
        of_four += usize::from(all == 4);
        assert!(all == fewer || all == 4, "{key} moved from {all} to {fewer}");
        let order = rules_bounded().order(&members, Some(sticky::hash(&key)), 0);
        assert_eq!(order[0].key, all);
        assert_eq!(order.len(), 10);
        assert!(all != 4 || order[1].key == fewer, "the next in its order");
    }
    assert!((900..1_100).contains(&of_four), "{of_four}");
}

proptest! {
    /// Whatever the weights: where one goes, refuses or weighs less, its keys move and no others.
    #[test]
    fn only_the_keys_of_one_that_changes_move(
        weights in prop::collection::vec(-3.0..3.0_f64, 2..9),
        refusing: usize,
        key: u64,
    ) {
        let members: Vec<_> =
            (0..).zip(&weights).map(|(key, weight)| member(key, 10_f64.powf(*weight))).collect();
        let owner = sticky(&members, key);
        for changed in 0..members.len() {
            let mut fewer = members.clone();
            let gone = fewer.remove(changed);
            let next = sticky(&fewer, key);
            prop_assert!(changed == owner || next == owner, "{changed} moved a key of {owner} to {next}");
            gone.state.avoided_until.store(1, Relaxed);
            prop_assert_eq!(sticky(&members, key), next, "a refusal is like a removal");
            gone.state.avoided_until.store(0, Relaxed);
            fewer.push(member(changed, (0.5 * gone.endpoint.weight).max(0.001)));
            let lighter = sticky(&fewer, key);
            prop_assert!(lighter == owner || changed == owner && lighter == next);
        }
        let refusing = refusing % members.len();
        members[refusing].state.avoided_until.store(1, Relaxed);
        let bounded = rules_bounded().choose(&members, Some(sticky::hash(&key)), 0).unwrap();
        prop_assert_ne!(bounded.key, refusing, "not for the bound's sake either");
    }
}

fn rules_bounded() -> Rules {
    Rules { bound: Some(1.25), ..rules() }
}

#[test]
fn keys_are_shared_by_weight_and_no_endpoint_has_more_than_its_bound() {
    let members = [member(0, 1.0), member(1, 3.0), member(2, 4.0)];
    let mut owned = [0_i32; 3];
    (0..16_000).for_each(|key| owned[sticky(&members, key)] += 1);
    for (key, expected) in [2_000, 6_000, 8_000].into_iter().enumerate() {
        assert!((owned[key] - expected).abs() < 300, "{owned:?}");
    }
    // One key that everybody wants.
    let members = cluster::<4>();
    for call in 1..=400_u32 {
        let chosen = rules_bounded().choose(&members, Some(1), 0).unwrap();
        chosen.state.pending.fetch_add(1, Relaxed);
        let most = (1.25 * f64::from(call) / 4.0).ceil() as u32;
        assert!(members.iter().all(|member| member.state.pending() <= most), "after {call}");
    }
}

/// Written down once: a balancer of another version or machine must agree.
#[test]
fn hashes_are_the_same_everywhere() {
    assert_eq!(sticky::hash(&"user-42"), HASH_OF_A_STRING);
    assert_eq!(sticky::hash(&42_u64), sticky::hash(&42_usize));
    assert_eq!(sticky::hash(&(1_u16, 2_u32)), HASH_OF_A_PAIR);
}

const HASH_OF_A_STRING: u64 = 5_612_980_904_163_936_732;
const HASH_OF_A_PAIR: u64 = 4_961_474_406_225_807_644;
