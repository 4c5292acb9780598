use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// The number of this thread, from 0 on in the order in which threads first ask; never given again.
///
/// Layers use it to spread what threads write, so that they do not share a cache line.
#[inline]
pub fn thread_number() -> usize {
    const NONE: usize = usize::MAX;
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    }
    #[cold]
    fn assign() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NUMBER.set(NEXT.fetch_add(1, Relaxed));
        NUMBER.get()
    }
    let number = NUMBER.get();
    if number == NONE { assign() } else { number }
}

/// How many places to spread what threads write over, each thread by its [number](thread_number): a power of two, from 16
/// to 64.
///
/// At least one for each processor; more threads share them. And some more, since numbers are not given again: of a few
/// processors' threads two would often meet in one place.
pub fn thread_stripes() -> usize {
    // Counting processors reads files.
    static STRIPES: OnceLock<usize> = OnceLock::new();
    *STRIPES.get_or_init(|| {
        thread::available_parallelism().map_or(1, usize::from).next_power_of_two().clamp(16, 64)
    })
}
