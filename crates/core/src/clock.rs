use std::any::type_name_of_val;

/// Whether tokio was built with `test-util`, so that somebody may pause its clock.
///
/// A layer that reads a cheaper clock than tokio's must not do so then: tests with a paused clock would wait for ever. Cargo
/// does not tell a crate which features of another are on, but tokio has a function `pause` with that one. The compiler
/// makes a constant of it.
#[inline]
#[must_use]
pub fn tokio_can_pause() -> bool {
    #[allow(dead_code, reason = "tokio's is nearer, where there is one")]
    const fn pause() {}
    {
        // What this brings in stands nearer than the function above, if it has one of that name.
        #[allow(unused_imports, reason = "it depends on the features of tokio")]
        use tokio::time::*;
        type_name_of_val(&pause).starts_with("tokio")
    }
}

#[cfg(test)]
mod tests {
    /// These tests are built with `test-util`.
    #[test]
    fn a_clock_that_can_be_paused_is_seen() {
        assert!(super::tokio_can_pause());
    }
}
