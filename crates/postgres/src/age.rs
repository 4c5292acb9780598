use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How old a connection may grow, and how long it has been idle.
#[derive(Debug)]
pub(crate) struct Age {
    /// None: it may grow as old as it likes.
    ends: Option<Instant>,
    rest: Mutex<Option<Rest>>,
}

/// It was seen idle, and had been used so many times.
#[derive(Debug)]
struct Rest {
    uses: usize,
    since: Instant,
}

impl Age {
    /// `chance` is from 0 to 1. HikariCP too takes up to a quarter off, so that connections that were made together do not
    /// end together.
    pub(crate) fn new(born: Instant, max_lifetime: Option<Duration>, chance: f64) -> Self {
        let lifetime = max_lifetime.map(|most| most - (most / 4).mul_f64(chance));
        Self { ends: lifetime.and_then(|lifetime| born.checked_add(lifetime)), rest: Mutex::default() }
    }

    /// The clock is only read where there is a limit.
    pub(crate) fn is_over(&self, now: impl FnOnce() -> Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now())
    }

    /// For how long it has been idle, as far as has been seen. Asked of an idle connection, now and then; so its users need
    /// not note when they gave it back.
    pub(crate) fn idle(&self, uses: usize, now: Instant) -> Duration {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rest {
            Some(rest) if rest.uses == uses => now - rest.since,
            _ => {
                *rest = Some(Rest { uses, since: now });
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_ends_up_to_a_quarter_early_by_chance() {
        let born = Instant::now();
        let ages = [0.0, 0.5, 1.0].map(|chance| Age::new(born, Some(40 * MINUTE), chance));
        for (minute, over) in
            [(29, [false, false, false]), (30, [false, false, true]), (35, [false, true, true])]
        {
            let now = || born + minute * MINUTE;
            assert_eq!(ages.each_ref().map(|age| age.is_over(now)), over, "{minute}");
        }
        advance(40 * MINUTE).await;
        assert!(ages.iter().all(|age| age.is_over(Instant::now)));
    }

    #[test]
    fn without_a_limit_no_clock_is_read() {
        for (limit, chance) in [(None, 0.5), (Some(Duration::MAX), 0.0), (Some(Duration::MAX), 1.0)] {
            assert!(!Age::new(Instant::now(), limit, chance).is_over(|| unreachable!()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_from_when_it_was_first_seen_so_until_it_is_used() {
        let age = Age::new(Instant::now(), None, 0.0);
        advance(5 * MINUTE).await;
        assert_eq!(age.idle(7, Instant::now()), Duration::ZERO);
        advance(MINUTE).await;
        assert_eq!(age.idle(7, Instant::now()), MINUTE);
        advance(MINUTE).await;
        assert_eq!(age.idle(8, Instant::now()), Duration::ZERO, "it was used in between");
        advance(MINUTE).await;
        assert_eq!(age.idle(8, Instant::now()), MINUTE);
    }
}
