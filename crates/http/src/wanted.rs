//! Whether idle connections are wanted, to be closed.

use crate::sync::{AtomicBool, SeqCst, crosswise};

/// Raised before it is looked which connections are idle. Who becomes idle looks at it afterwards: so he is seen, or he
/// sees it.
pub(crate) struct Wanted(AtomicBool);

impl Wanted {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(crate) fn raise(&self) {
        self.0.store(true, SeqCst);
        crosswise();
    }

    /// What the look has shown. The lock under which it was looked is held.
    pub(crate) fn set(&self, is_wanted: bool) {
        self.0.store(is_wanted, SeqCst);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(SeqCst)
    }
}
