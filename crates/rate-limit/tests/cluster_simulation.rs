//! Many nodes in virtual time: what is admitted, in every window; who gets how much; what the store is asked.
#![cfg(feature = "cluster")]

mod cluster_support;

use std::time::Duration;

use buttress_rate_limit::{
    Limit, Rate,
    cluster::{ClusterLayer, ClusterLimiter, WhenAway},
};
use cluster_support::{Dice, Fault, FaultyStore, MS, Record};
use tokio::time::{Instant, sleep_until};

const SECOND: Duration = Duration::from_secs(1);

/// A node that holds to what the store gives, and calls that come at random.
struct Node {
    limiter: ClusterLimiter,
    store: FaultyStore,
    record: Record,
    /// Calls in a second.
    demand: f64,
}

impl Node {
    fn new(limit: Limit, store: FaultyStore, id: u64, demand: f64) -> Self {
        let limiter = ClusterLayer::builder("simulation", limit, store.clone())
            .leased()
            .when_away(WhenAway::FailClosed)
            .node_id(id)
            .build()
            .limiter();
        Self { limiter, store, record: Record::new(), demand }
    }
}

async fn drive(
    nodes: &mut [Node],
    time: Duration,
    dice: &mut Dice,
    mut happens: impl FnMut(u32, &mut [Node]),
) {
    let start = Instant::now();
    for ms in 0..time.as_millis() as u32 {
        happens(ms, nodes);
        for node in &*nodes {
            for _ in 0..dice.arrivals(node.demand / 1e3) {
                node.record.call(&node.limiter, 1);
            }
        }
        sleep_until(start + (ms + 1) * MS).await;
    }
}

fn sum(nodes: &[Node]) -> Record {
    Record::sum(&nodes.iter().map(|node| node.record.clone()).collect::<Vec<_>>())
}

#[tokio::test(start_paused = true)]
async fn eight_nodes_use_the_limit_up_share_it_and_seldom_ask() {
    for seed in 0..2 {
        let store = FaultyStore::new();
        store.set_latency(MS / 2);
        let limit = Limit::from(Rate::per_second(10_000));
        let mut nodes: Vec<_> =
            (0..8).map(|id| Node::new(limit, store.clone(), seed * 100 + id, 5_000.0)).collect();
        drive(&mut nodes, 60 * SECOND, &mut Dice(seed), |_, _| {}).await;
        let all = sum(&nodes);
        let admitted = all.admitted();
        assert!((594_000..=606_000).contains(&admitted), "seed {seed}: {admitted}");
        // A sixteenth may be at hand when a window begins; half of that more while nobody knows of the others.
        let steady = all.worst_within(SECOND, 250, usize::MAX);
        assert!(steady.0 <= 10_625, "seed {seed}: {steady:?}");
        assert!(all.worst(SECOND).0 <= 10_937, "seed {seed}: {:?}", all.worst(SECOND));
        let decisions_each = all.decided() / store.round_trips();
        assert!(decisions_each >= 100, "seed {seed}: {decisions_each} decisions for each round trip");
        for node in &nodes {
            let share = node.record.admitted() as f64 * 8.0 / admitted as f64;
            assert!((0.9..=1.1).contains(&share), "seed {seed}: {share}");
        }
        assert!(all.log(|log| log.longest) <= 50 * MS);
    }
}

/// One wants nearly all, the others a little each: nobody's part lies idle.
#[tokio::test(start_paused = true)]
async fn what_some_do_not_want_others_get() {
    let store = FaultyStore::new();
    store.set_latency(MS / 2);
    let limit = Limit::from(Rate::per_second(2_000));
    let mut nodes: Vec<_> = (0..8).map(|id| Node::new(limit, store.clone(), id, 50.0)).collect();
    nodes[0].demand = 6_000.0;
    drive(&mut nodes, 30 * SECOND, &mut Dice(7), |_, _| {}).await;
    let all = sum(&nodes);
    assert!((58_000..=61_000).contains(&all.admitted()), "{}", all.admitted());
    assert!(all.worst(SECOND).0 <= 2_000 + 2_000 / 16 * 3 / 2 + 8);
    for node in &nodes[1..] {
        let share = node.record.admitted() as f64 / node.record.decided() as f64;
        // The greedy one finds a free unit first more often; a small one is not shut out for all that.
        assert!(share >= 0.3, "{share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_demand_below_the_limit_is_met() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let limit = Limit::from(Rate::per_second(2_000));
    let mut nodes: Vec<_> = (0..4).map(|id| Node::new(limit, store.clone(), id, 400.0)).collect();
    drive(&mut nodes, 20 * SECOND, &mut Dice(3), |_, _| {}).await;
    let all = sum(&nodes);
    assert!(all.admitted() as f64 >= 0.995 * all.decided() as f64, "{} {}", all.admitted(), all.decided());
}

/// Nodes come, go quiet, die with their leases, lose answers, and are cut off; their demands change at random. Whatever
/// happens, no window holds more than the limit and what was at hand when it began.
#[tokio::test(start_paused = true)]
async fn the_bound_holds_whatever_happens() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let count = 2 + dice.below(15);
        let units = [20, 300, 2_000, 10_000][dice.below(4) as usize];
        let period = [SECOND / 5, SECOND, 4 * SECOND][dice.below(3) as usize];
        let rate = Rate::try_new(units, period).unwrap();
        let limit = match dice.below(4) {
            0 => Limit::sliding_log(rate).unwrap(),
            1 => Limit::gcra(rate, units.div_ceil(4)).unwrap(),
            _ => Limit::from(rate),
        };
        let wanted = f64::from(units) / period.as_secs_f64();
        let store = FaultyStore::new();
        let mut nodes: Vec<_> =
            (0..count).map(|id| Node::new(limit, store.another(), seed << 8 | id, 0.0)).collect();
        let mut chance = Dice(!seed);
        drive(&mut nodes, 12 * period.max(SECOND), &mut dice, |_, nodes| {
            for node in nodes {
                match chance.below(2_000) {
                    0 => node.store.set(Fault::Hangs),
                    1 => node.store.set(Fault::Fails),
                    2 => node.store.set(Fault::BlackHole),
                    3..12 => node.store.set(Fault::None),
                    12 => node.store.set_latency(chance.below(12) as u32 * MS),
                    13..18 => node.demand = wanted * chance.below(100) as f64 / 50.0,
                    18 => node.demand = 0.0,
                    19 => {
                        // It dies: the store never hears of it again, and another takes its place.
                        node.store.set(Fault::BlackHole);
                        let fresh = node.store.another();
                        let id = chance.next();
                        let (record, demand) = (node.record.clone(), node.demand);
                        *node = Node { record, ..Node::new(limit, fresh, id, demand) };
                    }
                    _ => {}
                }
            }
        })
        .await;
        let all = sum(&nodes);
        let (worst, at) = all.worst(period);
        // Of GCRA, a whole period holds the burst and what the rate makes of it. Half as much again as a sixteenth: nodes
        // come at any time. And each node holds at least a unit.
        let burst =
            if matches!(limit.most_at_once(), burst if burst < units) { limit.most_at_once() } else { 0 };
        let bound = u64::from(units + burst + units / 16 * 3 / 2) + count;
        assert!(worst <= bound, "seed {seed}: {worst} in the window at {at} ms of {limit:?}, {count} nodes");
        assert!(all.admitted() > u64::from(units), "seed {seed}: nothing was tested");
    }
}
