use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// How many bytes of bodies may be kept at a time while they arrive: slow readers keep what the memory has let go.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Taken> {
        let mut taken = Taken { budget: self.clone(), bytes: 0 };
        taken.more(bytes).then_some(taken)
    }
}

/// A part of it, which comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Taken {
    /// Says whether there was as much left.
    pub(crate) fn more(&mut self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        let is_left = self.budget.0.fetch_update(Relaxed, Relaxed, less).is_ok();
        if is_left {
            self.bytes += bytes;
        }
        is_left
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let mut taken = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(taken.more(4) && !taken.more(1));
        drop(taken);
        assert!(budget.take(10).is_some());
    }
}
