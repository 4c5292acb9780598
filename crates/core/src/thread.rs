use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
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
