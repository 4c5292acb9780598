//! Admission where a part of the calls is admitted: without the lock, by chance. (By turns, of two calls that always
//! follow each other the same one would always be refused.)

use buttress_core::thread_number;
use tokio::time::Instant;

use super::{Admission, Shared};
use crate::{
    knobs::to_nanos,
    published::{Published, Refusal, epoch_of, unpack},
    ramp::{Climb, Floor, WHOLE},
    state::{Changes, Part, Ticket, Verdict},
    sync::{Acquire, AtomicU64, Relaxed},
};

/// A part of the calls, as words.
#[derive(Debug, Default)]
pub(super) struct PartWords {
    since: AtomicU64,
    length: AtomicU64,
    /// Of a ramp the share that it begins with; else the share. In millionths.
    share: AtomicU64,
    /// See [`Floor`].
    floor: AtomicU64,
    /// The bucket of time in which somebody looked what the share is.
    looked: AtomicU64,
}

impl PartWords {
    pub(super) fn set(&self, part: Part, nanos: impl Fn(Instant) -> u64) {
        let (since, length, share) = match part {
            Part::Share(share) => (0, 0, share),
            Part::Growing { since, length, from } => (nanos(since), to_nanos(length), from),
        };
        self.since.store(since, Relaxed);
        self.length.store(length, Relaxed);
        self.share.store(share.into(), Relaxed);
    }

    fn share(&self) -> u32 {
        u32::try_from(self.share.load(Relaxed)).unwrap_or(WHOLE)
    }

    fn climb(&self) -> Climb {
        Climb { since: self.since.load(Relaxed), length: self.length.load(Relaxed), from: self.share() }
    }

    /// Whether a call is let through although it is not of the share.
    fn takes_of_the_floor(&self, tag: u64, most: u32) -> bool {
        let mut word = self.floor.load(Relaxed);
        while let Some(next) = Floor::take(word, tag, most) {
            match self.floor.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }
}

impl Shared {
    /// Admits or refuses a call where a part of them is admitted; `None` where that is over.
    #[cold]
    pub(super) fn admit_a_part(&self, now: Instant) -> Option<Admission> {
        let word = self.word.0.load(Acquire);
        let epoch = epoch_of(word).try_into().ok()?;
        let ticket = Ticket { epoch, probe: None };
        match unpack(word) {
            Published::Recovering => Some(self.admit_a_growing_part(ticket, now)),
            Published::Throttling => Some(self.admit_a_share(ticket, now)),
            _ => None,
        }
    }

    fn admit_a_growing_part(&self, ticket: Ticket, now: Instant) -> Admission {
        let nanos = self.nanos(now);
        let climb = self.part.climb();
        let Some(share) = climb.share(nanos) else {
            // The ramp is over. Who cannot tell the machine now leaves that to the next.
            return self.admit_by_machine(now, Ok(ticket));
        };
        let tag = ticket.epoch.get() << 8 | climb.part(nanos);
        let admitted = is_of(share) || self.part.takes_of_the_floor(tag, self.knobs.0.floor());
        (if admitted { Ok(ticket) } else { Err(Refusal::SOON) }, Changes::new())
    }

    fn admit_a_share(&self, ticket: Ticket, now: Instant) -> Admission {
        let ended = self.look_again(now);
        if !ended.is_empty() || is_of(self.part.share()) {
            return (Ok(ticket), ended);
        }
        // What is refused was asked for: it counts among the calls that the backend did not accept.
        let settled = self.settle(thread_number(), ticket, Verdict::Bad { slow: false }, || now);
        (Err(Refusal::SOON), settled)
    }

    /// Once in each bucket of time: calls may have become so few that nothing is counted any more. Tells when that ends it.
    fn look_again(&self, now: Instant) -> Changes {
        let (looked, bucket) = (self.part.looked.load(Relaxed), self.bucket(now));
        if looked == bucket || self.part.looked.compare_exchange(looked, bucket, Relaxed, Relaxed).is_err() {
            return Changes::new();
        }
        let Some(mut machine) = self.try_lock() else { return Changes::new() };
        let changes = self.catch_up(&mut machine, now);
        self.publish(&machine);
        changes
    }
}

/// Whether chance admits a call, where this share of them is admitted.
fn is_of(share: u32) -> bool {
    share >= WHOLE || fastrand::u32(..WHOLE) < share
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::PartWords;

    #[test]
    fn loom_the_floor_lets_as_many_through_as_it_should() {
        for most in [1, 2] {
            loom::model(move || {
                let part = Arc::new(PartWords::default());
                let others = [(); 2].map(|()| {
                    let part = Arc::clone(&part);
                    thread::spawn(move || part.takes_of_the_floor(7, most))
                });
                let own = part.takes_of_the_floor(7, most);
                let taken = others.map(|other| other.join().unwrap()).into_iter().chain([own]);
                assert_eq!(taken.filter(|taken| *taken).count(), most as usize);
            });
        }
    }
}
