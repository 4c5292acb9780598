use super::super::{
    Severity::{Error, Note, Warning},
    view::View,
    worst::{Retry, time},
};

/// A queue in which a call may wait until there is no time left for it.
pub(in super::super) fn wait_above_the_limit(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("bulkhead") || layer.is("rate-limit")) {
        let Some((outer, limit)) = view.limit_around(place) else { continue };
        let Some(wait) = layers[place].wait().filter(|wait| *wait >= limit) else { continue };
        let [queue, timeout] = [place, outer].map(|place| &layers[place]);
        let (wait, limit) = (time(wait), time(limit));
        if queue.is("bulkhead") {
            let text = format!(
                "{queue} lets a call wait for {wait}, but {timeout} ends it after {limit}: that wait is never over first"
            );
            view.find(Error, &[place, outer], text);
        } else {
            let text = format!(
                "{queue} lets a call wait for {wait}, but {timeout} ends it after {limit}: what would wait longer is refused \
                 at once, and what waits nearly so long has no time left"
            );
            view.find(Warning, &[place, outer], text);
        }
    }
}

/// A batch that waits for more requests for longer than its callers wait for it.
pub(in super::super) fn linger_above_the_limit(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("batch")) {
        let Some((outer, limit)) = view.limit_around(place) else { continue };
        let Some(linger) = layers[place].wait().filter(|linger| *linger > limit / 2) else { continue };
        let severity = if linger >= limit { Error } else { Warning };
        let text = format!(
            "{} lingers for {}, which is more than half of the {} of {}: a batch never lingers for such a caller, but goes at \
             once",
            layers[place],
            time(linger),
            time(limit),
            layers[outer]
        );
        view.find(severity, &[place, outer], text);
    }
}

/// Permits of calls that only wait.
pub(in super::super) fn permit_is_held_between_attempts(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("bulkhead")) {
        let Some(inner) = view.first_inside(place, |layer| layer.retries() > 0) else { continue };
        let retry = Retry::of(&layers[inner]);
        let waits = retry.waits(retry.attempts() - 1);
        if !waits.is_zero() {
            let text = format!(
                "{} stands outside of {}: a call keeps its permit while it waits, up to {} in all",
                layers[place],
                layers[inner],
                time(waits)
            );
            view.find(Note, &[place, inner], text);
        }
    }
}
