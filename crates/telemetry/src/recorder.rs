use std::{array, fmt};

use buttress_core::{thread_number, thread_stripes};

use crate::{
    sketch::{BUCKETS, Sketch, bucket},
    sync::{AtomicU64, OnceLock, Relaxed},
};

/// Latencies that many threads record at once, in the buckets of a [`Sketch`].
///
/// Each of the first threads has a stripe of its own, which it alone writes: adding is a load and a store. All others share
/// the last one. A stripe has memory only for the parts of the range that were used: about 700 bytes where they lie close
/// together, 5 kB for all of it.
pub(crate) struct Recorder(Box<[OnceLock<Box<Stripe>>]>);

struct Stripe {
    zeros: AtomicU64,
    nanos: AtomicU64,
    max: AtomicU64,
    chunks: [OnceLock<Box<[AtomicU64; CHUNK]>>; CHUNKS],
}

/// Four doublings: from 1 ms to 16 ms, for one.
const CHUNK: usize = 64;
const CHUNKS: usize = BUCKETS.div_ceil(CHUNK);

impl Recorder {
    pub(crate) fn new() -> Self {
        Self::of(thread_stripes())
    }

    fn of(stripes: usize) -> Self {
        Self((0..stripes).map(|_| OnceLock::new()).collect())
    }

    /// Counts one call that took so long.
    #[inline]
    pub(crate) fn record(&self, nanos: u64) {
        self.record_by(thread_number(), nanos);
    }

    #[inline]
    pub(crate) fn record_by(&self, thread: usize, nanos: u64) {
        let shared = self.0.len() - 1;
        let stripe = self.0[thread.min(shared)].get_or_init(Stripe::new);
        let writer = Writer { is_alone: thread < shared };
        let count = match bucket(nanos) {
            Some(bucket) => &stripe.chunk(bucket / CHUNK)[bucket % CHUNK],
            None => &stripe.zeros,
        };
        writer.add(count, 1);
        writer.add(&stripe.nanos, nanos);
        if nanos > stripe.max.load(Relaxed) {
            stripe.max.fetch_max(nanos, Relaxed);
        }
    }

    /// All that was recorded. A call that is being recorded meanwhile may be counted in part.
    pub(crate) fn sketch(&self) -> Sketch {
        let mut sketch = Sketch::default();
        self.add_to(&mut sketch);
        sketch
    }

    /// Adds all that was recorded. It allocates at most once for one sketch, however many are added to it.
    pub(crate) fn add_to(&self, sketch: &mut Sketch) {
        for stripe in self.stripes() {
            let load = |count: &AtomicU64| count.load(Relaxed);
            sketch.add(load(&stripe.zeros), load(&stripe.nanos), load(&stripe.max));
            for (number, chunk) in stripe.chunks.iter().enumerate() {
                let Some(chunk) = chunk.get() else { continue };
                sketch.add_buckets(number * CHUNK, chunk.iter().map(load));
            }
        }
    }

    /// How many calls.
    pub(crate) fn count(&self) -> u64 {
        let of = |stripe: &Stripe| {
            let chunks = stripe.chunks.iter().filter_map(OnceLock::get);
            let counts = chunks.flat_map(|chunk| chunk.iter()).map(|count| count.load(Relaxed));
            stripe.zeros.load(Relaxed) + counts.sum::<u64>()
        };
        self.stripes().map(of).sum()
    }

    fn stripes(&self) -> impl Iterator<Item = &Stripe> {
        self.0.iter().filter_map(OnceLock::get).map(|stripe| &**stripe)
    }
}

impl Stripe {
    #[cold]
    fn new() -> Box<Self> {
        Box::new(Self {
            zeros: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            max: AtomicU64::new(0),
            chunks: array::from_fn(|_| OnceLock::new()),
        })
    }

    #[inline]
    fn chunk(&self, number: usize) -> &[AtomicU64; CHUNK] {
        self.chunks[number].get_or_init(|| Box::new(array::from_fn(|_| AtomicU64::new(0))))
    }
}

/// A thread that writes to a stripe.
#[derive(Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) is_alone: bool,
}

impl Writer {
    /// Adds, and says what it comes to.
    #[inline]
    pub(crate) fn add(self, count: &AtomicU64, more: u64) -> u64 {
        if self.is_alone {
            let sum = count.load(Relaxed).wrapping_add(more);
            count.store(sum, Relaxed);
            sum
        } else {
            count.fetch_add(more, Relaxed).wrapping_add(more)
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("count", &self.count()).finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn it_is_what_a_plain_sketch_is() {
        let (recorder, mut sketch) = (Recorder::new(), Sketch::default());
        let mut nanos = 1_u64;
        while nanos < 1_000_000_000_000 {
            recorder.record(nanos);
            sketch.record(Duration::from_nanos(nanos));
            nanos = nanos * 5 / 4 + 1;
        }
        assert_eq!(recorder.sketch(), sketch);
        assert_eq!(recorder.count(), sketch.count());
    }

    #[test]
    fn no_call_is_lost_on_any_number_of_threads() {
        let (recorder, threads) = (Recorder::new(), 2 * thread_stripes() as u64);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..1000).for_each(|at| recorder.record(at * 1000)));
            }
        });
        let sketch = recorder.sketch();
        assert_eq!(sketch.count(), threads * 1000);
        assert_eq!(sketch.max(), Duration::from_nanos(999_000));
    }

    #[test]
    fn one_thread_in_a_narrow_range_takes_about_a_kilobyte() {
        _ = thread_stripes();
        let taken = buttress_testkit::allocations(|| {
            let recorder = Recorder::new();
            for nanos in 1_000_000..1_002_000 {
                recorder.record(nanos);
            }
        });
        let places = (thread_stripes() * size_of::<OnceLock<Box<Stripe>>>()) as u64;
        assert!(taken.bytes - places < 700, "{taken:?}");
        assert!(taken.bytes < 2048, "{taken:?}");
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::*;

    /// One thread that has a stripe of its own, and two that share the last one.
    #[test]
    fn loom_no_call_is_lost_and_none_is_counted_before_it_is_recorded() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(2));
        builder.check(|| {
            let recorder = Arc::new(Recorder::of(2));
            let of = |thread: usize, nanos: u64| {
                let recorder = Arc::clone(&recorder);
                thread::spawn(move || {
                    recorder.record_by(thread, nanos);
                    recorder.record_by(thread, nanos);
                })
            };
            let threads = [of(0, 10), of(1, 20), of(2, 30)];
            let (early, late) = (recorder.count(), recorder.count());
            assert!(early <= late && late <= 6, "{early} and {late}");
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let sketch = recorder.sketch();
            assert_eq!((recorder.count(), sketch.count()), (6, 6));
            assert_eq!((sketch.sum() * 1e9).round(), 120.0);
            assert_eq!(sketch.max(), std::time::Duration::from_nanos(30));
        });
    }
}
