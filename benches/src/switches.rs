use std::io;

/// How often the kernel took the processor away from this thread so far. A slice across which it grows has waited for
/// somebody else.
///
/// # Errors
/// On systems that do not count it for a thread: there, a disturbed slice could not be told from a clean one.
#[cfg(target_os = "linux")]
pub(crate) fn involuntary() -> io::Result<i64> {
    use nix::sys::resource::{UsageWho, getrusage};
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.involuntary_context_switches())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn involuntary() -> io::Result<i64> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux counts the context switches of a thread"))
}
