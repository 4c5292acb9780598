use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// One stripe for each processor: more threads share them.
pub(crate) fn stripes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(64)
}

/// A small number for this thread; threads that come one after another get different ones.
#[inline]
pub(crate) fn thread_number() -> usize {
    const NONE: usize = usize::MAX;
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    }
    #[cold]
    fn assign() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Relaxed) & (NONE >> 1);
        NUMBER.set(number);
        number
    }
    let number = NUMBER.get();
    if number == NONE { assign() } else { number }
}
