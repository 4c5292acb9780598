//! How asks are put to the script.

use std::collections::HashMap;

use buttress_rate_limit::{Algorithm, Limit, cluster::Ask};

use crate::{Arg, Command, rate_limit::keys};

/// A sliding window has so many parts, and the one that is now.
const PARTS: u64 = 128;

/// So many asks are decided by one run of the script at most: while it runs, Redis serves nobody else.
const MOST: usize = 256;

/// Asks for the same limits of the same subject, in their order: where each stands among all.
pub(super) fn groups(asks: &[Ask]) -> Vec<Vec<usize>> {
    if asks.len() == 1 {
        return vec![vec![0]];
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut last = HashMap::new();
    for (index, ask) in asks.iter().enumerate() {
        let group = *last.entry((&ask.subject, &ask.limits)).or_insert(usize::MAX);
        match groups.get_mut(group) {
            Some(group) if group.len() < MOST => group.push(index),
            _ => {
                last.insert((&ask.subject, &ask.limits), groups.len());
                groups.push(vec![index]);
            }
        }
    }
    groups
}

/// The command that runs a script by its name or its text, for asks of one [group](groups).
pub(super) fn command(verb: &'static str, script: &'static str, prefix: &str, asks: &[&Ask]) -> Command {
    let stem = keys::stem(prefix, &asks[0].subject);
    // The same limit twice would be counted twice.
    let mut limits: Vec<&Limit> = Vec::with_capacity(asks[0].limits.len());
    for limit in asks[0].limits.iter() {
        if !limits.contains(&limit) {
            limits.push(limit);
        }
    }
    let nodes = asks.iter().any(|ask| ask.node.is_some());
    let mut command = Command::new(verb).arg(script).arg(limits.len() + usize::from(nodes));
    for limit in &limits {
        command = command.arg(keys::of_limit(&stem, limit));
    }
    if nodes {
        command = command.arg(keys::of_nodes(&stem));
    }
    command = command.arg(limits.len());
    for limit in limits {
        let (kind, numbers) = terms(limit);
        command = command.arg(kind).args(numbers);
    }
    for ask in asks {
        command = command.args([ask.least, ask.most, ask.returned]);
        command = match &ask.node {
            Some(node) => command.arg(node.id).arg(u64::try_from(node.lease.as_micros()).unwrap_or(u64::MAX)),
            None => command.arg("").arg(""),
        };
    }
    command
}

/// What the script calls `a`, `b` and `c`. Redis' clock shows microseconds: a period of less is rounded up to one.
fn terms(limit: &Limit) -> (Arg, [u64; 3]) {
    let rate = limit.rate();
    // At most a year: it fits.
    let nanos = u64::try_from(rate.period().as_nanos()).unwrap_or(u64::MAX);
    let (units, micros) = (u64::from(rate.units()), nanos.div_ceil(1000));
    match limit.algorithm() {
        Algorithm::Gcra { burst } => {
            let interval = nanos.div_ceil(units);
            ("gcra".into(), [burst.into(), interval / 1000, interval % 1000])
        }
        Algorithm::SlidingWindow => ("window".into(), [units, micros, PARTS.min(micros)]),
        Algorithm::SlidingLog => ("log".into(), [units, micros, 0]),
        Algorithm::FixedWindow => ("fixed".into(), [units, micros, 0]),
        // A kind that the script does not know is an error there, and admits nothing.
        _ => ("unknown".into(), [units, micros, 0]),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use buttress_rate_limit::{Rate, cluster::Subject};

    use super::*;

    fn ask(name: &str, units: u32) -> Ask {
        let limits: Arc<[Limit]> = vec![Rate::per_second(5).into()].into();
        Ask::exactly(Subject::of(name.into()), limits, units)
    }

    #[test]
    fn asks_of_one_subject_are_put_together_in_their_order() {
        let mut asks = vec![ask("a", 1), ask("b", 1), ask("a", 2), ask("b", 2), ask("c", 1)];
        asks.push(Ask::exactly(Subject::of("a".into()), vec![Rate::per_minute(5).into()].into(), 1));
        assert_eq!(groups(&asks), [vec![0, 2], vec![1, 3], vec![4], vec![5]]);
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        let many: Vec<Ask> = (0..600).map(|_| ask("a", 1)).collect();
        let groups = groups(&many);
        assert_eq!(groups.concat(), (0..600).collect::<Vec<_>>());
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 88]);
    }

    #[test]
    fn a_limit_that_stands_there_twice_is_named_once() {
        let limit = Limit::from(Rate::per_second(5));
        let named = |limits: &[Limit]| {
            let ask = Ask::exactly(Subject::of("a".into()), limits.into(), 1);
            format!("{:?}", command("EVALSHA", "name", "prefix", &[&ask]))
        };
        assert_eq!(named(&[limit, limit]), named(&[limit]));
        assert_ne!(named(&[limit, Rate::per_second(6).into()]), named(&[limit]));
    }

    #[test]
    fn times_are_rounded_so_that_never_more_is_admitted() {
        let nanos = Duration::from_nanos;
        let rate = Rate::try_new(3, nanos(1_000_000_001)).unwrap();
        assert_eq!(terms(&rate.into()).1, [3, 1_000_001, 128]);
        assert_eq!(terms(&Limit::gcra(rate, 9).unwrap()).1, [9, 333_333, 334]);
        assert_eq!(terms(&Limit::fixed_window(Rate::try_new(1, nanos(1)).unwrap())).1, [1, 1, 0]);
        assert_eq!(terms(&Rate::try_new(7, nanos(5_500)).unwrap().into()).1, [7, 6, 6]);
    }
}
