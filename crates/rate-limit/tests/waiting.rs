//! What those who wait owe to each other, and the limiter to them.

mod figures;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use buttress_core::Rejected;
use buttress_rate_limit::{Limit, Rate, RateLimitLayer, RateLimiter};
use figures::gauge;
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

type Waiting = Pin<Box<dyn Future<Output = Result<(), Rejected>> + Send>>;

fn smooth(per_second: u32) -> RateLimiter {
    RateLimiter::new("waiting", Limit::gcra(Rate::per_second(per_second), 1).unwrap())
}

/// One who waits, polled once.
fn waiting(limiter: &RateLimiter, units: u32, longest: Duration) -> Waiting {
    let limiter = limiter.clone();
    let mut waiting: Waiting = Box::pin(async move { limiter.acquire(units, longest).await });
    assert!(poll(&mut waiting).is_pending());
    waiting
}

fn poll(waiting: &mut Waiting) -> Poll<Result<(), Rejected>> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn who_has_gone_is_not_waited_for() {
    let limiter = smooth(1);
    limiter.try_acquire(1).unwrap();
    let mut all: Vec<_> = (0..10).map(|_| waiting(&limiter, 1, MINUTE)).collect();
    assert_eq!(limiter.try_acquire(1).unwrap_err().retry_after(), Some(11 * SECOND));
    // The one who is first stays, so that nobody's turn comes who has gone.
    all.truncate(1);
    assert_eq!(limiter.try_acquire(1).unwrap_err().retry_after(), Some(2 * SECOND));
    let began = Instant::now();
    let first = tokio::spawn(all.remove(0));
    limiter.acquire(1, 2 * SECOND).await.unwrap();
    assert_eq!(began.elapsed(), 2 * SECOND);
    first.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_who_is_held_back_wakes_nobody_when_he_is_polled() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let limiter = smooth(1);
    limiter.restrict(0, 10 * SECOND);
    let mut held = pin!(limiter.acquire(1, MINUTE));
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    for _ in 0..5 {
        assert!(held.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(limiter.try_acquire(1).is_err());
    }
    assert_eq!(count.0.load(Relaxed), 0, "else it turns for ever");
    held.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn restrictions_hold_each_for_its_own_time() {
    let limiter = RateLimiter::new("restricted", Rate::per_second(1_000));
    limiter.restrict(50, 30 * MINUTE);
    limiter.restrict(0, SECOND);
    assert_eq!(limiter.try_acquire(1).unwrap_err().retry_after(), Some(SECOND));
    advance(SECOND).await;
    assert!(limiter.try_acquire(50).is_ok(), "only for a second it was closed");
    assert_eq!(limiter.try_acquire(1).unwrap_err().retry_after(), Some(30 * MINUTE - SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_wait_behind_a_restriction_is_known_as_well() {
    let limiter = smooth(1);
    limiter.restrict(0, MINUTE);
    let began = Instant::now();
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                let result = limiter.acquire(1, 62 * SECOND).await;
                (result.map_err(|refused| refused.retry_after().unwrap()), began.elapsed())
            })
        })
        .collect();
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    let through = |seconds| (Ok(()), seconds * SECOND);
    let refused = (Err(63 * SECOND), Duration::ZERO);
    assert_eq!(results, [through(60), through(61), through(62), refused, refused]);
}

#[tokio::test(start_paused = true)]
async fn who_was_held_back_for_long_makes_no_burst() {
    // By a restriction.
    let limiter = smooth(10);
    limiter.restrict(0, 10 * SECOND);
    let through = Arc::new(AtomicUsize::new(0));
    for _ in 0..50 {
        let (limiter, through) = (limiter.clone(), Arc::clone(&through));
        tokio::spawn(async move {
            limiter.acquire(1, MINUTE).await.unwrap();
            through.fetch_add(1, Relaxed);
        });
    }
    sleep(10 * SECOND + Duration::from_millis(50)).await;
    assert_eq!(through.load(Relaxed), 1);
    sleep(SECOND).await;
    assert!((10..=12).contains(&through.load(Relaxed)), "{through:?}");

    // By a thread that was busy elsewhere: a timer's lateness is made up, ten seconds are not.
    let limiter = smooth(10);
    limiter.try_acquire(1).unwrap();
    let mut all: Vec<_> = (0..50).map(|_| waiting(&limiter, 1, MINUTE)).collect();
    advance(4 * SECOND).await;
    assert_eq!(all.iter_mut().filter_map(|call| poll(call).is_ready().then_some(())).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_or_dropped_call_did_not_use_stays_allowed() {
    let layer = RateLimitLayer::builder("restricted", Rate::per_second(100))
        .keyed(|key: &u32| *key)
        .overall(Limit::gcra(Rate::per_second(1), 2).unwrap())
        .build();
    let limiter = layer.limiter();
    limiter.try_acquire(&2, 2).unwrap();
    limiter.restrict(&1, 2, MINUTE);
    for _ in 0..5 {
        assert!(limiter.try_acquire(&1, 1).unwrap_err().retry_after().unwrap() <= SECOND);
    }
    advance(2 * SECOND).await;
    assert!(limiter.try_acquire(&1, 2).is_ok(), "what all refused took nothing of it");
    assert!(limiter.try_acquire(&1, 1).unwrap_err().retry_after().unwrap() > 50 * SECOND);

    let limiter = smooth(1);
    limiter.try_acquire(1).unwrap();
    limiter.restrict(1, MINUTE);
    let first = waiting(&limiter, 1, 2 * MINUTE);
    let mut second = waiting(&limiter, 1, 2 * MINUTE);
    advance(SECOND).await;
    assert!(poll(&mut second).is_pending(), "the first has it");
    drop(first);
    assert!(poll(&mut second).is_ready());
}

#[tokio::test(start_paused = true)]
async fn units_of_one_who_goes_late_reach_the_next_at_once() {
    let limiter = RateLimiter::new("next", Limit::sliding_log(Rate::per_second(1)).unwrap());
    limiter.try_acquire(1).unwrap();
    let began = Instant::now();
    let first = waiting(&limiter, 1, MINUTE);
    let second = limiter.clone();
    let second = tokio::spawn(async move {
        second.acquire(1, MINUTE).await.unwrap();
        began.elapsed()
    });
    tokio::task::yield_now().await;
    // The first has its turn, and nobody polls it.
    advance(SECOND).await;
    assert!(limiter.try_acquire(1).is_err());
    sleep(SECOND / 5).await;
    drop(first);
    assert_eq!(second.await.unwrap(), SECOND * 6 / 5);
}

/// A unit each 1.43 milliseconds, and timers that ring on whole ones.
#[tokio::test(start_paused = true)]
async fn timers_that_are_late_lose_no_rate() {
    let limiter = smooth(700);
    let began = Instant::now();
    let calls: Vec<_> = (0..350)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(1, MINUTE).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let elapsed = began.elapsed().as_millis();
    assert!((496..505).contains(&elapsed), "{elapsed}");
}

#[tokio::test(start_paused = true)]
async fn zero_units_wait_for_nobody() {
    let limiter = smooth(1);
    limiter.try_acquire(1).unwrap();
    let _first = waiting(&limiter, 1, MINUTE);
    assert!(limiter.try_acquire(0).is_ok());
    let began = Instant::now();
    limiter.acquire(0, SECOND).await.unwrap();
    limiter.restrict(0, MINUTE);
    limiter.acquire(0, SECOND).await.unwrap();
    assert_eq!(Instant::now(), began);
}

#[tokio::test(start_paused = true)]
async fn units_that_came_back_by_themselves_are_not_given_back() {
    for limit in [
        Limit::gcra(Rate::per_second(1), 1).unwrap(),
        Limit::from(Rate::per_second(1)),
        Limit::sliding_log(Rate::per_second(1)).unwrap(),
        Limit::fixed_window(Rate::per_second(1)),
    ] {
        let layer = RateLimitLayer::builder("two stages", limit)
            .wait(MINUTE)
            .keyed(|key: &u32| *key)
            .overall(Limit::gcra(Rate::per_minute(6), 4).unwrap())
            .build();
        let limiter = layer.limiter();
        limiter.try_acquire(&1, 1).unwrap();
        for other in 2..5 {
            limiter.try_acquire(&other, 1).unwrap();
        }
        advance(2 * SECOND).await;
        // It has its key's unit, and waits for all.
        let waits = limiter.clone();
        let mut waits: Waiting = Box::pin(async move { waits.acquire(&1, 1, MINUTE).await });
        assert!(poll(&mut waits).is_pending());
        advance(5 * SECOND).await;
        let next = limiter.clone();
        let mut next: Waiting = Box::pin(async move { next.acquire(&1, 1, MINUTE).await });
        assert!(poll(&mut next).is_pending(), "it has the next of its key, and waits for all too");
        assert_eq!(limiter.quotas(&1)[1].remaining, 0);
        drop(waits);
        assert_eq!(limiter.quotas(&1)[1].remaining, 0, "{limit:?}: not the other's");
    }
}

/// An executor whose wakers own their tasks, as small ones do.
#[tokio::test(start_paused = true)]
async fn a_waker_may_own_others_who_wait() {
    struct Owner {
        _owned: Mutex<Option<Waiting>>,
        dropped: Arc<AtomicBool>,
    }
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.dropped.store(true, Relaxed);
        }
    }
    for is_polled_again in [true, false] {
        let limiter = RateLimiter::new("owned", Limit::sliding_log(Rate::per_second(5)).unwrap());
        limiter.try_acquire(5).unwrap();
        // Two units are left over each time, so the last one's timer rings before its turn: the timer's waker is spent.
        let mut calls: Vec<_> = (0..3).map(|_| waiting(&limiter, 3, MINUTE)).collect();
        let dropped = Arc::default();
        let owned = Mutex::new(Some(waiting(&limiter, 1, MINUTE)));
        let owner = Waker::from(Arc::new(Owner { _owned: owned, dropped: Arc::clone(&dropped) }));
        assert!(calls[2].as_mut().poll(&mut Context::from_waker(&owner)).is_pending());
        drop(owner);
        advance(2 * SECOND + Duration::from_millis(2)).await;
        assert!(!dropped.load(Relaxed), "the limiter has the last one");
        if is_polled_again {
            assert!(poll(&mut calls[2]).is_pending(), "by another task");
        } else {
            drop(calls.remove(2));
        }
        assert!(dropped.load(Relaxed), "outside of the lock, or this stands still");
        drop(calls);
        assert_eq!(gauge(&limiter, "waiting"), 0.0);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Come(u32),
    Go(usize),
    Pass(u64),
    Look(usize),
    Restrict(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..4u32).prop_map(Step::Come),
        3 => (0..20usize).prop_map(Step::Go),
        4 => (0..300u64).prop_map(Step::Pass),
        3 => (0..20usize).prop_map(Step::Look),
        1 => (0..8u32, 1..600u64).prop_map(|(units, time)| Step::Restrict(units, time)),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Calls come, go, are polled or not. Nobody is lost, nobody passes another by, and no period holds too many; in the
    /// end the limiter is as new.
    #[test]
    fn whoever_waits_has_his_turn(steps in steps()) {
        let rate = Rate::per_second(5);
        for limit in [
            Limit::gcra(rate, 3).unwrap(),
            Limit::from(rate),
            Limit::sliding_log(rate).unwrap(),
            Limit::fixed_window(rate),
        ] {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(turns(limit, &steps));
        }
    }
}

async fn turns(limit: Limit, steps: &[Step]) {
    let limiter = RateLimiter::new("turns", limit);
    let mut all: Vec<(usize, u32, Waiting)> = Vec::new();
    let (mut came, mut served) = (0usize, 0u64);
    let began = Instant::now();
    let end = steps.iter().map(Some).chain(std::iter::repeat_n(None, 600));
    for step in end {
        match step {
            Some(Step::Come(units)) => {
                let (limiter, units) = (limiter.clone(), *units);
                let mut call: Waiting = Box::pin(async move { limiter.acquire(units, 60 * MINUTE).await });
                match poll(&mut call) {
                    Poll::Ready(result) => {
                        assert!(result.is_ok());
                        // Those who have their units and were not polled are before it.
                        served += u64::from(units);
                    }
                    Poll::Pending => all.push((came, units, call)),
                }
                came += 1;
            }
            Some(Step::Go(at)) if *at < all.len() => drop(all.remove(*at)),
            Some(Step::Look(at)) if *at < all.len() => {
                if let Poll::Ready(result) = poll(&mut all[*at].2) {
                    assert!(result.is_ok());
                    served += u64::from(all.remove(*at).1);
                }
            }
            Some(Step::Restrict(units, time)) => limiter.restrict(*units, Duration::from_millis(*time)),
            Some(Step::Pass(time)) => advance(Duration::from_millis(*time)).await,
            Some(Step::Go(_) | Step::Look(_)) => {}
            None => {
                // Everybody looks, the last one first: who has not his units yet must not get them before others.
                let mut done = Vec::new();
                for at in (0..all.len()).rev() {
                    if let Poll::Ready(result) = poll(&mut all[at].2) {
                        assert!(result.is_ok());
                        let (number, units, _) = all.remove(at);
                        served += u64::from(units);
                        done.push(number);
                    }
                }
                let rest = all.first().map_or(usize::MAX, |(number, ..)| *number);
                assert!(done.iter().all(|number| *number < rest), "{limit:?}: {done:?} before {rest}");
                if all.is_empty() {
                    break;
                }
                advance(Duration::from_millis(100)).await;
            }
        }
    }
    assert!(all.is_empty(), "{limit:?}: {} wait for ever", all.len());
    // A burst or an edge's double, and what the rate makes of the time.
    assert!(served <= 10 + began.elapsed().as_millis() as u64 / 200, "{limit:?}: {served}");
    assert_eq!(gauge(&limiter, "waiting"), 0.0);
    advance(3 * SECOND).await;
    assert!(limiter.try_acquire(limit.most_at_once()).is_ok());
}
