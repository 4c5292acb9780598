use std::{
    hint,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use tokio::time::Instant;

const ROUNDS: usize = 21;
const EXCHANGES: u64 = 10_000;

/// Nanoseconds until one processor sees what another has written: the median of some rounds. What threads share costs them
/// multiples of it, and on virtual machines it changes with where the host puts their processors.
pub(super) fn nanos() -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a duration")]
fn round() -> f64 {
    let word = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| answer(&word));
        // It has begun.
        write_and_wait(&word, 0);
        let start = Instant::now();
        for exchange in 1..EXCHANGES {
            write_and_wait(&word, 2 * exchange);
        }
        start.elapsed().as_nanos() as f64 / (2 * (EXCHANGES - 1)) as f64
    })
}

/// Writes the next number and waits for the one after.
fn write_and_wait(word: &AtomicU64, number: u64) {
    word.store(number + 1, Ordering::Release);
    wait_for(word, number + 2);
}

fn answer(word: &AtomicU64) {
    for exchange in 0..EXCHANGES {
        wait_for(word, 2 * exchange + 1);
        word.store(2 * exchange + 2, Ordering::Release);
    }
}

fn wait_for(word: &AtomicU64, number: u64) {
    let mut looks = 0_u32;
    while word.load(Ordering::Acquire) != number {
        hint::spin_loop();
        looks = looks.wrapping_add(1);
        // Where there is but one processor, or it is taken away.
        if looks.is_multiple_of(1_000) {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_some_time_and_ends() {
        assert!(round() > 1.0);
    }
}
