//! A clock that goes back: a failover to a machine with another one, or somebody sets it.

use buttress_rate_limit::Algorithm;

use super::*;

const PERIOD: u64 = 1_000_000_000;

/// Uses a limit up, and lets the clock go back.
async fn used_up_and_back<'a>(bench: &'a Bench, limit: Limit, back: u64) -> (Asker<'a>, u64) {
    let asker = bench.subject(&[limit]);
    // The fixed window must not end in the middle.
    let now = START / PERIOD * PERIOD + 100;
    assert_eq!(asker.one(now, 5, 5, 0).await, Grant::of(5, 0, 0));
    (asker, now - back)
}

#[tokio::test]
async fn a_clock_that_goes_back_forgets_nothing_and_ends() {
    let bench = Bench::new().await;
    for limit in kinds(5, PERIOD) {
        for back in [1, 50, 101, PERIOD / 2, PERIOD, 2 * PERIOD, 100 * PERIOD, START - PERIOD] {
            let (asker, now) = used_up_and_back(&bench, limit, back.min(START / PERIOD * PERIOD)).await;
            let what = format!("{limit:?} back by {back}");
            let wait = asker.take(now, 5).await.expect_err(&what);
            assert!(wait <= 2 * PERIOD + PERIOD / 64, "{what}: {wait}");
            // GCRA begins to come back from now on, also where it had nothing left.
            let gcra = matches!(limit.algorithm(), Algorithm::Gcra { .. });
            if back <= PERIOD {
                let again = asker.one(now + back, 0, 0, 0).await.remaining;
                let come_back = if gcra { back / (PERIOD / 5) } else { 0 };
                assert_eq!(u64::from(again), come_back, "{what}: as far as it was, and used up as it was");
            }
            if back > 2 * PERIOD {
                assert!(wait <= PERIOD + PERIOD / 64, "{what}: {wait}");
            }
            assert_eq!(asker.take(now + wait - 1, 5).await, Err(1), "{what}: the wait is exact");
            assert_eq!(asker.take(now + wait, 5).await, Ok(()), "{what}");
            assert!(asker.take(now + wait, 1).await.is_err(), "{what}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_went_back_counts_on() {
    let bench = Bench::new().await;
    for limit in kinds(5, PERIOD) {
        for back in [1, PERIOD / 3, 40 * PERIOD] {
            let asker = bench.subject(&[limit]);
            let start = START / PERIOD * PERIOD + PERIOD / 2;
            assert_eq!(asker.one(start, 3, 3, 0).await, Grant::of(3, 2, 0));
            let now = start - back;
            let what = format!("{limit:?} back by {back}");
            let grant = asker.one(now, 1, 9, 0).await;
            // GCRA knows when units will have come back, and not when they came: now that is further away.
            let gcra = matches!(limit.algorithm(), Algorithm::Gcra { .. });
            let left = if gcra { if back == 1 { 1 } else { 0 } } else { 2 };
            assert_eq!(grant.units, left, "{what}: {grant:?}");
            let wait = asker.take(now, 5).await.expect_err(&what);
            assert_eq!(asker.take(now + wait - 1, 5).await, Err(1), "{what}: the wait is exact");
            assert_eq!(asker.take(now + wait, 5).await, Ok(()), "{what}");
            assert_eq!(asker.one(now + wait, 0, 0, 5).await.remaining, 5, "{what}: given back");
            assert_eq!(asker.one(now + wait, 5, 5, 0).await, Grant::of(5, 0, 0), "{what}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_goes_forward_lets_units_come_back() {
    let bench = Bench::new().await;
    for limit in kinds(5, PERIOD) {
        let (asker, now) = used_up_and_back(&bench, limit, 0).await;
        assert_eq!(asker.take(now + 1000 * PERIOD, 5).await, Ok(()), "{limit:?}");
        assert!(asker.take(now + 1000 * PERIOD, 1).await.is_err(), "{limit:?}");
    }
}
