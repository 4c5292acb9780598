use std::ops::Range;

use buttress_core::Reason;

use crate::{
    carry::{Members, Places},
    gather::Taken,
    outcome::Outcome,
    rules::CloneResult,
    shared::Shared,
};

/// The callers of a batch. Dropped before all are settled, be it by a panic, the others learn that their batch failed.
pub(crate) struct Flight<'a, Req, Res, E> {
    shared: &'a Shared<Req, Res, E>,
    number: u32,
    pub(crate) taken: Taken<Req>,
    /// Where several share a request: at which of `taken.keys`, which stand in the order of places, those of a place begin.
    starts: Vec<u32>,
    clone: Option<CloneResult<Res, E>>,
    sent: bool,
    over: bool,
}

const SETTLED: u32 = u32::MAX;

impl<'a, Req, Res, E> Flight<'a, Req, Res, E> {
    pub(crate) const fn new(shared: &'a Shared<Req, Res, E>, number: u32) -> Self {
        let taken = Taken::new();
        Self { shared, number, taken, starts: Vec::new(), clone: None, sent: false, over: false }
    }

    /// Each caller's request is at one of these places.
    pub(crate) fn share(&mut self, places: Vec<u32>, clone: CloneResult<Res, E>) {
        let mut members: Vec<(u32, u32)> = places.into_iter().zip(self.taken.keys.drain(..)).collect();
        members.sort_by_key(|(place, _)| *place);
        for (at, (place, key)) in members.into_iter().enumerate() {
            if place as usize == self.starts.len() {
                self.starts.push(at as u32);
            }
            self.taken.keys.push(key);
        }
        self.clone = Some(clone);
    }

    /// Nobody waits for it any more: whoever is not settled has gone.
    pub(crate) const fn end(&mut self) {
        self.over = true;
    }

    /// Which of `taken.keys` want the request at this place.
    fn range(&self, place: usize) -> Range<usize> {
        if self.clone.is_none() {
            return place..place + 1;
        }
        let end = self.starts.get(place + 1).map_or(self.taken.keys.len(), |start| *start as usize);
        self.starts[place] as usize..end
    }

    fn keys(&self, place: usize) -> &[u32] {
        &self.taken.keys[self.range(place)]
    }
}

impl<Req, Res, E> Members<Res, E> for Flight<'_, Req, Res, E> {
    fn is_wanted(&mut self, place: usize) -> bool {
        self.keys(place).iter().any(|key| self.shared.is_wanted(*key))
    }

    fn sent(&mut self) {
        self.sent = true;
    }

    fn settle(&mut self, places: Places<'_>, outcomes: Vec<Outcome<Res, E>>) {
        let number = self.number;
        let Some(clone) = self.clone else {
            let keys = (0..places.len()).map(|at| places.at(at));
            let keys = keys.map(|place| std::mem::replace(&mut self.taken.keys[place], SETTLED));
            self.shared.lay(number, keys.zip(outcomes));
            return;
        };
        // All are cloned before any is settled: who clones may panic.
        let mut settled = Vec::with_capacity(outcomes.len());
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let Some((last, others)) = self.keys(places.at(at)).split_last() else { continue };
            for key in others {
                let copy = match &outcome {
                    Outcome::Answer(result) => Outcome::Answer(clone(result)),
                    Outcome::Rejected(rejected) => Outcome::Rejected(*rejected),
                };
                settled.push((*key, copy));
            }
            settled.push((*last, outcome));
        }
        for at in 0..places.len() {
            let keys = self.range(places.at(at));
            self.taken.keys[keys].fill(SETTLED);
        }
        self.shared.lay(number, settled);
    }
}

impl<Req, Res, E> Drop for Flight<'_, Req, Res, E> {
    fn drop(&mut self) {
        let left: Vec<u32> = self.taken.keys.iter().copied().filter(|key| *key != SETTLED).collect();
        if left.is_empty() {
            return;
        }
        if !self.over {
            self.shared.count_failed(0, true);
        }
        let sent = self.sent;
        let rejected = |key| {
            let rejected = self.shared.reject(Reason::BatchFailed);
            (key, Outcome::Rejected(if sent { rejected.after_sending() } else { rejected }))
        };
        self.shared.lay(self.number, left.into_iter().map(rejected));
    }
}
