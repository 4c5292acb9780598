use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

/// What a part's settings are called, in the order in which they are told.
pub(crate) type Knobs = [&'static str; 6];

const KNOBS: Knobs = ["critical", "liveness", "interval", "timeout", "thresholds_down", "thresholds_up"];

/// Kept for the life of the process, as the names of parts are: once each, however often a part of that name is made.
static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// Of the part of that name: `db.interval`.
pub(crate) fn knobs_of(part: &str) -> Knobs {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    KNOBS.map(|knob| {
        let name = format!("{part}.{knob}");
        if let Some(known) = names.get(&*name) {
            return *known;
        }
        let name: &'static str = Box::leak(name.into());
        names.insert(name);
        name
    })
}
