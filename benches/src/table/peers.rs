//! What a row of ours stands beside.

use super::{
    record::{Measured, Record},
    targets::Target,
};

/// Peers that neither a target nor their names tell.
const FURTHER: &[(&str, &[&str])] = &[
    ("breaker/buttress count closed", &["breaker/recloser async closed", "breaker/failsafe closed"]),
    (
        "breaker/buttress count closed 1% failing",
        &["breaker/recloser closed 1% failing", "breaker/failsafe closed 1% failing"],
    ),
    ("timeout/buttress ready", &["timeout/tower-resilience"]),
    ("retry/buttress budget ok", &["retry/tower", "retry/tower-resilience budget"]),
    ("hedge/buttress in time", &["hedge/tower-resilience"]),
    ("hedge/buttress fixed in time", &["hedge/tower-resilience"]),
    (
        "rate-limit/buttress gcra",
        &["rate-limit/governor direct", "rate-limit/tower", "rate-limit/tower-resilience sliding counter"],
    ),
    ("rate-limit/buttress counter", &["rate-limit/tower", "rate-limit/tower-resilience sliding counter"]),
    ("bulkhead/buttress fixed", &["bulkhead/tower-resilience"]),
    ("cache/buttress hit one key", &["cache/moka one key", "cache/tower-resilience one key"]),
    ("cache/buttress hit zipf", &["cache/moka zipf", "cache/tower-resilience zipf"]),
    ("batch/buttress no-op 64", &["batch/tower-batch 64"]),
    ("balance/buttress", &["balance/tower ewma", "balance/tower pending"]),
    ("http/buttress thin 64", &["http/reqwest 64"]),
    ("http/buttress client 64", &["http/reqwest-middleware retry 64"]),
    ("http/buttress layers 64", &["http/hyper-util 64", "http/reqwest-middleware retry 64"]),
];

/// The rows whose time a row of ours is told against, nearest first, and how much of theirs it takes.
pub(super) fn beside<'a>(row: &Record, measured: &'a Measured, targets: &[Target]) -> Vec<(&'a Record, f64)> {
    if !row.is_ours() {
        return Vec::new();
    }
    let id = row.id();
    let by_targets = targets.iter().filter(|target| target.row == id).filter_map(Target::peer_by_time);
    let by_hand = FURTHER.iter().filter(|(of, _)| *of == id).flat_map(|(_, peers)| peers.iter().copied());
    let found = by_targets.filter_map(|peer| measured.row(peer));
    let found = found.chain(measured.rows().iter().filter(|other| is_namesake(row, other)));
    let mut beside: Vec<(&Record, f64)> = Vec::new();
    for peer in found.chain(by_hand.filter_map(|peer| measured.row(peer))) {
        let stands = beside.iter().any(|(other, _)| other.id() == peer.id());
        if let (false, Some(x)) = (stands, measured.ratio(&id, &peer.id(), "ns")) {
            beside.push((peer, x));
        }
    }
    beside
}

/// `buttress keyed 10k` and `governor keyed 10k`; `buttress query` and `by hand query`.
fn is_namesake(ours: &Record, other: &Record) -> bool {
    let Some((_, what)) = ours.name.split_once(' ') else { return false };
    let says_it_too = other.name.strip_suffix(what).is_some_and(|whose| whose.ends_with(' '));
    ours.group == other.group && !other.is_ours() && says_it_too
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{
        super::{record::tests::measured, targets::tests::target},
        *,
    };
    use crate::groups;

    fn named(row: &str, measured: &Measured, targets: &[Target]) -> Vec<String> {
        let beside = beside(measured.row(row).unwrap(), measured, targets);
        beside.into_iter().map(|(peer, x)| format!("{x} {}", peer.id())).collect()
    }

    #[test]
    fn peers_come_by_target_by_name_and_by_hand_once_each() {
        let all = measured(&[
            ("physical/Instant::now", "ns", 20.0),
            ("hedge/buttress in time", "ns", 10.0),
            ("hedge/buttress fixed in time", "ns", 8.0),
            ("hedge/other in time", "ns", 40.0),
            ("hedge/another one in time", "ns", 80.0),
            ("hedge/intime", "ns", 1.0),
            ("retry/x in time", "ns", 1.0),
            ("hedge/tower-resilience", "ns", 100.0),
        ]);
        let targets = [
            target("hedge|buttress in time|x|<= 1|physical/Instant::now|"),
            target("hedge|buttress in time|x|<= 2|hedge/other in time|"),
            target("hedge|buttress in time|scale2x|>= 1|hedge/intime|"),
        ];
        let expected = [
            "0.5 physical/Instant::now",
            "0.25 hedge/other in time",
            "0.125 hedge/another one in time",
            "0.1 hedge/tower-resilience",
        ];
        assert_eq!(named("hedge/buttress in time", &all, &targets), expected);
        assert!(named("hedge/other in time", &all, &targets).is_empty(), "a peer has none");
    }

    #[test]
    fn rows_that_are_named_by_hand_exist() {
        let rows: HashSet<String> = groups::rows().iter().map(crate::row::Row::id).collect();
        for (of, peers) in FURTHER {
            for id in peers.iter().chain([of]).filter(|id| !id.starts_with("http/")) {
                assert!(rows.contains(*id), "{id}");
            }
        }
    }
}
