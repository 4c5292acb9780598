//! Waiting for a permit: in which order, how long, and who is shed.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    task::Context,
    time::Duration,
};

use buttress_bulkhead::{Adaptive, BulkheadLayer, Criticality, Limit, Limiter, Queue};
use buttress_core::{Deadline, Outcome, Reason, Rejectable};
use buttress_testkit::probe::{Backend, BoxError};
use proptest::prelude::*;
use tokio::{
    task::{JoinHandle, yield_now},
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};

const MS: Duration = Duration::from_millis(1);
const LEVELS: [Criticality; 4] =
    [Criticality::Sheddable, Criticality::SheddablePlus, Criticality::Critical, Criticality::CriticalPlus];

fn limiter(limit: u32, capacity: u32) -> Limiter {
    let queue = Queue::try_new(capacity, 100 * MS).unwrap();
    BulkheadLayer::builder("queue", Limit::fixed(limit).unwrap()).queue(queue).build().limiter()
}

/// Who was served, in order.
type Served = Arc<Mutex<Vec<usize>>>;

/// A task of that level that waits, and writes its number down when it is served.
async fn waiter(
    limiter: &Limiter,
    level: Criticality,
    number: usize,
    served: &Served,
) -> JoinHandle<Option<Reason>> {
    let (limiter, served) = (limiter.clone(), Arc::clone(served));
    let task = tokio::spawn(level.scope(async move {
        match limiter.acquire().await {
            Ok(_permit) => {
                served.lock().unwrap().push(number);
                yield_now().await;
                None
            }
            Err(rejected) => Some(rejected.reason()),
        }
    }));
    yield_now().await;
    task
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever matters more goes first, in the order of arrival among equals; where the queue is full the last of the
    /// lowest level is shed.
    #[test]
    fn they_are_served_and_shed_in_order(levels in prop::collection::vec(0..4_usize, 1..20), capacity in 1..8_u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let limiter = limiter(1, capacity);
            let held = limiter.try_acquire().unwrap();
            let served = Served::default();
            let mut tasks = Vec::new();
            let mut waiting: Vec<usize> = Vec::new();
            for (number, &level) in levels.iter().enumerate() {
                tasks.push(waiter(&limiter, LEVELS[level], number, &served).await);
                if waiting.len() == capacity as usize {
                    let lowest = (0..waiting.len()).rev().min_by_key(|at| levels[waiting[*at]]).unwrap();
                    if levels[waiting[lowest]] >= level {
                        continue;
                    }
                    waiting.remove(lowest);
                }
                waiting.push(number);
            }
            drop(held);
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await?);
            }
            // The sort is stable: first come, first served.
            waiting.sort_by_key(|number| std::cmp::Reverse(levels[*number]));
            prop_assert_eq!(&*served.lock().unwrap(), &waiting);
            for (number, answer) in answers.into_iter().enumerate() {
                let expected = if waiting.contains(&number) { None } else { Some(Reason::Overloaded) };
                prop_assert_eq!(answer, expected);
            }
            prop_assert_eq!(limiter.snapshot().in_flight, 0);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_shed_is_told_at_once() {
    let limiter = limiter(1, 1);
    let _held = limiter.try_acquire().unwrap();
    let served = Served::default();
    let low = waiter(&limiter, Criticality::Sheddable, 0, &served).await;
    let start = Instant::now();
    let _high = waiter(&limiter, Criticality::SheddablePlus, 1, &served).await;
    assert_eq!(low.await.unwrap(), Some(Reason::Overloaded));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(limiter.snapshot().shed, 1);
}

/// As `select!` and `FuturesUnordered` do it: the future of a waiter moves to another task.
#[tokio::test(start_paused = true)]
async fn who_polled_last_is_woken() {
    let limiter = limiter(1, 1);
    let held = limiter.try_acquire().unwrap();
    let mut waiting = Box::pin({
        let limiter = limiter.clone();
        async move { limiter.acquire().await.map(drop) }
    });
    let mut first = Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut first).is_pending());
    let start = Instant::now();
    let task = tokio::spawn(waiting);
    yield_now().await;
    drop(held);
    task.await.unwrap().unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_it_is_allowed() {
    let limiter = limiter(1, 10);
    let held = limiter.try_acquire().unwrap();
    let start = Instant::now();
    let late = limiter.acquire().await.unwrap_err();
    assert_eq!((late.reason(), start.elapsed()), (Reason::Overloaded, 100 * MS));

    // Not past the caller's deadline either, and not at all where that has passed.
    let start = Instant::now();
    let scoped = |limit: Duration| Deadline::after(limit).scope(limiter.acquire());
    let late = scoped(30 * MS).await.unwrap_err();
    assert_eq!((late.reason(), start.elapsed()), (Reason::DeadlineExceeded, 30 * MS));
    assert_eq!(scoped(Duration::ZERO).await.unwrap_err().reason(), Reason::DeadlineExceeded);
    assert_eq!(start.elapsed(), 30 * MS);
    assert_eq!(scoped(Duration::MAX).await.unwrap_err().reason(), Reason::Overloaded);
    assert_eq!(limiter.snapshot().waiting, 0);
    drop(held);
    assert!(scoped(Duration::ZERO).await.is_ok(), "there was nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_time_left_takes_nobodys_place() {
    let limiter = limiter(1, 1);
    let held = limiter.try_acquire().unwrap();
    let served = Served::default();
    let low = waiter(&limiter, Criticality::Sheddable, 0, &served).await;
    let late = Deadline::after(Duration::ZERO).scope(Criticality::CriticalPlus.scope(limiter.acquire()));
    assert_eq!(late.await.unwrap_err().reason(), Reason::DeadlineExceeded);
    assert_eq!((limiter.snapshot().waiting, limiter.snapshot().shed), (1, 0));
    drop(held);
    assert_eq!(low.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn newcomers_do_not_overtake_those_who_wait() {
    let limiter = limiter(2, 10);
    let held = [limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap()];
    let served = Served::default();
    let first = waiter(&limiter, Criticality::Critical, 0, &served).await;
    drop(held);
    // Two are free and one is promised.
    let second = limiter.try_acquire().unwrap();
    assert!(limiter.try_acquire().is_err());
    assert_eq!(first.await.unwrap(), None);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_in_those_who_wait() {
    let limiter = limiter(1, 10);
    let _held = limiter.try_acquire().unwrap();
    let served = Served::default();
    let mut tasks = Vec::new();
    for number in 0..5 {
        tasks.push(waiter(&limiter, Criticality::Critical, number, &served).await);
    }
    limiter.set_limit(4).unwrap();
    for _ in 0..10 {
        yield_now().await;
    }
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4]);
    for task in tasks {
        assert_eq!(task.await.unwrap(), None);
    }
}

/// No call ends after the one whose window raised the limit: only that wakes who waits.
#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_that_grows_lets_in_those_who_wait() {
    let adaptive = Adaptive::aimd().with_limits(2, 2, 9).unwrap();
    let queue = Queue::try_new(10, 100_000 * MS).unwrap();
    let limiter = BulkheadLayer::builder("grows", Limit::adaptive(adaptive)).queue(queue).build().limiter();
    let served = Served::default();
    for _ in 0..9 {
        limiter.try_acquire().unwrap().finish(Outcome::Success);
    }
    let held = [limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap()];
    let waiters = [
        waiter(&limiter, Criticality::Critical, 0, &served).await,
        waiter(&limiter, Criticality::Critical, 1, &served).await,
    ];
    sleep(200 * MS).await;
    // One permit comes back, and one is new.
    let [ends, stays] = held;
    ends.finish(Outcome::Success);
    assert_eq!((limiter.limit(), limiter.snapshot().waiting), (3, 0));
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), None);
    }
    drop(stays);
}

#[tokio::test(start_paused = true)]
async fn a_reserve_is_for_those_who_matter_most() {
    let limit = Limit::fixed(3).unwrap().with_reserve(1, Criticality::CriticalPlus).unwrap();
    let queue = Queue::try_new(10, 100 * MS).unwrap();
    let limiter = BulkheadLayer::builder("reserve", limit).queue(queue).build().limiter();
    let mut held: Vec<_> = std::iter::from_fn(|| limiter.try_acquire().ok()).collect();
    assert_eq!(held.len(), 2);
    let served = Served::default();
    let other = waiter(&limiter, Criticality::Critical, 0, &served).await;
    assert!(served.lock().unwrap().is_empty());
    let most = waiter(&limiter, Criticality::CriticalPlus, 1, &served).await;
    assert_eq!(*served.lock().unwrap(), [1], "past one who waits");
    assert_eq!(most.await.unwrap(), None);
    held.pop();
    assert_eq!(other.await.unwrap(), None);

    // All of the general ones first.
    held.clear();
    let all: Vec<_> = (0..4).map(|_| Criticality::CriticalPlus.scope(limiter.acquire())).collect();
    let mut permits = Vec::new();
    for acquire in all {
        permits.push(timeout(MS, acquire).await);
    }
    assert_eq!(permits.iter().filter(|permit| matches!(permit, Ok(Ok(_)))).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_request_says_what_it_matters_and_only_where_that_decides() {
    let backend = Backend::new();
    let asked = Cell::new(0);
    let layer = BulkheadLayer::builder("request", Limit::fixed(1).unwrap())
        .queue(Queue::try_new(1, 100 * MS).unwrap())
        .criticality(|request: &u32| {
            asked.set(asked.get() + 1);
            (*request >= 100).then_some(Criticality::CriticalPlus)
        })
        .build();
    let mut service = layer.layer(backend.service::<BoxError>());
    for _ in 0..10 {
        assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
    }
    assert_eq!(asked.get(), 0, "there was room");

    let held = layer.limiter().try_acquire().unwrap();
    // By the task, then by the request, which sheds the first.
    let low = Criticality::Sheddable.scope(service.clone().oneshot(1));
    let mut low = Box::pin(low);
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(low.as_mut().poll(&mut context).is_pending());
    let high = service.ready().await.unwrap().call(100);
    assert_eq!(low.await.unwrap_err().rejected().unwrap().reason(), Reason::Overloaded);
    drop(held);
    assert_eq!(high.await.unwrap(), 100);
    assert_eq!((asked.get(), backend.unready_calls()), (2, 0));
}

/// Also where the future is kept: in a `join_all`, say.
#[tokio::test(start_paused = true)]
async fn who_waited_in_vain_holds_no_readiness() {
    let backend = Backend::new();
    let layer = BulkheadLayer::builder("kept", Limit::fixed(1).unwrap())
        .queue(Queue::try_new(1, 100 * MS).unwrap())
        .build();
    let mut service = layer.layer(backend.service::<BoxError>());
    let _held = layer.limiter().try_acquire().unwrap();
    let mut call = Box::pin(service.ready().await.unwrap().call(1));
    assert_eq!(backend.reservations(), 1);
    assert!(call.as_mut().await.is_err());
    assert_eq!((backend.reservations(), layer.limiter().snapshot().waiting), (0, 0));
    drop(call);
}

/// The task's level is read in `call`, wherever the answer is awaited.
#[tokio::test(start_paused = true)]
async fn the_code_that_calls_says_what_it_matters() {
    let layer = BulkheadLayer::builder("scope", Limit::fixed(1).unwrap())
        .queue(Queue::try_new(1, 100 * MS).unwrap())
        .build();
    let mut service = layer.layer(Backend::new().service::<BoxError>());
    let held = layer.limiter().try_acquire().unwrap();
    let [low] = Criticality::SheddablePlus.scope(async { [service.ready().await.unwrap().call(1)] }).await;
    let [high] = Criticality::Critical.scope(async { [service.ready().await.unwrap().call(2)] }).await;
    let high = Criticality::Sheddable.scope(high);
    assert_eq!(low.await.unwrap_err().rejected().unwrap().reason(), Reason::Overloaded);
    drop(held);
    assert_eq!(high.await.unwrap(), 2);
}

/// tower's `Buffer` and tonic's channels send in `call`.
#[tokio::test(start_paused = true)]
async fn the_service_is_not_called_before_there_is_a_permit() {
    let backend = Backend::new();
    backend.ready_after(1);
    let layer = BulkheadLayer::builder("call", Limit::fixed(1).unwrap())
        .queue(Queue::try_new(1, 100 * MS).unwrap())
        .build();
    let mut service = layer.layer(backend.service::<BoxError>());
    let held = layer.limiter().try_acquire().unwrap();
    let call = tokio::spawn(service.ready().await.unwrap().call(1));
    sleep(50 * MS).await;
    assert_eq!((backend.calls(), backend.reservations()), (0, 1), "the ready one waits with it");
    drop(held);
    assert_eq!(call.await.unwrap().unwrap(), 1);
    assert_eq!((backend.calls(), backend.unready_calls(), backend.reservations()), (1, 0, 0));
}
