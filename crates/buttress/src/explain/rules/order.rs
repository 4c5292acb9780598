use super::super::{
    Severity::{Note, Warning},
    view::View,
};

/// Telemetry that does not see what the layers around it do.
pub(in super::super) fn telemetry_is_inside(view: &mut View<'_>) {
    let layers = view.layers();
    let Some(&first) = view.places(|layer| layer.is("telemetry")).first() else { return };
    // The client of an API is the caller.
    let known = [
        "timeout",
        "rate-limit",
        "retry",
        "hedge",
        "circuit-breaker",
        "bulkhead",
        "cache",
        "http-cache",
        "batch",
    ];
    let outside = layers[..first].iter().position(|layer| known.contains(&layer.kind()));
    if let Some(outside) = outside {
        let text = format!(
            "{} stands inside of {}: what that refuses, answers or adds by itself is not measured",
            layers[first], layers[outside]
        );
        view.find(Note, &[first, outside], text);
    }
}

/// Layers that are for what the cache does not have, around the cache.
pub(in super::super) fn cache_is_inside(view: &mut View<'_>) {
    let layers = view.layers();
    for outer in 0..layers.len() {
        let Some(cache) = view.first_inside(outer, super::super::Layer::is_cache) else { return };
        let (name, inner) = (&layers[outer], &layers[cache]);
        let (severity, why) = match name.kind() {
            "retry" if name.retries() > 0 => {
                let attempts = name.retries().saturating_add(1);
                let why = format!(
                    "all who wait for one load that fails ask again, each up to {attempts} times; around the retry, the cache \
                     lets one of them do it for all"
                );
                (Warning, why)
            }
            "circuit-breaker" => {
                let why = "while it is open it refuses what the cache has, and hits count as good calls of the backend";
                (Warning, why.to_owned())
            }
            "hedge" if name.at_once() > 1 => {
                (Warning, "the second attempt joins the load of the first, and waits with it".to_owned())
            }
            "rate-limit" => (Note, "hits use its units up".to_owned()),
            _ => continue,
        };
        view.find(severity, &[outer, cache], format!("{name} stands outside of {inner}: {why}"));
    }
}

/// A breaker that hears of a call when all of its attempts have failed.
pub(in super::super) fn breaker_sees_calls(view: &mut View<'_>) {
    let layers = view.layers();
    let is_breaker = |layer: &super::super::Layer| layer.is("circuit-breaker");
    for place in view.places(is_breaker) {
        let Some(inner) = view.first_inside(place, |layer| layer.retries() > 0) else { continue };
        if view.first_inside(inner, is_breaker).is_some() {
            continue;
        }
        let (breaker, retry) = (&layers[place], &layers[inner]);
        let attempts = retry.retries().saturating_add(1);
        let counted = match breaker.count("consecutive") {
            Some(calls) => format!(
                "{calls} failures in a row open it, which are up to {calls} x {attempts} = {} attempts",
                calls.saturating_mul(attempts)
            ),
            None => format!("a failure that it counts is up to {attempts} attempts"),
        };
        let text = format!("{breaker} stands outside of {retry}: it sees calls, not attempts; {counted}");
        view.find(Warning, &[place, inner], text);
    }
}

/// A breaker for which a failed batch is many failures.
pub(in super::super) fn breaker_before_batch(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("circuit-breaker")) {
        let Some(inner) = view.first_inside(place, |layer| layer.is("batch")) else { continue };
        let (breaker, batch) = (&layers[place], &layers[inner]);
        let (Some(calls), Some(size)) = (breaker.count("consecutive"), batch.count("max_size")) else {
            continue;
        };
        if calls > 1 && calls <= size {
            let text = format!(
                "{breaker} stands outside of {batch}: one batch of up to {size} that fails is as many failures, and {calls} in \
                 a row open it; inside, a batch is one"
            );
            view.find(Warning, &[place, inner], text);
        }
    }
}
