use std::time::Duration;

use crate::{
    breaker::Machine,
    cell::Gathered,
    sync::{AtomicBool, AtomicU32, AtomicU64, Relaxed, Release},
    window::Buckets,
};

/// What every call asks of the settings, as words that can be read while the machine is locked. They are written before
/// the word is published with which the calls that go by them are admitted.
#[derive(Debug)]
pub(crate) struct Knobs {
    /// The length of a bucket, two to this power of nanoseconds; `NO_BUCKETS` where nobody wants them.
    shift: AtomicU32,
    /// How many calls are let through in each part of a ramp, whatever the share.
    floor: AtomicU32,
    room: AtomicU64,
    slow_nanos: AtomicU64,
    longest_hint_nanos: AtomicU64,
    times_calls: AtomicBool,
    counts_dropped: AtomicBool,
    obeys_throttling: AtomicBool,
}

/// 584 years fit.
#[inline]
pub(crate) const fn to_nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
}

const NO_BUCKETS: u32 = u32::MAX;

impl Knobs {
    pub(crate) fn of(machine: &Machine) -> Self {
        let knobs = Self {
            shift: AtomicU32::new(NO_BUCKETS),
            floor: AtomicU32::default(),
            room: AtomicU64::default(),
            slow_nanos: AtomicU64::default(),
            longest_hint_nanos: AtomicU64::default(),
            times_calls: AtomicBool::default(),
            counts_dropped: AtomicBool::default(),
            obeys_throttling: AtomicBool::default(),
        };
        knobs.set(machine);
        knobs
    }

    pub(crate) fn set(&self, machine: &Machine) {
        let settings = machine.settings();
        self.shift.store(machine.buckets().map_or(NO_BUCKETS, Buckets::shift), Relaxed);
        self.floor.store(settings.probes.permitted, Relaxed);
        self.slow_nanos.store(to_nanos(settings.slow_call), Relaxed);
        self.longest_hint_nanos.store(to_nanos(settings.longest_hint()), Relaxed);
        self.times_calls.store(machine.times_calls(), Relaxed);
        self.counts_dropped.store(settings.count_dropped, Relaxed);
        self.obeys_throttling.store(settings.obey_throttling, Relaxed);
        self.set_room(machine);
    }

    /// The one that depends on more than the settings.
    pub(crate) fn set_room(&self, machine: &Machine) {
        let room = machine.room(Gathered::MOST_CLEAN);
        if self.room.load(Relaxed) != room {
            self.room.store(room, Release);
        }
    }

    /// The bucket of a time, where somebody wants buckets.
    #[inline]
    pub(crate) fn bucket(&self, nanos: u64) -> Option<u64> {
        nanos.checked_shr(self.shift.load(Relaxed))
    }

    #[inline]
    pub(crate) fn has_buckets(&self) -> bool {
        self.shift.load(Relaxed) != NO_BUCKETS
    }

    /// How many good calls a cell gathers before they are counted.
    #[inline]
    pub(crate) fn room(&self) -> u64 {
        self.room.load(Relaxed)
    }

    pub(crate) fn floor(&self) -> u32 {
        self.floor.load(Relaxed)
    }

    #[inline]
    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        to_nanos(took) >= self.slow_nanos.load(Relaxed)
    }

    pub(crate) fn longest_hint_nanos(&self) -> u64 {
        self.longest_hint_nanos.load(Relaxed)
    }

    /// Whether a call's duration is wanted whatever becomes of it.
    #[inline]
    pub(crate) fn times_calls(&self) -> bool {
        self.times_calls.load(Relaxed)
    }

    pub(crate) fn counts_dropped(&self) -> bool {
        self.counts_dropped.load(Relaxed)
    }

    pub(crate) fn obeys_throttling(&self) -> bool {
        self.obeys_throttling.load(Relaxed)
    }
}
