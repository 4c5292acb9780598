use std::time::Duration;

use super::super::{
    Layer, Repeats,
    Severity::{Error, Note, Warning},
    view::View,
    worst::{Retry, time},
};

fn retries(layer: &Layer) -> bool {
    layer.retries() > 0
}

/// Retries that the limit around them leaves no time for.
pub(in super::super) fn attempts_do_not_fit(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(retries) {
        let Some((outer, limit)) = view.limit_around(place) else { continue };
        let retry = Retry::of(&layers[place]);
        let Some(each) = view.inside(place) else {
            if retry.wait(0) >= limit {
                let text = format!(
                    "{} waits up to {} before its first retry, but {} ends the call after {}",
                    layers[place],
                    time(retry.wait(0)),
                    layers[outer],
                    time(limit)
                );
                view.find(Warning, &[place, outer], text);
            }
            continue;
        };
        let all = retry.takes(each);
        // A limit of the attempt that is no shorter is found by a rule of its own.
        let inner = view.first_inside(place, |layer| layer.limit().is_some());
        if all <= limit || inner.is_some_and(|inner| layers[inner].limit() >= Some(limit)) {
            continue;
        }
        let attempts = retry.attempts();
        let begun = retry.begin_before(limit, each);
        let is_cut = retry.begins(begun, each).saturating_add(each) > limit;
        let what = match (attempts - begun, is_cut) {
            (0, _) => "the last attempt is cut off".to_owned(),
            (_, false) if begun == 1 => "not even the second attempt begins".to_owned(),
            (_, true) => format!("attempt {begun} is cut off, and no other begins"),
            (_, false) => format!("no attempt begins after the first {begun}"),
        };
        let text = format!(
            "{}: {attempts} attempts of {} and waits of up to {} take {}, but {} ends the call after {}: {what}",
            layers[place],
            time(each),
            retry.sum(),
            time(all),
            layers[outer],
            time(limit)
        );
        let severity = if begun == 1 && inner.is_some() { Error } else { Warning };
        view.find(severity, &[place, outer], text);
    }
}

/// Retries of attempts that nothing but the limit of the whole call ends.
pub(in super::super) fn attempt_may_hang(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(retries) {
        let Some((outer, limit)) = view.limit_around(place) else { continue };
        if view.inside(place).is_none() {
            let text = format!(
                "{}: no timeout stands around a single attempt: one that hangs takes all of the {} of {}, and is not repeated",
                layers[place],
                time(limit),
                layers[outer]
            );
            view.find(Note, &[place, outer], text);
        }
    }
}

/// Calls that are carried out twice where that does harm.
pub(in super::super) fn repeats_what_does_harm(view: &mut View<'_>) {
    let layers = view.layers();
    let (repeats, places) = (view.repeats(), view.places(|layer| retries(layer) || layer.at_once() > 1));
    for place in places {
        let layer = &layers[place];
        let times = layer.retries().saturating_add(layer.at_once());
        match repeats {
            Repeats::Safe => {}
            Repeats::All => {
                let text = format!(
                    "{layer} repeats every call: what writes may be carried out {times} times where an answer is late or \
                     lost; let it repeat only what is idempotent"
                );
                view.find(Warning, &[place], text);
            }
            // A hedge is not made without a policy that says which.
            Repeats::Untold if layer.is("retry") => {
                let text =
                    format!("{layer} sends a call up to {times} times: its settings do not tell which calls");
                view.find(Note, &[place], text);
            }
            Repeats::Untold => {}
        }
    }
}

/// Retries that nothing bounds when all calls fail.
pub(in super::super) fn without_a_budget(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| retries(layer) && layer.is_off("budget_ratio")) {
        let attempts = layers[place].retries().saturating_add(1);
        let text = format!(
            "{} has no budget: a backend that fails every call gets {attempts} times its load for as long as it fails",
            layers[place]
        );
        view.find(Warning, &[place], text);
    }
}

/// Retries of retries.
pub(in super::super) fn several_retries(view: &mut View<'_>) {
    let layers = view.layers();
    let places = view.places(retries);
    if places.len() < 2 {
        return;
    }
    let attempts: Vec<u64> = places.iter().map(|&place| layers[place].retries().saturating_add(1)).collect();
    let product = attempts.iter().fold(1, |product: u64, attempts| product.saturating_mul(*attempts));
    let names: Vec<String> = places.iter().map(|&place| layers[place].to_string()).collect();
    let factors: Vec<String> = attempts.iter().map(u64::to_string).collect();
    let text = format!(
        "{} stand inside of one another: a call that fails is sent {} = {product} times",
        names.join(" and "),
        factors.join(" x ")
    );
    let unbounded = places.iter().any(|&place| layers[place].is_off("budget_ratio"));
    view.find(if unbounded { Error } else { Warning }, &places, text);
}

/// A hedge whose delay is over when the call has ended.
pub(in super::super) fn hedge_never_begins(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.at_once() > 1) {
        let hedge = &layers[place];
        let least = || -> Option<Duration> {
            Some(
                hedge
                    .duration("delay_min")?
                    .min(hedge.duration("delay_until_measured").unwrap_or(Duration::MAX)),
            )
        };
        let Some(delay) = hedge.duration("delay").or_else(least) else { continue };
        let (around, inside) = (view.limit_around(place), view.inside(place));
        if let Some(inside) = inside.filter(|inside| delay >= *inside) {
            let text = format!(
                "{hedge} begins after {}, and an attempt takes {} at most: it never begins",
                time(delay),
                time(inside)
            );
            view.find(Error, &[place], text);
        } else if let Some((outer, limit)) = around.filter(|(_, limit)| delay >= *limit) {
            let text = format!(
                "{hedge} begins after {}, but {} ends the call after {}: it never begins",
                time(delay),
                layers[outer],
                time(limit)
            );
            view.find(Error, &[place, outer], text);
        }
    }
}
