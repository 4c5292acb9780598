use super::super::{
    Severity::{Error, Note, Warning},
    view::View,
    worst::time,
};

/// A limit that is no shorter than one around it.
pub(in super::super) fn inner_limit_ends_nothing(view: &mut View<'_>) {
    let layers = view.layers();
    for inner in view.places(|layer| layer.limit().is_some()) {
        let Some((outer, limit)) = view.limit_around(inner) else { continue };
        let Some(own) = layers[inner].limit().filter(|own| *own >= limit) else { continue };
        // The client of an API has its limit by default, the same as others have.
        if own == limit && layers[outer].is("api-client") {
            continue;
        }
        let between = &layers[outer + 1..inner];
        // What they load or send is not given up with the caller who asked for it.
        let is_apart = between.iter().any(|layer| {
            layer.is("batch") || layer.is_cache() && layer.duration("stale_while_revalidate").is_some()
        });
        let (own, limit) = (time(own), time(limit));
        let [inner_name, outer_name] = [inner, outer].map(|place| &layers[place]);
        let text = if is_apart {
            format!(
                "{inner_name} of {own} is inside of {outer_name} of {limit}: it ends only what outlives its caller"
            )
        } else {
            format!("{inner_name} of {own} is inside of {outer_name} of {limit}: it never ends a call")
        };
        view.find(if is_apart { Note } else { Error }, &[inner, outer], text);
    }
}

/// No limit anywhere.
pub(in super::super) fn nothing_ends_a_call(view: &mut View<'_>) {
    if view.worst(0).longest.is_some() {
        return;
    }
    let layers = view.layers();
    if let Some(client) = view.places(|layer| layer.is_client()).pop() {
        let name = &layers[client];
        let text = format!(
            "no timeout stands around {name}: a call that hangs ends with its caller's deadline, or never"
        );
        view.find(Warning, &[client], text);
        return;
    }
    let holds = |kind: &str| ["bulkhead", "retry", "hedge", "circuit-breaker"].contains(&kind);
    if let Some(&first) = view.places(|layer| holds(layer.kind())).first() {
        let text =
            "it has no timeout: a call that hangs ends with its caller's deadline, or never".to_owned();
        view.find(Note, &[first], text);
    }
}

/// A client's own limits, where those around it end a call sooner.
pub(in super::super) fn adapter_limit_above(view: &mut View<'_>) {
    let layers = view.layers();
    for client in view.places(|layer| layer.is_client()) {
        let Some((outer, limit)) = view.limit_around(client) else { continue };
        for knob in ["wait_timeout", "command_timeout", "first_byte_timeout", "read_timeout"] {
            if let Some(own) = layers[client].duration(knob).filter(|own| *own > limit) {
                let text = format!(
                    "{}: its {knob} of {} is more than {} of {}, which ends the call first",
                    layers[client],
                    time(own),
                    layers[outer],
                    time(limit)
                );
                view.find(Note, &[client, outer], text);
            }
        }
    }
}

/// A threshold for slow calls that none can reach.
pub(in super::super) fn slow_is_never_seen(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("telemetry")) {
        let (Some(slow), Some(longest)) = (layers[place].duration("slow_after"), view.worst(place).longest)
        else {
            continue;
        };
        if slow > longest {
            let text = format!(
                "{} calls slow what takes {}, and no call takes more than {}: none is ever slow",
                layers[place],
                time(slow),
                time(longest)
            );
            view.find(Note, &[place], text);
        }
    }
    for place in view.places(|layer| layer.is("circuit-breaker") && layer.ratio("slow_rate").is_some()) {
        let (Some(slow), Some(longest)) = (layers[place].duration("slow_call"), view.inside(place)) else {
            continue;
        };
        if slow > longest {
            let text = format!(
                "{} counts as slow what takes {}, and a call inside of it takes {} at most: its slow_rate never opens it",
                layers[place],
                time(slow),
                time(longest)
            );
            view.find(Warning, &[place], text);
        }
    }
}

/// A breaker whose calls are dropped by a limit around it before they count.
pub(in super::super) fn hangs_are_not_counted(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("circuit-breaker")) {
        let Some((outer, limit)) = view.limit_around(place) else { continue };
        if view.inside(place).is_some_and(|inside| inside < limit) {
            continue;
        }
        let [breaker, timeout] = [place, outer].map(|place| &layers[place]);
        let end = format!("{timeout} around it drops what hangs after {}", time(limit));
        if breaker.is_word("ignore_dropped", "yes") {
            let text =
                format!("{breaker} ignores what is dropped, and {end}: it does not see that a backend hangs");
            view.find(Note, &[place, outer], text);
        } else if let Some(slow) = breaker.duration("slow_call").filter(|slow| *slow > limit) {
            let text = format!(
                "{breaker} counts what is dropped from its slow_call of {} on, and {end}: it does not see that a backend \
                 hangs",
                time(slow)
            );
            view.find(Warning, &[place, outer], text);
        }
    }
}

/// A breaker that tries again while calls from before it opened are on their way.
pub(in super::super) fn breaker_probes_early(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("circuit-breaker")) {
        let (Some(open), Some(longest)) = (layers[place].duration("open_for"), view.inside(place)) else {
            continue;
        };
        if open < longest {
            let text = format!(
                "{} is open for {}, and a call inside of it takes up to {}: it probes before all of the old ones have ended",
                layers[place],
                time(open),
                time(longest)
            );
            view.find(Note, &[place], text);
        }
    }
}
