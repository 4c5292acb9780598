//! Nanoseconds of this process's clock, to the tick of the system's timer: a fifth of what the exact time costs.

use std::{sync::OnceLock, time::Duration};

#[cfg(target_os = "linux")]
use buttress_core::tokio_can_pause;
use tokio::time::Instant;

/// Later than any time: what never ends.
pub(crate) const NEVER: u64 = u64::MAX;

/// The first reading. A clock that a test paused can stand before that of another test, hence not zero.
const START: u64 = 1 << 60;

/// The time now, or up to a [`tick`] ago. It follows tokio's clock wherever that can be paused.
#[inline]
pub(crate) fn now() -> u64 {
    #[cfg(target_os = "linux")]
    if !tokio_can_pause() {
        return coarse();
    }
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let first = *FIRST.get_or_init(|| now);
    match now.checked_duration_since(first) {
        Some(since) => START + nanos(since),
        None => START - nanos(first.saturating_duration_since(now)).min(START),
    }
}

/// How far behind [`now`] may be.
pub(crate) fn tick() -> u64 {
    #[cfg(target_os = "linux")]
    if !tokio_can_pause() {
        static TICK: OnceLock<u64> = OnceLock::new();
        return *TICK.get_or_init(|| {
            let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
            u64::try_from(tick.tv_nsec).unwrap_or(0)
        });
    }
    0
}

/// When something ends that lives for so long from `now` on. It is never served for longer: the clock may be a tick late.
pub(crate) fn end(now: u64, life: Duration) -> u64 {
    let life = nanos(life);
    if life == u64::MAX { NEVER } else { now.saturating_add(life.saturating_sub(tick())) }
}

/// Saturates: [`Duration::MAX`] is [`NEVER`].
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // Neither is ever negative.
    START + now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_follows_a_paused_clock() {
        let before = now();
        assert_eq!(now(), before);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(now() - before, 1_500_000_000);
        assert_eq!(end(before, Duration::from_secs(1)), before + 1_000_000_000);
        assert_eq!(end(before, Duration::MAX), NEVER);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_coarse_clock_keeps_step_with_the_system() {
        let (before, start) = (coarse(), Instant::now());
        while start.elapsed() < Duration::from_millis(50) {}
        let passed = coarse() - before;
        assert!(passed >= 50_000_000 - 20_000_000, "{passed}");
        assert!(passed <= nanos(start.elapsed()) + 20_000_000, "{passed}");
    }
}
