use std::{
    hint, io,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, Scope},
    time::Duration,
};

use tokio::{runtime::Runtime, time::Instant};

use crate::{
    body::{Body, runtime},
    clean::{Clean, Plan},
    one_thread::calls_in,
    switches,
};

const SLICE: Duration = Duration::from_millis(4);
/// How long a thread goes on without looking at the clock: short enough for both to stop together even if the second
/// thread makes every call a hundred times slower.
const CHUNK: Duration = Duration::from_micros(4);
/// The part of the slices' time that both threads must have spent together.
const OVERLAP: f64 = 0.9;

/// Throughput of two threads over that of one, which is measured right before. Each has a runtime of its own; they
/// share what the body's clones share. `None` where the body has no second handle.
pub(crate) fn scale(row: &mut dyn Body, runtime: &Runtime, plan: Plan) -> io::Result<Option<Clean<f64>>> {
    let Some(twin) = row.fork() else { return Ok(None) };
    let chunk = calls_in(row, runtime, CHUNK);
    let gate = Gate::default();
    thread::scope(|scope| {
        let second = Second::start(scope, twin, chunk, &gate);
        Clean::collect(plan, || {
            thread::yield_now();
            let alone = Slice::take(row, runtime, chunk)?;
            second.go()?;
            gate.pass();
            let mine = Slice::take(row, runtime, chunk)?;
            let theirs = second.slice()?;
            let undisturbed = [&alone, &mine, &theirs].iter().all(|slice| slice.clean);
            let together = undisturbed && mine.overlap(&theirs) >= OVERLAP;
            Ok(together.then(|| (mine.calls_a_nano() + theirs.calls_a_nano()) / alone.calls_a_nano()))
        })
        .map(Some)
    })
}

/// The second thread. It sleeps until it is told to go, so that it does not disturb the first one's lone slice, and
/// ends when this handle is dropped.
struct Second {
    go: mpsc::Sender<()>,
    slices: mpsc::Receiver<io::Result<Slice>>,
}

impl Second {
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        twin: Box<dyn Body>,
        chunk: u64,
        gate: &'scope Gate,
    ) -> Self {
        let (go, orders) = mpsc::channel();
        let (report, slices) = mpsc::channel();
        scope.spawn(move || {
            // Cloned here, so that what the handle owns is allocated by this thread, apart from the other's.
            let mut row = twin.fork().unwrap_or(twin);
            let runtime = runtime();
            while orders.recv().is_ok() {
                gate.pass();
                let slice = match &runtime {
                    Ok(runtime) => Slice::take(row.as_mut(), runtime, chunk),
                    Err(error) => Err(error.kind().into()),
                };
                if report.send(slice).is_err() {
                    break;
                }
            }
        });
        Self { go, slices }
    }

    fn go(&self) -> io::Result<()> {
        self.go.send(()).map_err(|_| io::Error::other("the second thread has died"))
    }

    fn slice(&self) -> io::Result<Slice> {
        self.slices.recv().map_err(|_| io::Error::other("the second thread has died"))?
    }
}

/// Lets both threads go at the same time. It spins: a thread that had to be woken would be late by a tenth of a slice.
#[derive(Default)]
struct Gate(AtomicUsize);

impl Gate {
    fn pass(&self) {
        let both = (self.0.fetch_add(1, Ordering::AcqRel) / 2 + 1) * 2;
        while self.0.load(Ordering::Acquire) < both {
            hint::spin_loop();
        }
    }
}

/// What one thread did from `start` to `end`.
#[derive(Debug)]
struct Slice {
    start: Instant,
    end: Instant,
    calls: u64,
    clean: bool,
}

impl Slice {
    fn take(row: &mut dyn Body, runtime: &Runtime, chunk: u64) -> io::Result<Self> {
        let before = switches::involuntary()?;
        let start = Instant::now();
        let calls = row.run_until(runtime, chunk, start + SLICE);
        let end = Instant::now();
        Ok(Self { start, end, calls, clean: switches::involuntary()? == before })
    }

    fn calls_a_nano(&self) -> f64 {
        self.calls as f64 / (self.end - self.start).as_nanos() as f64
    }

    /// The time that both ran, as a part of the time that either did.
    fn overlap(&self, other: &Self) -> f64 {
        let both = self.end.min(other.end).saturating_duration_since(self.start.max(other.start));
        let either = self.end.max(other.end) - self.start.min(other.start);
        both.as_secs_f64() / either.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(zero: Instant, from: u64, to: u64) -> Slice {
        let [start, end] = [from, to].map(|micros| zero + Duration::from_micros(micros));
        Slice { start, end, calls: 1_000, clean: true }
    }

    #[test]
    fn overlap_is_what_both_had_of_what_either_had() {
        let zero = Instant::now();
        let first = slice(zero, 0, 100);
        assert_eq!(first.overlap(&slice(zero, 0, 100)), 1.0);
        assert_eq!(first.overlap(&slice(zero, 50, 100)), 0.5);
        assert_eq!(first.overlap(&slice(zero, 25, 125)), 0.6);
        assert_eq!(first.overlap(&slice(zero, 100, 200)), 0.0);
        assert_eq!(first.overlap(&slice(zero, 300, 400)), 0.0);
    }

    #[test]
    fn throughput_is_calls_over_time() {
        let zero = Instant::now();
        assert_eq!(slice(zero, 100, 200).calls_a_nano(), 0.01);
    }

    #[test]
    fn the_gate_opens_for_two() {
        let gate = Gate::default();
        let passed = AtomicUsize::new(0);
        thread::scope(|scope| {
            let walker = || {
                for round in 0..100 {
                    gate.pass();
                    // The other has been through every gate before this one, and waits at the next.
                    let seen = passed.fetch_add(1, Ordering::AcqRel);
                    assert!((round * 2..=round * 2 + 1).contains(&seen), "{seen} in round {round}");
                }
            };
            scope.spawn(walker);
            scope.spawn(walker);
        });
        assert_eq!(passed.load(Ordering::Acquire), 200);
    }
}
