use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// One stripe for each processor: more threads share them.
pub(crate) fn stripes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(64)
}

/// A small number for this thread; threads that come one after another get different ones.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const NONE: usize = usize::MAX;
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    }
    NUMBER.with(|number| {
        if number.get() == NONE {
            number.set(NEXT.fetch_add(1, Relaxed) & (NONE >> 1));
        }
        number.get()
    })
}
