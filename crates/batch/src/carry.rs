use std::{future::poll_fn, ops::Range};

use buttress_core::{Decision, Reason, Rejectable, Rejected};
use tower_service::Service;

use crate::{outcome::Outcome, rules::Rules, split::Parts};

/// Those whose requests are in a batch, by the places of their requests.
pub(crate) trait Members<Res, E> {
    /// Whether somebody still waits for the result of this request.
    fn is_wanted(&mut self, place: usize) -> bool;

    /// From now on the batch may have reached the backend.
    fn sent(&mut self);

    /// The results of these requests.
    fn settle(&mut self, places: Places<'_>, outcomes: Vec<Outcome<Res, E>>);
}

/// Some of a batch's requests.
#[derive(Debug, Clone)]
pub(crate) enum Places<'a> {
    All(Range<usize>),
    Some(&'a [usize]),
}

/// What happened on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) splits: u64,
    pub(crate) failed: bool,
}

/// Sends a batch by a service that is ready, and settles each request of it.
pub(crate) async fn carry<S, Req, Res, E, M>(
    mut service: S,
    requests: Vec<Req>,
    rules: &Rules<Req, Res, E>,
    members: &mut M,
) -> Tally
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E>,
    E: Rejectable,
    M: Members<Res, E>,
{
    let size = requests.len();
    let Some(bisect) = rules.bisect.as_ref().filter(|_| size > 1) else {
        members.sent();
        let result = service.call(requests).await;
        let failed = !matches!(&result, Ok(results) if results.len() == size);
        members.settle(Places::All(0..size), outcomes(rules, result, size, true));
        return Tally { splits: 0, failed };
    };

    let mut tally = Tally::default();
    // Whether a call before may have been carried out.
    let mut sent = false;
    let mut spare: Vec<Option<Req>> = requests.iter().map(|request| Some((bisect.clone)(request))).collect();
    let mut parts = Parts::of(size);
    let mut whole = Some(requests);
    while let Some(part) = parts.next() {
        let (places, requests) = match whole.take() {
            Some(requests) => (part.clone().collect(), requests),
            None => {
                // Who has gone since it failed is left out.
                let places: Vec<usize> = part.clone().filter(|place| members.is_wanted(*place)).collect();
                let alone = places.len() == 1;
                let again = |place: &usize| {
                    let spare = &mut spare[*place];
                    if alone { spare.take() } else { spare.as_ref().map(bisect.clone) }
                };
                let requests: Vec<Req> = places.iter().filter_map(again).collect();
                (places, requests)
            }
        };
        if requests.is_empty() {
            continue;
        }
        let size = requests.len();
        if tally.splits > 0
            && let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await
        {
            tally.failed = true;
            members
                .settle(Places::Some(&places), after_another(sent, outcomes(rules, Err(error), size, true)));
            break;
        }
        members.sent();
        match service.call(requests).await {
            Err(error) if size > 1 && (bisect.splits)(&error) => {
                // An error that is no rejection does not say, in a way that is known here, whether it was sent.
                sent |= error.rejected().is_none_or(Rejected::sent);
                tally.splits += 1;
                Decision::note(rules.origin, "split", || {
                    format!("a batch of {size} failed as a whole: its halves are sent")
                });
                parts.halve(part);
            }
            result => {
                let poison = size == 1 && tally.splits > 0;
                tally.failed |= !poison && !matches!(&result, Ok(results) if results.len() == size);
                members
                    .settle(Places::Some(&places), after_another(sent, outcomes(rules, result, size, true)));
            }
        }
    }
    for part in parts.rest() {
        tally.failed = true;
        let rejected = part.clone().map(|_| Outcome::Rejected(batch_failed(rules, true)));
        members.settle(Places::All(part.clone()), rejected.collect());
    }
    tally
}

/// What each of so many requests gets from a call.
pub(crate) fn outcomes<Req, Res, E: Rejectable>(
    rules: &Rules<Req, Res, E>,
    result: Result<Vec<Result<Res, E>>, E>,
    size: usize,
    sent: bool,
) -> Vec<Outcome<Res, E>> {
    match result {
        Ok(results) if results.len() == size => results.into_iter().map(Outcome::Answer).collect(),
        Ok(results) => {
            Decision::note(rules.origin, "failed", || {
                format!("a batch of {size} was answered with {} results", results.len())
            });
            let rejected = wrong_number(rules, size, results.len());
            (1..size).map(|_| batch_failed(rules, true)).chain([rejected]).map(Outcome::Rejected).collect()
        }
        Err(error) if size == 1 => vec![Outcome::Answer(Err(error))],
        Err(error) => {
            Decision::note(rules.origin, "failed", || format!("a batch of {size} failed"));
            match (error.rejected().copied(), rules.share) {
                (Some(refusal), _) => (0..size).map(|_| Outcome::Rejected(refusal)).collect(),
                (None, Some(clone)) => (0..size).map(|_| Outcome::Answer(Err(clone(&error)))).collect(),
                (None, None) => (0..size).map(|_| Outcome::Rejected(batch_failed(rules, sent))).collect(),
            }
        }
    }
}

/// A refusal must not say of a request that it was not sent where a call before may have been.
fn after_another<Res, E: Rejectable>(sent: bool, outcomes: Vec<Outcome<Res, E>>) -> Vec<Outcome<Res, E>> {
    if !sent {
        return outcomes;
    }
    let after = |outcome: Outcome<Res, E>| {
        let refusal = match &outcome {
            Outcome::Answer(Ok(_)) => None,
            Outcome::Answer(Err(error)) => error.rejected().copied(),
            Outcome::Rejected(rejected) => Some(*rejected),
        };
        refusal.map_or(outcome, |refusal| Outcome::Rejected(refusal.after_sending()))
    };
    outcomes.into_iter().map(after).collect()
}

/// The service broke its contract: nobody knows which result is whose.
pub(crate) fn wrong_number<Req, Res, E>(
    rules: &Rules<Req, Res, E>,
    requests: usize,
    results: usize,
) -> Rejected {
    let name = rules.origin.name();
    tracing::error!(name, requests, results, "a batch was answered with a wrong number of results");
    batch_failed(rules, true)
}

fn batch_failed<Req, Res, E>(rules: &Rules<Req, Res, E>, sent: bool) -> Rejected {
    let rejected = rules.origin.reject(Reason::BatchFailed);
    if sent { rejected.after_sending() } else { rejected }
}

impl Places<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All(range) => range.len(),
            Self::Some(places) => places.len(),
        }
    }

    pub(crate) fn at(&self, index: usize) -> usize {
        match self {
            Self::All(range) => range.start + index,
            Self::Some(places) => places[index],
        }
    }
}
