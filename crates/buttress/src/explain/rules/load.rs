use super::super::{
    Severity::{Note, Warning},
    view::View,
    worst::time,
};

/// The client that a call of the layer at that place ends in, its connections, and how many of them one call takes. None
/// where a layer between decides that.
fn pool_inside(view: &View<'_>, place: usize) -> Option<(usize, u64, u64)> {
    let layers = view.layers();
    let client = view.first_inside(place, |layer| layer.connections().is_some())?;
    let between = &layers[place + 1..client];
    if between.iter().any(|layer| ["batch", "balance", "bulkhead"].contains(&layer.kind())) {
        return None;
    }
    let each = between.iter().fold(1, |each: u64, layer| each.saturating_mul(layer.at_once()));
    Some((client, layers[client].connections()?, each))
}

/// A bulkhead that lets more in than the pool behind it can carry.
pub(in super::super) fn bulkhead_above_the_pool(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("bulkhead")) {
        let Some((client, connections, each)) = pool_inside(view, place) else { continue };
        let Some(limit) = layers[place].count("limit") else { continue };
        let needed = limit.saturating_mul(each);
        if needed > connections {
            let calls =
                if each > 1 { format!("{limit} x {each} attempts") } else { format!("{limit} calls") };
            let pool = match (layers[client].count("pool_size"), layers[client].count("max_overflow")) {
                (Some(size), Some(more)) if more > 0 => {
                    format!("{size} + {more} = {connections} connections")
                }
                _ => format!("{connections} connections"),
            };
            let text = format!(
                "{} lets {calls} in, and {} has {pool}: {} of them wait inside for a connection, with a permit",
                layers[place],
                layers[client],
                needed - connections
            );
            view.find(Warning, &[place, client], text);
        }
    }
}

/// A rate at which the pool is too small where every call takes as long as it may.
pub(in super::super) fn rate_above_the_pool(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("rate-limit")) {
        let Some((client, connections, each)) = pool_inside(view, place) else { continue };
        let (Some(units), Some(per)) = (layers[place].count("limit"), layers[place].duration("per")) else {
            continue;
        };
        let Some(longest) = view.inside(place).or_else(|| view.limit_around(place).map(|(_, limit)| limit))
        else {
            continue;
        };
        // Little's law: what is in flight is the rate times how long each takes.
        #[expect(clippy::cast_precision_loss, reason = "it is shown")]
        let (units_a_second, connections_as) =
            (units as f64 / per.as_secs_f64() * each as f64, connections as f64);
        let needed = units_a_second * longest.as_secs_f64();
        if needed > connections_as && needed.is_finite() {
            let enough =
                std::time::Duration::try_from_secs_f64(connections_as / units_a_second).unwrap_or_default();
            let text = format!(
                "{} lets {units} calls in {} through, and {} has {connections} connections: enough while a call takes {} on \
                 average, and it may take {}",
                layers[place],
                time(per),
                layers[client],
                time(enough),
                time(longest)
            );
            view.find(Note, &[place, client], text);
        }
    }
}

/// Batches that never fill up, since their requests are not let in.
pub(in super::super) fn bulkhead_below_the_batch(view: &mut View<'_>) {
    let layers = view.layers();
    for place in view.places(|layer| layer.is("bulkhead")) {
        let Some(batch) = view.first_inside(place, |layer| layer.is("batch")) else { continue };
        let limits = (layers[place].count("limit"), layers[batch].count("max_size"), layers[batch].wait());
        let (Some(limit), Some(size), Some(linger)) = limits else { continue };
        if limit < size {
            let text = format!(
                "{} lets {limit} calls in, fewer than the {size} of a full batch of {}: every batch lingers all of {}",
                layers[place],
                layers[batch],
                time(linger)
            );
            view.find(Note, &[place, batch], text);
        }
    }
}
