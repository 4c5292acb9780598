use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::seats::Laid;

const MS: Duration = Duration::from_millis(1);

/// Where a caller's request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Line,
    Batch(u32),
    /// With this answer.
    Settled(u32),
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    key: u32,
    request: u32,
    ticket: Ticket,
}

/// A batcher as plain lists, which is told everything that was decided and looks whether it may be.
#[derive(Debug, Default)]
struct Model {
    /// In the order in which they came.
    line: Vec<Waiting>,
    places: BTreeMap<u32, Place>,
    /// Requests of those in each batch, callers who left included.
    batches: BTreeMap<u32, Vec<(u32, u32)>>,
    workers: Vec<u32>,
    gatherer: Option<u32>,
    alone: bool,
    last: usize,
    closed: bool,
}

impl Model {
    fn idle(&self) -> bool {
        self.line.is_empty() && self.workers.is_empty() && !self.alone
    }

    fn weight(&self) -> u64 {
        self.line.iter().map(|entry| entry.ticket.weight).sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Enter {
        weight: u64,
        deadline: Option<u8>,
    },
    /// The one who gathers is ready, and takes if it is due.
    Take,
    /// Some batch's call ends; `true` settles all in it before.
    End(usize, bool),
    Leave(usize),
    Look(usize),
    AloneEnds,
    Pass(u8),
    Lost(usize),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (1..6_u64, proptest::option::of(0..40_u8))
            .prop_map(|(weight, deadline)| Step::Enter { weight, deadline }),
        6 => Just(Step::Take),
        4 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(at, settles)| Step::End(at, settles)),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => any::<usize>().prop_map(Step::Look),
        2 => Just(Step::AloneEnds),
        4 => (1..12_u8).prop_map(Step::Pass),
        1 => any::<usize>().prop_map(Step::Lost),
    ];
    let close = prop_oneof![9 => Just(None), 1 => Just(Some(Step::Close))];
    (proptest::collection::vec(step, 1..200), close, any::<prop::sample::Index>()).prop_map(
        |(mut steps, close, at)| {
            let at = at.index(steps.len());
            steps.splice(at..at, close);
            steps
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..6_usize, 4..20_u64, 1..4_usize, 1..20_usize, prop_oneof![Just(0), 1..8_u32]).prop_map(
        |(size, weight, in_flight, waiting, linger)| Limits {
            size,
            weight,
            in_flight,
            waiting,
            linger: linger * MS,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn it_does_what_plain_lists_do(limits in limits(), steps in steps()) {
        let mut gather: Gather<u32, u32> = Gather::new(limits);
        let mut model = Model::default();
        let mut now = Instant::now();
        let mut most = 0;
        for (request, step) in (0..).zip(steps) {
            run(&mut gather, &mut model, limits, &mut now, request, step)?;
            // A seat in a batch is taken until the batch ends, though its caller has left.
            let left = model.batches.values().flatten().filter(|(key, _)| !model.places.contains_key(key)).count();
            most = most.max(model.places.len() + left);
            prop_assert_eq!(gather.seats.waiting(), model.line.len());
            prop_assert_eq!(gather.seats.weight(), u128::from(model.weight()));
            prop_assert_eq!(gather.gatherer, model.gatherer);
            prop_assert_eq!(gather.is_over(), model.closed && model.idle());
            // Seats are used again.
            prop_assert!(gather.seats.room() <= most);
            // Nothing waits without a worker, and no worker may begin who has not.
            prop_assert!(model.line.is_empty() || !model.workers.is_empty());
            prop_assert_eq!(gather.begin(), None);
            for (number, batch) in &model.batches {
                let there = |(key, _): &&(u32, u32)| model.places.get(key) == Some(&Place::Batch(*number));
                prop_assert_eq!(gather.is_abandoned(*number), batch.iter().filter(there).count() == 0);
            }
        }
    }
}

fn run(
    gather: &mut Gather<u32, u32>,
    model: &mut Model,
    limits: Limits,
    now: &mut Instant,
    request: u32,
    step: Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Enter { weight, deadline } => {
            let deadline = deadline.map(|ms| *now + u32::from(ms) * MS);
            match gather.enter(request, weight, deadline, || *now, Waker::noop()) {
                Entry::Refused(refused, reason) => {
                    prop_assert_eq!(refused, request);
                    let full = model.line.len() == limits.waiting;
                    prop_assert_eq!(reason, if model.closed { Reason::Closed } else { Reason::Overloaded });
                    prop_assert!(model.closed || full);
                }
                Entry::Alone(alone) => {
                    prop_assert_eq!(alone, request);
                    prop_assert!(model.idle() && model.last <= 1 && limits.linger.is_zero() && !model.closed);
                    model.alone = true;
                }
                Entry::Wait { key, begin, .. } => {
                    prop_assert!(!model.closed && model.line.len() < limits.waiting);
                    prop_assert!(!(model.idle() && model.last <= 1 && limits.linger.is_zero()));
                    prop_assert!(model.places.insert(key, Place::Line).is_none(), "a seat is one caller's");
                    let patient = deadline.is_none_or(|at| at > *now + 2 * limits.linger);
                    let due = if patient { *now + limits.linger } else { *now };
                    let due = (!limits.linger.is_zero()).then_some(due);
                    model.line.push(Waiting { key, request, ticket: Ticket { weight, deadline, due } });
                    let may = model.gatherer.is_none() && model.workers.len() < limits.in_flight;
                    prop_assert_eq!(begin.is_some(), may);
                    began(model, begin);
                }
            }
        }
        Step::Take => {
            let Some(number) = model.gatherer else { return Ok(()) };
            let full = model.line.len() >= limits.size || model.weight() >= limits.weight;
            let due = model.line.iter().filter_map(|entry| entry.ticket.due).min();
            let expected = match due {
                _ if model.line.is_empty() => Due::Never,
                Some(at) if !full && !model.closed => Due::At(at),
                _ => Due::Now,
            };
            match (gather.due(), expected) {
                (Due::Never, Due::Never) => {
                    gather.end(number);
                    ended(model, number);
                }
                (Due::At(at), Due::At(latest)) => {
                    // Who left may have been the one who was in a hurry.
                    prop_assert!(at <= latest);
                    if at <= *now {
                        take(gather, model, limits, *now, number)?;
                    }
                }
                (due, expected) => {
                    prop_assert_eq!(due, expected);
                    take(gather, model, limits, *now, number)?;
                }
            }
        }
        Step::End(at, settles) => {
            let Some(number) = nth(model.batches.keys(), at) else { return Ok(()) };
            let batch = model.batches.remove(&number).unwrap_or_default();
            for (key, request) in batch {
                let answer = if settles { request } else { u32::MAX };
                lay(gather, model, number, key, answer)?;
            }
            if model.gatherer.is_none() {
                prop_assert!(gather.goes_on(number));
                model.gatherer = Some(number);
            } else {
                prop_assert!(!gather.goes_on(number));
                ended(model, number);
            }
        }
        Step::Leave(at) => {
            let Some(key) = nth(model.places.keys(), at) else { return Ok(()) };
            let (left, _, _) = gather.leave(key);
            match model.places.remove(&key) {
                Some(Place::Line) => {
                    let at = model.line.iter().position(|entry| entry.key == key);
                    let entry = model.line.remove(at.expect("it is in line"));
                    prop_assert_eq!(left, Left::Request(entry.request));
                }
                Some(Place::Batch(number)) => prop_assert_eq!(left, Left::Taken(number)),
                Some(Place::Settled(answer)) => prop_assert_eq!(left, Left::Result(answer)),
                None => unreachable!("it was there"),
            }
        }
        Step::Look(at) => {
            let Some(key) = nth(model.places.keys(), at) else { return Ok(()) };
            let expected = match model.places[&key] {
                Place::Settled(answer) => Some(answer),
                _ => None,
            };
            prop_assert_eq!(gather.seats.look(key, Waker::noop()).0, expected);
            if expected.is_some() {
                model.places.remove(&key);
            }
        }
        Step::AloneEnds => {
            if model.alone {
                gather.alone_ended();
                model.alone = false;
            }
        }
        Step::Pass(ms) => *now += u32::from(ms) * MS,
        Step::Lost(at) => {
            let Some(number) = nth(model.workers.iter(), at) else { return Ok(()) };
            // Its batch is settled before.
            for (key, _) in model.batches.remove(&number).unwrap_or_default() {
                lay(gather, model, number, key, u32::MAX)?;
            }
            ended(model, number);
            let refused = gather.lost(number);
            if model.workers.is_empty() {
                let line: Vec<_> = model.line.drain(..).map(|entry| (entry.key, entry.request)).collect();
                prop_assert_eq!(&refused, &line);
                for (key, _) in refused {
                    prop_assert!(matches!(gather.seats.lay(key, u32::MAX), Laid::For(_)));
                    model.places.insert(key, Place::Settled(u32::MAX));
                }
            } else {
                prop_assert_eq!(refused, []);
                began(model, gather.begin());
            }
        }
        Step::Close => {
            gather.close();
            model.closed = true;
        }
    }
    Ok(())
}

fn take(
    gather: &mut Gather<u32, u32>,
    model: &mut Model,
    limits: Limits,
    now: Instant,
    number: u32,
) -> Result<(), TestCaseError> {
    let mut taken = Taken::new();
    gather.take(number, (limits.size, limits.weight), || now, &mut taken);
    let (mut expected, mut late, mut weight, mut deadlines) = (Vec::new(), Vec::new(), 0, Vec::new());
    while expected.len() < limits.size
        && let Some(&Waiting { key, request, ticket: Ticket { weight: heavy, deadline, .. } }) =
            model.line.first()
        && (weight + heavy <= limits.weight || expected.is_empty())
    {
        model.line.remove(0);
        if deadline.is_some_and(|deadline| deadline <= now) {
            late.push((key, request));
            continue;
        }
        weight += heavy;
        expected.push((key, request));
        deadlines.push(deadline);
    }
    let got: Vec<_> = taken.keys.iter().copied().zip(taken.requests.iter().copied()).collect();
    prop_assert_eq!(&got, &expected);
    prop_assert_eq!(&taken.late, &late);
    let latest = deadlines.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
    prop_assert_eq!(taken.deadline, latest);
    for (key, _) in &expected {
        model.places.insert(*key, Place::Batch(number));
    }
    for (key, _) in late {
        prop_assert!(matches!(gather.seats.lay(key, u32::MAX), Laid::For(_)));
        model.places.insert(key, Place::Settled(u32::MAX));
    }
    model.last = expected.len();
    model.batches.insert(number, expected);
    model.gatherer = None;
    let begin = gather.begin();
    prop_assert_eq!(begin.is_some(), !model.line.is_empty() && model.workers.len() < limits.in_flight);
    began(model, begin);
    Ok(())
}

fn lay(
    gather: &mut Gather<u32, u32>,
    model: &mut Model,
    number: u32,
    key: u32,
    answer: u32,
) -> Result<(), TestCaseError> {
    let there = model.places.get(&key) == Some(&Place::Batch(number));
    match gather.seats.lay(key, answer) {
        Laid::For(_) => {
            prop_assert!(there);
            gather.settled(number);
            model.places.insert(key, Place::Settled(answer));
        }
        Laid::ForNobody(result) => {
            prop_assert!(!there);
            prop_assert_eq!(result, answer);
        }
    }
    Ok(())
}

fn began(model: &mut Model, begin: Option<u32>) {
    if let Some(number) = begin {
        assert!(!model.workers.contains(&number), "a number is one worker's");
        model.workers.push(number);
        model.gatherer = Some(number);
    }
}

fn ended(model: &mut Model, number: u32) {
    model.workers.retain(|worker| *worker != number);
    if model.gatherer == Some(number) {
        model.gatherer = None;
    }
}

fn nth<'a>(mut all: impl ExactSizeIterator<Item = &'a u32>, at: usize) -> Option<u32> {
    let len = all.len();
    if len == 0 { None } else { all.nth(at % len).copied() }
}
