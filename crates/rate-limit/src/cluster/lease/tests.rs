use proptest::prelude::*;

use super::*;
use crate::{
    clock::START,
    cluster::purse::Local,
    machine::{Machine, State},
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn plan(units: u32, period: u64) -> Plan {
    let rate = Rate::try_new(units, std::time::Duration::from_nanos(period)).unwrap();
    Plan::new(&[Limit::from(rate)], true)
}

fn nobody() -> Waiting {
    Waiting::default()
}

/// Wants so many in each millisecond, for so long.
fn wanted(lease: &mut Lease, plan: &Plan, each: u64, from: u64, to: u64) {
    (from..to).for_each(|ms| lease.count(each, plan, START + ms * MS));
}

#[test]
fn a_node_holds_a_sixteenth_of_its_part_and_less_while_it_is_new() {
    let plan = plan(10_000, SECOND);
    assert_eq!(plan.cap(Crowd::Known(1)), 625);
    assert_eq!(plan.cap(Crowd::Known(8)), 78);
    assert_eq!(plan.cap(Crowd::New(8)), 9);
    assert_eq!(plan.cap(Crowd::Unknown), 4);
    assert_eq!(plan.cap(Crowd::Known(1_000)), 1, "at least one");
    let tight = Plan::new(
        &[Limit::from(Rate::per_second(10_000)), Limit::gcra(Rate::per_minute(1_600), 5).unwrap()],
        true,
    );
    assert_eq!((tight.cap(Crowd::Known(1)), tight.most_at_once), (5, 5), "of the tightest");
}

#[test]
fn a_lease_lives_for_a_fraction_of_the_period() {
    for (period, life) in [(MS, MS), (80 * MS, 10 * MS), (SECOND, SECOND / 8), (3_600 * SECOND, SECOND)] {
        assert_eq!(plan(1_000, period).life, life);
        assert!(plan(1_000, period).presence() >= 4 * life);
    }
}

#[test]
fn what_is_taken_follows_what_is_wanted() {
    let plan = plan(10_000, SECOND);
    let mut lease = Lease { counted_at: START, ..Lease::default() };
    let cap = plan.cap(Crowd::Known(1));
    assert_eq!(lease.want(&plan, cap, 0, nobody(), START), None, "nobody wants any");
    wanted(&mut lease, &plan, 2, 0, 1_000);
    let now = START + SECOND;
    let target = lease.target(&plan, cap);
    assert!((170..=190).contains(&target), "two in a millisecond, for three quarters of 125: {target}");
    let want = lease.want(&plan, cap, 10, nobody(), now).unwrap();
    assert_eq!((want.least, want.most), (1, target - 10));
    assert_eq!(lease.want(&plan, cap, target / 3 + 1, nobody(), now), None, "there is enough");
    assert_eq!(lease.next_look(&plan, cap, 0, now), Some(now));
    // A second later nobody has wanted any more.
    wanted(&mut lease, &plan, 0, 1_000, 2_000);
    assert_eq!(lease.want(&plan, cap, 0, nobody(), now + SECOND), None);
    assert_eq!(lease.next_look(&plan, cap, 0, now + SECOND), None);
    // Never more than the cap.
    wanted(&mut lease, &plan, 1_000, 2_000, 3_000);
    assert_eq!(lease.target(&plan, cap), cap);
}

#[test]
fn those_who_wait_are_asked_for_at_once() {
    let plan = plan(10_000, SECOND);
    let mut lease = Lease { resume: u64::MAX, ..Lease::default() };
    let waiting = Waiting { first: 5, total: 40 };
    let want = lease.want(&plan, 625, 2, waiting, START).unwrap();
    assert_eq!(want, Want { least: 3, most: 38 });
    assert_eq!(lease.want(&plan, 10, 2, waiting, START), Some(Want { least: 3, most: 8 }), "the cap holds");
    let heavy = Waiting { first: 50, total: 50 };
    assert_eq!(lease.want(&plan, 10, 0, heavy, START), Some(Want { least: 50, most: 50 }));
    let exact = Plan { leases: false, ..plan };
    wanted(&mut lease, &plan, 10, 0, 1_000);
    assert_eq!(lease.want(&exact, 10, 0, waiting, START), Some(Want { least: 5, most: 40 }));
    assert_eq!(lease.want(&exact, 10, 0, nobody(), START + SECOND), None);
}

#[test]
fn who_got_none_is_refused_until_there_are_some_and_asks_then() {
    let plan = plan(10_000, SECOND);
    let mut lease = Lease { counted_at: START, ..Lease::default() };
    wanted(&mut lease, &plan, 5, 0, 1_000);
    let now = START + SECOND;
    let want = Want { least: 1, most: 78 };
    let answer = Answer { asked_at: now - MS, want, units: 0, retry_after: Some(200 * MS), now };
    assert_eq!(lease.answered(&plan, answer, 0.0), Some(now + 200 * MS));
    assert_eq!(lease.want(&plan, 78, 0, nobody(), now), None);
    lease.count(500, &plan, now + 200 * MS);
    assert_eq!(lease.next_look(&plan, 78, 0, now), Some(now + 200 * MS));
    assert!(lease.want(&plan, 78, 0, nobody(), now + 200 * MS).is_some());
    // Too soon: a quarter of a life at least, and up to a quarter of that more.
    let soon = Answer { retry_after: Some(MS), ..answer };
    let quarter = plan.life / 4;
    assert_eq!(lease.answered(&plan, soon, 0.0), Some(now - MS + quarter));
    assert_eq!(lease.answered(&plan, soon, 1.0), Some(now - MS + quarter * 5 / 4));
    // Never.
    assert_eq!(lease.answered(&plan, Answer { retry_after: None, ..answer }, 0.0), None);
    // Some, but fewer: nobody is refused, and the node asks ahead only later.
    assert_eq!(lease.answered(&plan, Answer { units: 3, ..answer }, 0.0), None);
    assert_eq!(lease.want(&plan, 78, 3, nobody(), now), None);
    assert_eq!(lease.until, now - MS + plan.life);
    // All of it.
    assert_eq!(lease.answered(&plan, Answer { units: 78, ..answer }, 0.0), None);
    lease.count(5, &plan, now);
    assert!(lease.want(&plan, 78, 3, nobody(), now).is_some());
    assert_eq!(lease.answered(&Plan { leases: false, ..plan }, answer, 0.0), None);
}

/// One node of a model: a purse and a lease, and the question that is under way.
struct Node {
    purse: Purse,
    lease: Lease,
    had: u32,
    refused: u64,
    returned: u32,
    asked: Option<(u64, Want, u32, u64)>,
    is_dead: bool,
}

/// What happens to a node in a millisecond.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Calls(u8),
    Dies,
    LosesTheAnswer,
    /// The answer arrives.
    Hears,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => (0..12_u8).prop_map(Happens::Calls),
        1 => Just(Happens::Dies),
        1 => Just(Happens::LosesTheAnswer),
        12 => Just(Happens::Hears),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In every window: the limit, and what was leased and not used when it began. And what that is never passes the caps.
    #[test]
    fn the_bound_holds_for_all_that_can_happen(
        units in 1..400_u32,
        count in 1..6_u32,
        steps in prop::collection::vec((0..6_usize, happens()), 100..3_000),
    ) {
        let plan = plan(units, SECOND);
        let limit = Limit::from(Rate::per_second(units));
        let machine = Machine::new(limit);
        let mut store: State = machine.idle();
        let cap = plan.cap(Crowd::Known(count));
        let mut nodes: Vec<Node> = (0..count)
            .map(|_| Node {
                purse: Purse::new(),
                lease: Lease { counted_at: START, ..Lease::default() },
                had: 0,
                refused: 0,
                returned: 0,
                asked: None,
                is_dead: false,
            })
            .collect();
        let mut admitted: Vec<u32> = Vec::new();
        let mut outstanding: Vec<u64> = Vec::new();
        for (at, (who, what)) in steps.iter().enumerate() {
            let now = START + at as u64 * MS / 2;
            // Leased and not used, what is under way included; of the dead nothing can be used any more.
            outstanding.push(nodes.iter().filter(|node| !node.is_dead).map(|node| {
                u64::from(node.purse.left(now)) + node.asked.map_or(0, |(_, _, granted, _)| granted.into())
            }).sum());
            admitted.push(0);
            let who = who % nodes.len();
            let node = &mut nodes[who];
            if node.is_dead {
                continue;
            }
            match what {
                Happens::Calls(calls) => {
                    for _ in 0..*calls {
                        match node.purse.decide(1, now) {
                            Local::Admitted | Local::AdmittedAndLow => *admitted.last_mut().unwrap() += 1,
                            Local::Refused(_) | Local::Unknown => node.refused += 1,
                        }
                    }
                }
                Happens::Dies => node.is_dead = true,
                Happens::LosesTheAnswer => node.asked = None,
                Happens::Hears => {
                    if let Some((asked_at, want, granted, wait)) = node.asked.take() {
                        let retry_after = (granted == 0).then_some(wait);
                        let answer = Answer { asked_at, want, units: granted, retry_after, now };
                        let taken = u64::from(node.had - node.purse.lying());
                        node.lease.count(taken, &plan, now);
                        if now >= node.lease.until {
                            node.returned += node.purse.empty();
                        }
                        if let Some(until) = node.lease.answered(&plan, answer, 0.5) {
                            node.purse.shut(want.least, until);
                        }
                        if now < node.lease.until {
                            node.purse.put(granted, node.lease.until);
                        } else {
                            node.returned += granted;
                        }
                        node.had = node.purse.lying();
                    }
                }
            }
            // It looks whether to ask.
            if node.asked.is_none() && !node.is_dead {
                let wanted = u64::from(node.had - node.purse.lying()) + std::mem::take(&mut node.refused);
                node.lease.count(wanted, &plan, now);
                if now >= node.lease.until {
                    node.returned += node.purse.empty();
                }
                node.had = node.purse.lying();
                // Who finds one takes it; the others wait.
                let waits = wanted > 0 && node.purse.left(now) == 0;
                let waiting = if waits { Waiting { first: 1, total: wanted } } else { Waiting::default() };
                if let Some(want) = node.lease.want(&plan, cap, node.purse.left(now), waiting, now) {
                    prop_assert!(want.least <= want.most && want.most + node.purse.left(now) <= cap.max(want.least));
                    machine.give_back(&mut store, std::mem::take(&mut node.returned), 0, now);
                    let free = machine.available(&store, now).min(want.most);
                    let granted = if free >= want.least { free } else { 0 };
                    if granted > 0 {
                        machine.take(&mut store, granted, now).unwrap();
                    }
                    node.asked = Some((now, want, granted, machine.wait(&store, want.least.into(), now)));
                }
            }
            let most = u64::from(cap) * u64::from(count);
            prop_assert!(*outstanding.last().unwrap() <= most, "{outstanding:?}");
        }
        for begin in 0..admitted.len() {
            // Half a millisecond a step.
            let sum: u64 = admitted[begin..].iter().take(2_000).map(|n| u64::from(*n)).sum();
            prop_assert!(sum <= u64::from(units) + outstanding[begin], "{sum} from {begin}");
        }
    }
}

/// Else the one task that asks would do nothing else, and in virtual time for ever.
#[test]
fn a_refusal_without_a_time_is_no_reason_to_ask_at_once() {
    let plan = plan(10_000, SECOND);
    let cap = plan.cap(Crowd::Known(1));
    let mut lease = Lease { counted_at: START, ..Lease::default() };
    wanted(&mut lease, &plan, 2, 0, 1_000);
    let now = START + SECOND;
    let want = lease.want(&plan, cap, 0, nobody(), now).unwrap();
    let answer = Answer { asked_at: now, want, units: 0, retry_after: None, now };
    assert_eq!(lease.answered(&plan, answer, 0.0), None);
    assert_eq!(lease.want(&plan, cap, 0, nobody(), now), None);
    assert!(lease.next_look(&plan, cap, 0, now).is_some_and(|at| at >= now + plan.life / 4));
}

#[test]
fn what_may_have_ceased_to_count_is_not_returnable() {
    assert_eq!(plan(1_000, SECOND).returnable, SECOND / 2);
    let limits = [Limit::from(Rate::per_second(10)), Limit::fixed_window(Rate::per_minute(100))];
    assert_eq!(Plan::new(&limits, true).returnable, 0);
}
