//! What reading a hostile input may take.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use allocation_counter::{AllocationInfo, measure};

/// Runs it, and holds that it never had more memory at a time than `fixed` bytes and `factor` bytes for each of the input's.
pub(crate) fn bounded<R>(input: &[u8], fixed: usize, factor: usize, run: impl FnOnce() -> R) -> R {
    let mut result = None;
    // A panic out of `measure` would leave its count open. After 64 of them, while a finding is made smaller, the process
    // aborts, and nobody is told the input.
    let AllocationInfo { bytes_max, .. } = measure(|| result = Some(catch_unwind(AssertUnwindSafe(run))));
    let result = result.expect("it ran").unwrap_or_else(|panicked| resume_unwind(panicked));
    let most = fixed + factor * input.len();
    assert!(bytes_max <= most as u64, "{bytes_max} bytes for {} bytes of input, {most} at most", input.len());
    result
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn what_fails_inside_may_fail_as_often_as_it_is_made_smaller() {
        for _ in 0..200 {
            assert!(catch_unwind(|| bounded(b"", 1 << 20, 0, || panic!("it does not hold"))).is_err());
        }
        assert_eq!(bounded(b"", 1 << 10, 0, || vec![7_u8; 100].len()), 100);
        assert!(catch_unwind(|| bounded(b"", 50, 0, || vec![7_u8; 100].len())).is_err());
    }
}
