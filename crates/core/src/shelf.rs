use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What layers lend to their handles and the futures of their calls, and lend again when the last handle is gone.
///
/// The future of every call holds the state of its layer. A reference count for that would be two writes to memory for
/// each call, on a line that all threads share: more than all the rest of it. So such state is never freed, and a future
/// holds a plain reference. It is used again instead: there is never more of it than was lent at the same time. What a
/// future may do that outlives all handles, the layer decides.
pub struct Shelf<T: 'static>(Mutex<Vec<&'static T>>);

impl<T> Shelf<T> {
    /// An empty one, for a `static`.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// One that fits, if one lies here. It is as it was given back.
    pub fn take(&self, fits: impl Fn(&T) -> bool) -> Option<&'static T> {
        let mut shelf = self.lock();
        // From the end: where many come and go, the last ones are alike.
        let at = shelf.iter().rposition(|item| fits(item))?;
        Some(shelf.swap_remove(at))
    }

    /// Lays one here, to be taken again.
    pub fn give_back(&self, item: &'static T) {
        self.lock().push(item);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<&'static T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("items", &self.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_taken_once_and_the_last_first() {
        static ITEMS: [u32; 3] = [1, 2, 3];
        let shelf = Shelf::new();
        ITEMS.iter().for_each(|item| shelf.give_back(item));
        assert_eq!(shelf.take(|item| *item < 3), Some(&2));
        assert_eq!(shelf.take(|item| *item < 3), Some(&1));
        assert_eq!(shelf.take(|item| *item < 3), None);
        shelf.give_back(&ITEMS[0]);
        assert_eq!(shelf.take(|item| *item < 3), Some(&1));
        assert_eq!(format!("{shelf:?}"), "Shelf { items: 1 }");
    }
}
