use std::{
    array,
    hash::{BuildHasher, Hasher},
    ptr,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

// A model must not depend on chance.
#[cfg(buttress_loom)]
use foldhash::fast::FixedState as RandomState;
#[cfg(not(buttress_loom))]
use foldhash::fast::RandomState;

use crate::{
    Ended, Label, Operation, Piece, Sketch,
    recorder::Recorder,
    sketch::bucket,
    source::{End, Exemplar, Series},
    sync::{AtomicUsize, OnceLock, Relaxed},
    wall,
};

/// The operations of one layer and how their calls ended: a bounded table that is read without a lock and only grows.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) metric: &'static str,
    common: Vec<(&'static str, Label)>,
    /// Open addressing, at most half full.
    slots: Box<[OnceLock<Box<Calls>>]>,
    used: AtomicUsize,
    max: usize,
    hasher: RandomState,
    /// Those without any attribute.
    plain: Calls,
    /// Those for which there is no room.
    other: Calls,
}

/// The calls of one operation.
#[derive(Debug)]
pub(crate) struct Calls {
    /// For people.
    pub(crate) name: String,
    /// Those of the layer, then its own.
    pub(crate) attributes: Vec<(&'static str, Label)>,
    /// Where its own begin.
    own: usize,
    ends: [OnceLock<Box<Way>>; MAX_ENDS],
    /// Those for which there is no room.
    others: [OnceLock<Box<Way>>; End::ALL.len()],
}

/// One way in which calls of an operation ended.
#[derive(Debug)]
pub(crate) struct Way {
    end: End,
    status: Option<(&'static str, Label)>,
    error: Option<String>,
    pub(crate) attributes: Vec<(&'static str, Label)>,
    pub(crate) latencies: Recorder,
    exemplars: Mutex<Vec<Exemplar>>,
    since: SystemTime,
}

/// How many ways of ending an operation has, before the rest are counted together.
const MAX_ENDS: usize = 16;
/// A value that is longer is none that tells operations, or ways to end, apart.
const MAX_LENGTH: usize = 200;
/// Of one way.
const MAX_EXEMPLARS: usize = 4;
const OTHER: &str = "_OTHER";

impl Operations {
    pub(crate) fn new(metric: &'static str, common: Vec<(&'static str, Label)>, max: usize) -> Self {
        let plain = Calls::new(&common, &Operation::new());
        let other = Calls::other(&common);
        Self {
            metric,
            common,
            slots: (0..(2 * max).next_power_of_two()).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            max,
            hasher: RandomState::default(),
            plain,
            other,
        }
    }

    pub(crate) fn common(&self) -> &[(&'static str, Label)] {
        &self.common
    }

    /// That operation's calls. Allocates where it is seen for the first time.
    #[inline]
    pub(crate) fn find(&self, operation: &Operation<'_>) -> &Calls {
        if operation.attributes().is_empty() { &self.plain } else { self.look_up(operation) }
    }

    fn look_up(&self, operation: &Operation<'_>) -> &Calls {
        if operation.attributes().iter().any(|(_, piece)| is_too_long(*piece)) {
            return &self.other;
        }
        let (start, mask) = (self.hash(operation) as usize, self.slots.len() - 1);
        for step in 0..self.slots.len() {
            let slot = &self.slots[start.wrapping_add(step) & mask];
            let calls = match slot.get() {
                Some(calls) => calls,
                None if self.reserve() => {
                    let mut is_new = false;
                    let calls = slot.get_or_init(|| {
                        is_new = true;
                        Box::new(Calls::new(&self.common, operation))
                    });
                    if !is_new {
                        self.used.fetch_sub(1, Relaxed);
                    }
                    calls
                }
                None => return &self.other,
            };
            if calls.is(operation) {
                return calls;
            }
        }
        &self.other
    }

    /// Of the values alone: they tell operations of one convention apart.
    fn hash(&self, operation: &Operation<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (_, piece) in operation.attributes() {
            match piece {
                Piece::Text(text) => hasher.write(text.as_bytes()),
                Piece::Number(number) => hasher.write_i64(*number),
            }
        }
        hasher.finish()
    }

    fn reserve(&self) -> bool {
        self.used.fetch_update(Relaxed, Relaxed, |used| (used < self.max).then_some(used + 1)).is_ok()
    }

    /// Every way in which calls have ended, with the operation's name.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (&str, &Way)> {
        let seen = self.slots.iter().filter_map(OnceLock::get).map(|calls| &**calls);
        let all = [&self.plain].into_iter().chain(seen).chain([&self.other]);
        all.flat_map(|calls| calls.ways().map(|way| (&*calls.name, way)))
    }
}

impl Calls {
    #[cold]
    fn new(common: &[(&'static str, Label)], operation: &Operation<'_>) -> Self {
        let own = operation.attributes().iter().map(|(key, piece)| (*key, piece.to_label()));
        let words = operation.names().iter().map(|(_, piece)| match piece {
            Piece::Text(text) => (*text).to_owned(),
            Piece::Number(number) => number.to_string(),
        });
        Self {
            name: words.collect::<Vec<_>>().join(" "),
            attributes: common.iter().cloned().chain(own).collect(),
            own: common.len(),
            ends: array::from_fn(|_| OnceLock::new()),
            others: array::from_fn(|_| OnceLock::new()),
        }
    }

    fn other(common: &[(&'static str, Label)]) -> Self {
        Self {
            name: OTHER.into(),
            attributes: common.to_vec(),
            own: common.len(),
            ends: array::from_fn(|_| OnceLock::new()),
            others: array::from_fn(|_| OnceLock::new()),
        }
    }

    fn is(&self, operation: &Operation<'_>) -> bool {
        let (own, other) = (&self.attributes[self.own..], operation.attributes());
        own.len() == other.len()
            && own
                .iter()
                .zip(other)
                .all(|((key, label), (other, piece))| piece.is(label) && is_same_key(key, other))
    }

    /// Where a call is counted that ended like this. Allocates where it is the first.
    #[inline]
    pub(crate) fn way(&self, end: End, ended: &Ended<'_>) -> &Way {
        if ended.status.is_some_and(|(_, piece)| is_too_long(piece))
            || ended.error.is_some_and(|error| is_too_long(Piece::Text(error)))
        {
            return self.other_way(end, ended);
        }
        for slot in &self.ends {
            let way = slot.get_or_init(|| Box::new(Way::new(&self.attributes, end, ended)));
            if way.is(end, ended) {
                return way;
            }
        }
        self.other_way(end, ended)
    }

    #[cold]
    fn other_way(&self, end: End, ended: &Ended<'_>) -> &Way {
        self.others[end as usize].get_or_init(|| {
            let ended = Ended { status: None, error: ended.error.map(|_| OTHER), ..*ended };
            Box::new(Way::new(&self.attributes, end, &ended))
        })
    }

    fn ways(&self) -> impl Iterator<Item = &Way> {
        self.ends.iter().chain(&self.others).filter_map(OnceLock::get).map(|way| &**way)
    }
}

/// A convention names it by one and the same constant, most often.
#[inline]
fn is_same_key(key: &'static str, other: &'static str) -> bool {
    ptr::eq(key, other) || key == other
}

fn is_too_long(piece: Piece<'_>) -> bool {
    matches!(piece, Piece::Text(text) if text.len() > MAX_LENGTH)
}

impl Way {
    #[cold]
    fn new(attributes: &[(&'static str, Label)], end: End, ended: &Ended<'_>) -> Self {
        let status = ended.status.map(|(key, piece)| (key, piece.to_label()));
        let mut attributes = attributes.to_vec();
        attributes.extend(status.clone());
        // So the conventions want it where there is no better word.
        let error = ended.error.or(end.is_bad().then_some(OTHER));
        attributes.extend(error.map(|error| ("error.type", Label::Text(error.to_owned().into()))));
        attributes.push(("buttress.end", Label::Text(end.word().into())));
        Self {
            end,
            status,
            error: ended.error.map(str::to_owned),
            attributes,
            latencies: Recorder::new(),
            exemplars: Mutex::default(),
            since: wall::now(),
        }
    }

    #[inline]
    fn is(&self, end: End, ended: &Ended<'_>) -> bool {
        let same_status = match (&self.status, &ended.status) {
            (None, None) => true,
            (Some((key, label)), Some((other, piece))) => piece.is(label) && is_same_key(key, other),
            _ => false,
        };
        self.end == end && same_status && self.error.as_deref() == ended.error
    }

    pub(crate) const fn end(&self) -> End {
        self.end
    }

    /// As a series with these latencies, which are counted since then or since the first of them.
    pub(crate) fn series<'a>(
        &'a self,
        metric: &'static str,
        operation: &'a str,
        latencies: Sketch,
        since: SystemTime,
    ) -> Series<'a> {
        let mut exemplars = self.exemplars.lock().unwrap_or_else(PoisonError::into_inner).clone();
        exemplars.retain(|exemplar| exemplar.at >= since);
        Series {
            metric,
            attributes: &self.attributes,
            operation,
            end: self.end,
            error: self.error.as_deref(),
            latencies,
            exemplars,
            since: self.since.max(since),
        }
    }

    /// Keeps it in place of another of about that latency, unless they are being read at this moment.
    pub(crate) fn exemplify(&self, exemplar: Exemplar) {
        let Ok(mut kept) = self.exemplars.try_lock() else { return };
        let place = bucket((exemplar.seconds * 1e9) as u64).unwrap_or(0) / 8 % MAX_EXEMPLARS;
        match kept.get_mut(place) {
            Some(old) => *old = exemplar,
            None => kept.push(exemplar),
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn exemplar(millis: u32) -> Exemplar {
        let seconds = f64::from(millis) / 1e3;
        Exemplar { seconds, at: wall::now(), trace_id: [1; 16], span_id: [2; 8] }
    }

    #[test]
    fn exemplars_are_few_the_latest_and_of_all_lengths_and_nobody_waits_to_leave_one() {
        let operations = Operations::new("test.duration", Vec::new(), 1);
        let way = operations.find(&Operation::new()).way(End::Success, &Ended::new());
        for millis in 1..=10_000 {
            way.exemplify(exemplar(millis));
        }
        let kept = || way.series("", "", Sketch::default(), UNIX_EPOCH).exemplars;
        let seconds: Vec<_> = kept().iter().map(|exemplar| exemplar.seconds).collect();
        assert_eq!(seconds.len(), MAX_EXEMPLARS);
        assert!(seconds.contains(&10.0), "the latest: {seconds:?}");
        assert!(seconds.iter().any(|seconds| *seconds < 8.0), "not all of the latest' length: {seconds:?}");

        let read = way.exemplars.lock().unwrap();
        way.exemplify(exemplar(20_000)); // on this thread: it would wait for ever
        drop(read);
        assert!(kept().iter().all(|exemplar| exemplar.seconds <= 10.0));

        // Those of a layer before this one.
        let later = wall::now() + Duration::from_secs(1);
        let series = way.series("", "", Sketch::default(), later);
        assert!(series.exemplars.is_empty() && series.since == later);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use loom::{sync::Arc, thread};

    use super::*;

    /// One place, and three threads that each bring an operation, two of them the same.
    #[test]
    fn loom_never_more_operations_than_there_is_room_for_and_no_call_without_a_place() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(3));
        static KEPT: AtomicU64 = AtomicU64::new(0);
        builder.check(|| {
            let operations = Arc::new(Operations::new("test.duration", Vec::new(), 1));
            // loom runs all its threads on one of the system's, which would be one that writes alone.
            let of = |number: usize, word: &'static str| {
                let operations = Arc::clone(&operations);
                thread::spawn(move || {
                    let calls = operations.find(&Operation::new().named("word", word));
                    assert!(calls.name == word || calls.name == OTHER, "{}", calls.name);
                    calls.way(End::Success, &Ended::new()).latencies.record_by(number, 1);
                })
            };
            let threads = [of(0, "a"), of(1, "b"), of(2, "a")];
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let taken = operations.slots.iter().filter_map(OnceLock::get).count();
            assert!(taken <= 1 && operations.used.load(Relaxed) == taken, "{taken}");
            assert_eq!(operations.ways().map(|(_, way)| way.latencies.count()).sum::<u64>(), 3);
            KEPT.fetch_add(taken as u64, SeqCst);
        });
        assert!(KEPT.load(SeqCst) > 0, "one of them has had its place");
    }
}
