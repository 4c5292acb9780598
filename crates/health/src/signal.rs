use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    Cause,
    hub::{Hub, Mood},
};

/// Tells how calls to a part end: made by [`Health::signal`](crate::Health::signal).
///
/// They are counted like results of the probe, in one row with them: with the default thresholds the third failure without a
/// success between makes the part down. The first failure has it probed soon. Does nothing once the last `Health` is gone.
#[derive(Clone)]
pub struct Signal {
    hub: Weak<Hub>,
    mood: Arc<Mood>,
    part: usize,
}

impl Signal {
    pub(crate) fn new(hub: &Arc<Hub>, part: usize) -> Self {
        Self { hub: Arc::downgrade(hub), mood: Arc::clone(&hub.slots[part].mood), part }
    }

    /// A call was answered. An atomic load while all is well.
    #[inline]
    pub fn succeeded(&self) {
        if !self.mood.is_calm() {
            self.tell(None);
        }
    }

    /// A call failed by the part's fault, for this cause. An atomic load while the part is down.
    #[inline]
    pub fn failed(&self, cause: impl fmt::Display) {
        if !self.mood.is_gloomy() {
            self.tell(Some(Cause::new(cause)));
        }
    }

    fn tell(&self, failed: Option<Cause>) {
        if let Some(hub) = self.hub.upgrade() {
            hub.signal(self.part, failed);
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("part", &self.part).finish_non_exhaustive()
    }
}
