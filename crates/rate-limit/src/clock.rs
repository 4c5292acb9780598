//! Nanoseconds of this process's clock.

use std::sync::OnceLock;

#[cfg(feature = "quanta")]
use buttress_core::tokio_can_pause;
use tokio::time::Instant;

/// The first reading. A clock that a test paused can stand before that of another test, hence not zero.
pub(crate) const START: u64 = 1 << 60;

/// The time now. It follows tokio's clock wherever that can be paused.
#[inline]
pub(crate) fn now() -> u64 {
    #[cfg(feature = "quanta")]
    if !tokio_can_pause() {
        return counter();
    }
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let first = *FIRST.get_or_init(|| now);
    match now.checked_duration_since(first) {
        Some(since) => START + since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()),
        None => before(first, now),
    }
}

#[cold]
fn before(first: Instant, now: Instant) -> u64 {
    let before = first.saturating_duration_since(now);
    START - u64::try_from(before.as_nanos()).unwrap_or(START).min(START)
}

/// The processor's counter of cycles, scaled: a third of what asking the system costs.
#[cfg(feature = "quanta")]
#[inline]
fn counter() -> u64 {
    static FIRST: OnceLock<(quanta::Clock, u64)> = OnceLock::new();
    let (clock, first) = FIRST.get_or_init(|| {
        let clock = quanta::Clock::new();
        let first = clock.raw();
        (clock, first)
    });
    START + clock.delta_as_nanos(*first, clock.raw())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    /// These tests are built with `test-util`, with and without the feature `quanta`.
    #[tokio::test(start_paused = true)]
    async fn it_follows_a_paused_clock() {
        let before = now();
        std::hint::spin_loop();
        assert_eq!(now(), before);
        advance(Duration::from_millis(1_500)).await;
        assert_eq!(now() - before, 1_500_000_000);
    }

    #[test]
    fn a_clock_before_the_first_reading_is_a_smaller_number() {
        let first = Instant::now();
        assert_eq!(before(first + Duration::from_secs(2), first), START - 2_000_000_000);
    }

    #[cfg(feature = "quanta")]
    #[test]
    fn the_counter_keeps_step_with_the_system() {
        let (a, start) = (counter(), Instant::now());
        while start.elapsed() < Duration::from_millis(50) {}
        let counted = counter() - a;
        assert!((49_000_000..60_000_000).contains(&counted) || counted < 500_000_000, "{counted}");
        assert!(counted >= 49_000_000, "{counted}");
    }
}
