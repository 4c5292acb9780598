use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Nanos = 1_000_000_000;

fn rotation(endpoints: usize, ejection: Ejection) -> Rotation {
    let mut rotation = Rotation::new(ejection);
    (0..endpoints).for_each(|_| rotation.insert(0));
    rotation
}

fn tally(successes: u64, failures: u64) -> Tally {
    Tally { successes, failures }
}

#[test]
fn it_is_out_for_longer_each_time_and_forgiven_when_it_is_well() {
    let mut rotation = rotation(3, Ejection::default());
    let mut now = 0;
    for times in 1..=12 {
        let until = rotation.eject(0, now, 0.0).unwrap();
        assert_eq!(until - now, 30 * SECOND * times.min(10), "{times}");
        assert_eq!(rotation.eject(0, now, 0.0), None, "it is out already");
        assert_eq!(rotation.bring_back(until - 1), [0_usize; 0]);
        assert_eq!(rotation.bring_back(until), [0]);
        now = until;
    }
    // Ten intervals of which it was in the rotation from their beginning.
    for _ in 0..11 {
        now += 2 * INTERVAL;
        rotation.outliers(now, |_| tally(0, 0));
    }
    assert_eq!(rotation.eject(0, now, 1.0).unwrap() - now, 33 * SECOND, "with all of its jitter");
}

#[test]
fn one_may_always_be_ejected_but_never_the_last() {
    for (endpoints, share, most) in
        [(1, 1.0, 0), (2, 0.5, 1), (2, 1.0, 1), (3, 0.1, 1), (3, 0.5, 1), (10, 0.5, 5)]
    {
        let ejection = Ejection::try_new(5, Duration::from_secs(30), share).unwrap();
        let mut rotation = rotation(endpoints, ejection);
        let ejected = (0..endpoints).filter(|at| rotation.eject(*at, 0, 0.0).is_some()).count();
        assert_eq!(ejected, most, "{endpoints} at {share}");
    }
    let mut off = rotation(3, Ejection::off());
    assert_eq!((off.eject(0, 0, 0.0), off.due()), (None, Nanos::MAX));
}

#[test]
fn it_panics_below_a_half_and_a_mark_stays_until_it_is_taken_back() {
    let mut rotation = rotation(4, Ejection::default());
    assert!(rotation.mark(0, true, 0) && !rotation.mark(0, true, 0));
    assert!(rotation.eject(1, 0, 0.0).is_some());
    assert!(!rotation.panics());
    assert!(rotation.mark(2, true, 0));
    assert!(rotation.panics());
    assert_eq!(rotation.eject(3, 0, 0.0), None, "the last one in the rotation");
    assert_eq!(rotation.bring_back(30 * SECOND), [1]);
    assert!(!rotation.panics());
    assert!(!rotation.standings()[0].is_in_rotation());
    // A mark and an ejection at the same time: both must end.
    assert!(rotation.mark(1, true, 0) && rotation.mark(0, false, 0) && rotation.eject(1, 0, 0.0).is_some());
    assert!(rotation.mark(1, false, 0));
    assert!(!rotation.standings()[1].is_in_rotation());
}

#[test]
fn an_outlier_is_far_below_the_mean_of_enough_endpoints_with_enough_calls() {
    let outliers = |rates: &[(u64, u64)]| {
        let mut rotation = rotation(rates.len(), Ejection::default());
        let tally_of = |at: usize| tally(rates[at].0, rates[at].1);
        assert_eq!(rotation.outliers(INTERVAL - 1, tally_of), vec![], "the interval is not over");
        let found = rotation.outliers(INTERVAL, tally_of);
        assert_eq!(rotation.outliers(2 * INTERVAL, tally_of), vec![], "nothing new has happened");
        found.iter().map(|outlier| outlier.index).collect::<Vec<_>>()
    };
    assert_eq!(outliers(&[(100, 0), (60, 40), (100, 0), (99, 1), (100, 0)]), [1]);
    assert_eq!(outliers(&[(100, 0), (60, 40), (100, 0), (100, 0)]), [0_usize; 0], "four endpoints");
    assert_eq!(outliers(&[(100, 0), (59, 40), (100, 0), (100, 0), (100, 0)]), [0_usize; 0], "99 calls");
    assert_eq!(
        outliers(&[(1000, 0), (999, 1), (1000, 0), (1000, 0), (1000, 0)]),
        [0_usize; 0],
        "next to nothing"
    );
    assert_eq!(outliers(&[(50, 50), (55, 45), (45, 55), (50, 50), (52, 48)]), [0_usize; 0], "all are bad");
}

#[derive(Debug, Clone)]
enum Step {
    Insert,
    Remove(usize),
    Eject(usize),
    Mark(usize, bool),
    Pass(Nanos),
}

/// What happened to one endpoint, in words.
#[derive(Debug, Clone, Default)]
struct Plain {
    ejected_until: Option<Nanos>,
    marked: bool,
    ejections: u64,
}

fn steps() -> impl Strategy<Value = (f64, Vec<Step>)> {
    let step = prop_oneof![
        1 => Just(Step::Insert),
        1 => any::<usize>().prop_map(Step::Remove),
        4 => any::<usize>().prop_map(Step::Eject),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(at, marked)| Step::Mark(at, marked)),
        3 => (0..40 * SECOND).prop_map(Step::Pass),
    ];
    (0.01..1.0, prop::collection::vec(step, 1..80))
}

proptest! {
    /// Against a list that is looked through each time.
    #[test]
    fn it_does_what_a_plain_list_would((share, steps) in steps()) {
        let ejection = Ejection::try_new(1, Duration::from_secs(30), share).unwrap();
        let mut rotation = rotation(3, ejection);
        let mut plain = vec![Plain::default(); 3];
        let mut now = 0;
        for step in steps {
            match step {
                Step::Insert if plain.len() < 12 => {
                    rotation.insert(now);
                    plain.push(Plain::default());
                }
                Step::Insert => {}
                Step::Remove(at) => {
                    if !plain.is_empty() {
                        let at = at % plain.len();
                        rotation.remove(at);
                        plain.swap_remove(at);
                    }
                }
                Step::Eject(at) => {
                    if !plain.is_empty() {
                        let at = at % plain.len();
                        let out = plain.iter().filter(|it| it.ejected_until.is_some()).count();
                        let others_left = plain
                            .iter()
                            .enumerate()
                            .any(|(other, it)| other != at && it.ejected_until.is_none() && !it.marked);
                        let is_room = out == 0 || (out + 1) as f64 <= plain.len() as f64 * share;
                        let may = plain[at].ejected_until.is_none() && others_left && is_room;
                        let until = rotation.eject(at, now, 0.0);
                        prop_assert_eq!(until.is_some(), may);
                        if may {
                            plain[at].ejections += 1;
                            prop_assert_eq!(until.unwrap(), now + 30 * SECOND * plain[at].ejections.min(10));
                            plain[at].ejected_until = until;
                        }
                    }
                }
                Step::Mark(at, marked) => {
                    if !plain.is_empty() {
                        let at = at % plain.len();
                        prop_assert_eq!(rotation.mark(at, marked, now), plain[at].marked != marked);
                        plain[at].marked = marked;
                    }
                }
                Step::Pass(time) => {
                    now += time;
                    let mut back = Vec::new();
                    for (at, it) in plain.iter_mut().enumerate() {
                        if it.ejected_until.is_some_and(|until| until <= now) {
                            it.ejected_until = None;
                            back.push(at);
                        }
                    }
                    prop_assert_eq!(rotation.bring_back(now), back);
                }
            }
            let is_in = |it: &Plain| it.ejected_until.is_none() && !it.marked;
            let left: Vec<bool> = plain.iter().map(is_in).collect();
            let stand: Vec<bool> = rotation.standings().iter().map(Standing::is_in_rotation).collect();
            prop_assert_eq!(&left, &stand);
            let count = left.iter().filter(|is_in| **is_in).count();
            prop_assert_eq!(rotation.panics(), count * 2 < left.len());
            prop_assert_eq!(rotation.returns(), plain.iter().filter_map(|it| it.ejected_until).min());
            prop_assert!(rotation.due() <= rotation.returns().unwrap_or(Nanos::MAX));
        }
    }
}
