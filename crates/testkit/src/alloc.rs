//! Counts heap allocations.

/// What a piece of code took from the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How often it asked for memory. What it gave back is not subtracted.
    pub count: u64,
    /// How many bytes it asked for altogether.
    pub bytes: u64,
}

/// Runs `code` and counts what the current thread allocates meanwhile; other threads do not disturb.
///
/// Every program that links this crate gets the counting allocator, which hands on to the system's. Warm up
/// first what may allocate once: thread-locals, a `OnceLock`, the queue of a channel. A future is counted
/// when it is polled inside:
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// use buttress_testkit::allocations;
///
/// let counted = allocations(|| {
///     let ready = pin!(std::future::ready(7));
///     let answer = Future::poll(ready, &mut Context::from_waker(Waker::noop()));
///     assert_eq!(answer, Poll::Ready(7));
/// });
/// assert_eq!(counted.count, 0);
/// ```
pub fn allocations(code: impl FnOnce()) -> Counted {
    let info = allocation_counter::measure(code);
    Counted { count: info.count_total, bytes: info.bytes_total }
}

/// Runs `code` and tells how many bytes the current thread has more than before: what it asked for and did not give back.
/// Negative where it gave back what it had before.
///
/// What is flat keeps next to nothing, however often it is done:
///
/// ```
/// let mut latest = vec![0_u64; 8];
/// let kept = buttress_testkit::kept_bytes(|| (0..1_000).for_each(|n| latest = vec![n; 8]));
/// assert_eq!(kept, 0);
/// ```
pub fn kept_bytes(code: impl FnOnce()) -> i64 {
    allocation_counter::measure(code).bytes_current
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::thread;

    use super::*;

    #[test]
    fn counts_what_is_given_back_too() {
        let counted = allocations(|| {
            drop(black_box(vec![0_u8; 100]));
            drop(black_box(Box::new(1_u64)));
        });
        assert_eq!(counted, Counted { count: 2, bytes: 108 });
    }

    #[test]
    fn code_that_stays_on_the_stack_counts_nothing() {
        let counted = allocations(|| _ = black_box([0_u8; 100]));
        assert_eq!(counted, Counted { count: 0, bytes: 0 });
    }

    #[test]
    fn what_is_given_back_is_not_kept() {
        let mut kept = Vec::new();
        assert_eq!(kept_bytes(|| kept = black_box(vec![0_u8; 100])), 100);
        assert_eq!(kept_bytes(|| drop(black_box(vec![0_u8; 100]))), 0);
        assert_eq!(kept_bytes(|| drop(black_box(kept))), -100);
    }

    #[test]
    fn other_threads_do_not_disturb() {
        let (start, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let (done, finished) = std::sync::mpsc::sync_channel::<()>(0);
        let other = thread::spawn(move || {
            wait.recv().unwrap();
            drop(black_box(vec![0_u8; 1_000_000]));
            done.send(()).unwrap();
        });
        let counted = allocations(|| {
            start.send(()).unwrap();
            finished.recv().unwrap();
        });
        other.join().unwrap();
        assert!(counted.bytes < 1_000_000, "{counted:?}");
    }
}
