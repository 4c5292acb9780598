use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    BurnWindow, CallsFigure, CallsSnapshot, Comparison, Figure, Kind, LayerSnapshot, OperationSnapshot,
    Registry, Slo, Subject,
};

const ONE: &str = "one";
const TWO: &str = "two";
const SECOND: Duration = Duration::from_secs(1);

/// A snapshot of layers that each have one gauge.
fn gauges(at: u64, values: &[(&'static str, f64)]) -> Snapshot {
    let mut snapshot = Registry::new().snapshot();
    snapshot.at = at;
    snapshot.layers = values
        .iter()
        .map(|(name, value)| LayerSnapshot {
            layer: "test",
            name,
            figures: vec![Figure { name: "level", label: None, kind: Kind::Gauge, unit: "", value: *value }],
            settings: Vec::new(),
            actions: &[],
        })
        .collect();
    snapshot
}

fn calls(total: OperationSnapshot) -> Snapshot {
    let mut snapshot = Registry::new().snapshot();
    snapshot.calls = vec![CallsSnapshot {
        name: ONE,
        in_flight: 0,
        total,
        operations: Vec::new(),
        within: [0; 15],
        source: 0,
    }];
    snapshot
}

/// What a rule does of which one keeps every look: it fires while it has held, at every look, since one that is long enough
/// ago.
#[derive(Default)]
struct Model {
    /// Of each look: when, and what was seen. None: the instance was not there.
    looks: Vec<(Instant, Option<f64>)>,
}

impl Model {
    fn fires(&self, threshold: f64, hold: Duration) -> bool {
        let held = self.looks.iter().rev().take_while(|(_, seen)| seen.is_some_and(|seen| seen > threshold));
        let now = self.looks.last().map(|(at, _)| *at);
        held.last().is_some_and(|(first, _)| now.is_some_and(|now| now - *first >= hold))
    }
}

proptest! {
    #[test]
    fn an_alert_fires_and_clears_as_in_the_model(
        hold in 0_u64..10,
        looks in prop::collection::vec((0_u64..4, prop::option::of(0_u8..5), prop::option::of(0_u8..5)), 1..60),
    ) {
        let hold = Duration::from_secs(hold);
        let subject = Subject::figure("test", "level");
        let rule = Rule::threshold("level", subject, Comparison::Above, 1.0).for_at_least(hold);
        let (mut machine, mut models, mut now) = (Machine::new(vec![rule]), [Model::default(), Model::default()], Instant::now());
        for (at, (wait, one, two)) in looks.into_iter().enumerate() {
            now += Duration::from_secs(wait);
            // 4 stands for what is no number.
            let seen = [one, two].map(|seen| seen.map(|seen| if seen == 4 { f64::NAN } else { f64::from(seen) }));
            let there: Vec<_> = [ONE, TWO].into_iter().zip(seen).filter_map(|(name, seen)| Some((name, seen?))).collect();
            let alerts = machine.look(now, &gauges(at as u64, &there));
            for ((name, seen), model) in [ONE, TWO].into_iter().zip(seen).zip(&mut models) {
                let fired = model.fires(1.0, hold);
                model.looks.push((now, seen));
                let fires = model.fires(1.0, hold);
                let expected = match (fired, fires, seen) {
                    (false, true, _) => Some(Change::Fired),
                    (true, false, None) => Some(Change::Cleared(Cleared::Gone)),
                    (true, false, Some(seen)) if seen.is_nan() => Some(Change::Cleared(Cleared::NoData)),
                    (true, false, _) => Some(Change::Cleared(Cleared::Recovered)),
                    _ => None,
                };
                let got: Vec<_> = alerts.iter().filter(|alert| alert.state.instance == name).map(|alert| alert.change).collect();
                prop_assert_eq!(got, Vec::from_iter(expected));
                let status = machine.active().iter().find(|state| state.instance == name).map(|state| state.status);
                let holds = seen.is_some_and(|seen| seen > 1.0);
                let expected = holds.then_some(if fires { AlertStatus::Firing } else { AlertStatus::Pending });
                prop_assert_eq!(status, expected);
            }
        }
    }
}

#[test]
fn the_burn_rate_needs_both_windows() {
    let window = BurnWindow { long: Duration::from_secs(60), short: Duration::from_secs(5), factor: 10.0 };
    let slo = Slo::new(ONE, 0.99);
    let mut machine = Machine::new(vec![Rule::burn_rate("burn", slo).windows([window])]);
    let (mut total, mut now) = (OperationSnapshot::default(), Instant::now());
    let mut step = |good: u64, bad: u64| {
        total.success += good;
        total.failure += bad;
        // Nobody waited for these.
        total.cancelled += 1000;
        now += Duration::from_secs(1);
        machine
            .look(now, &calls(total.clone()))
            .into_iter()
            .map(|alert| (alert.change, alert.state))
            .collect::<Vec<_>>()
    };
    for _ in 0..60 {
        assert!(step(100, 0).is_empty());
    }
    // A burst fills the short window at once, the long one after 6,000 * 10 % / 100 s.
    let fires_after = (1..=60).find(|_| {
        let alerts = step(0, 100);
        alerts.iter().any(|(change, state)| {
            assert_eq!((*change, state.threshold), (Change::Fired, 10.0));
            assert!(state.value > 10.0 && state.value < 13.0, "{}", state.value);
            true
        })
    });
    assert_eq!(fires_after, Some(7), "one more than 10 % of the window");
    // The long window is bad for a minute still; the short one is what clears it.
    let clears_after = (1..=60)
        .find(|_| step(100, 0).iter().any(|(change, _)| *change == Change::Cleared(Cleared::Recovered)));
    assert_eq!(clears_after, Some(5));
}

#[test]
fn calls_that_succeed_too_late_are_bad_where_the_objective_says_so() {
    let bound = 5; // 75 ms
    let look = |slo: Slo| {
        let window = BurnWindow { long: SECOND * 60, short: SECOND * 5, factor: 1.0 };
        let mut machine = Machine::new(vec![Rule::burn_rate("burn", slo).windows([window])]);
        let now = Instant::now();
        assert_eq!(machine.look(now, &calls(OperationSnapshot::default())), []);
        let ends = OperationSnapshot { success: 90, failure: 4, rejected: 5, ..OperationSnapshot::default() };
        let mut snapshot = calls(ends);
        // Of those that succeed, 60 take longer.
        snapshot.calls[0].within[..bound].fill(10);
        snapshot.calls[0].within[bound..].fill(30);
        let fired = machine.look(now + SECOND, &snapshot);
        fired.first().map_or(0.0, |alert| alert.state.value * 0.01 * 99.0)
    };
    let slo = || Slo::new(ONE, 0.99);
    let than = Duration::from_millis;
    for (slo, bad) in [
        (slo(), 4.0),
        (slo().rejected_are_bad(), 9.0),
        (slo().slower_are_bad(than(75)), 64.0),
        (slo().slower_are_bad(than(50)), 84.0),
        (slo().rejected_are_bad().slower_are_bad(than(10_000)), 69.0),
    ] {
        let got = look(slo.clone());
        assert!((got - bad).abs() < 0.01, "{got} for {slo:?}");
    }
}

#[test]
fn regression_the_calls_of_a_layer_in_place_of_another_are_counted_from_nothing() {
    let subject = Subject::calls(CallsFigure::ErrorShare).over(60 * SECOND);
    let mut machine = Machine::new(vec![Rule::threshold("errors", subject, Comparison::AtLeast, 0.5)]);
    let now = Instant::now();
    let seen = |source, success, failure| {
        let mut snapshot = calls(OperationSnapshot { success, failure, ..OperationSnapshot::default() });
        snapshot.calls[0].source = source;
        snapshot
    };
    assert_eq!(machine.look(now, &seen(1, 100, 0)), []);
    // More in all than the other one has ever seen, and 40 of 120 failed: as a difference to it, 40 of 20.
    assert_eq!(machine.look(now + SECOND, &seen(2, 80, 40)), []);
    assert_eq!(machine.look(now + 2 * SECOND, &seen(2, 80, 200))[0].change, Change::Fired);
}

#[test]
fn without_calls_there_is_no_share_and_what_fired_clears() {
    let subject = Subject::calls(CallsFigure::ErrorShare).over(Duration::from_secs(10));
    let mut machine = Machine::new(vec![Rule::threshold("errors", subject, Comparison::AtLeast, 0.5)]);
    let now = Instant::now();
    let failed = |failure| calls(OperationSnapshot { failure, ..OperationSnapshot::default() });
    assert_eq!(machine.look(now, &failed(5)), [], "nobody knows when those failed");
    assert_eq!(machine.look(now + Duration::from_secs(1), &failed(6))[0].change, Change::Fired);
    let cleared = machine.look(now + Duration::from_secs(12), &failed(6));
    assert_eq!(cleared[0].change, Change::Cleared(Cleared::NoData));
    assert_eq!(cleared[0].state.status, AlertStatus::Cleared);
    assert!(machine.active().is_empty());
}

#[test]
fn a_layer_that_is_dropped_clears_its_alert_and_one_of_its_name_begins_anew() {
    let rule = Rule::between("level", Subject::figure("test", "level").of(ONE), 1.0..=3.0);
    let mut machine = Machine::new(vec![rule]);
    let now = Instant::now();
    assert_eq!(machine.look(now, &gauges(1, &[(ONE, 3.0), (TWO, 3.0)])).len(), 1, "of the one that is meant");
    assert_eq!(machine.look(now, &gauges(2, &[]))[0].change, Change::Cleared(Cleared::Gone));
    assert!(machine.0[0].instances.is_empty(), "nothing is kept of it");
    let again = machine.look(now, &gauges(3, &[(ONE, 1.0)]));
    assert_eq!((again[0].change, again[0].state.since), (Change::Fired, 3));
    assert_eq!(machine.look(now, &gauges(4, &[(ONE, 4.0)]))[0].change, Change::Cleared(Cleared::Recovered));
}

#[test]
fn an_alert_says_in_json_what_it_is() {
    let rule = Rule::threshold("a \"b\"", Subject::figure("test", "level"), Comparison::Above, 1.0);
    let mut machine = Machine::new(vec![rule]);
    let now = Instant::now();
    let mut alerts = machine.look(now, &gauges(7, &[(ONE, 2.0)]));
    alerts.extend(machine.look(now, &gauges(8, &[])));
    let json = serde_json::to_value(&alerts).unwrap();
    let state = |status| {
        serde_json::json!({
            "rule": "a \"b\"", "severity": "warning", "layer": "test", "instance": "one", "status": status,
            "since": 7, "value": 2.0, "threshold": 1.0, "summary": "level of test > 1",
        })
    };
    let (mut fired, mut cleared) = (state("firing"), state("cleared"));
    fired["change"] = "fired".into();
    fired["at"] = 7.into();
    cleared["change"] = "cleared".into();
    cleared["reason"] = "gone".into();
    cleared["at"] = 8.into();
    assert_eq!(json, serde_json::json!([fired, cleared]));
}
