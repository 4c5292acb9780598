//! The contract of every service.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_balance::{Balance, Change, Ejection, Endpoint, State};
use buttress_core::{BoxError, Deadline, Reason, Rejectable};
use buttress_testkit::{
    allocations,
    probe::{
        Backend, Probed, calls_only_ready, cancel_everywhere, drop_after, releases_readiness, survives_panic,
    },
};
use tokio::{
    sync::Semaphore,
    time::{Instant, advance, sleep, timeout},
};
use tower::{
    Layer, Service, ServiceExt,
    limit::ConcurrencyLimit,
    service_fn,
    util::{BoxCloneSyncService, ServiceFn},
};

const MS: Duration = Duration::from_millis(1);

type Probes = Balance<u32, Probed>;

fn over(services: impl IntoIterator<Item = Probed>) -> Probes {
    Balance::builder("contract").build((0..).zip(services.into_iter().map(Endpoint::new)))
}

/// So many endpoints with the same backend behind them.
struct Copies(u32);

impl Layer<Probed> for Copies {
    type Service = Probes;

    fn layer(&self, inner: Probed) -> Probes {
        over((0..self.0).map(|_| inner.clone()))
    }
}

fn pending<S>(balance: &Balance<u32, S>) -> u32 {
    balance.balancer().snapshot().endpoints.iter().map(|endpoint| endpoint.pending).sum()
}

fn no_waker() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_readiness_contract() {
    for endpoints in [1, 2, 5] {
        calls_only_ready(Copies(endpoints)).await;
        releases_readiness(Copies(endpoints)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing() {
    for endpoints in [1, 2, 5] {
        let nothing_left = |backend: &Backend| assert_eq!(backend.reservations(), 0);
        cancel_everywhere(Copies(endpoints), |_| {}, nothing_left).await;
    }
    for polls in 1..9 {
        let backend = Backend::new();
        backend.ready_after(2).reply_after(3);
        let balance = over([backend.service(), backend.service()]);
        let ended = drop_after(polls, false, balance.clone().oneshot(1)).await;
        assert_eq!((pending(&balance), backend.reservations()), (0, 0), "after {polls}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_breaks_nothing() {
    for endpoints in [1, 3] {
        survives_panic(Copies(endpoints)).await;
    }
    let balance = Balance::builder("panics").build([(
        1,
        Endpoint::new(service_fn(async |panics: bool| if panics { panic!() } else { Ok::<_, BoxError>(()) })),
    )]);
    assert!(tokio::spawn(balance.clone().oneshot(true)).await.is_err());
    assert_eq!(pending_of(&balance), 0);
    balance.oneshot(false).await.unwrap();
}

fn pending_of<S>(balance: &Balance<i32, S>) -> u32 {
    balance.balancer().snapshot().endpoints.iter().map(|endpoint| endpoint.pending).sum()
}

#[tokio::test(start_paused = true)]
async fn clones_share_their_endpoints_and_what_is_known_of_them() {
    let backend = Backend::new();
    let (one, other) = {
        let balance = over([backend.service()]);
        (balance.clone(), balance)
    };
    one.balancer().eject(&0);
    assert_eq!(other.balancer().snapshot().endpoints[0].state, State::EjectedByHand);
    one.members().apply(Change::Remove(0));
    assert_eq!(other.oneshot(1).await.unwrap_err().rejected().unwrap().reason(), Reason::NoEndpoint);
}

/// Three endpoints, of which the first two chosen are not ready for long: the third is taken, in two polls.
#[tokio::test(start_paused = true)]
async fn a_call_takes_whichever_endpoint_is_ready() {
    for _ in 0..20 {
        let (full, free) = (Backend::new(), Backend::new());
        full.ready_after(1_000_000);
        let balance = over([full.service(), full.service(), free.service()]);
        assert_eq!(balance.clone().oneshot(7).await.unwrap(), 7);
        assert_eq!((full.calls(), free.calls(), free.unready_calls()), (0, 1, 0));
        assert_eq!((full.reservations(), free.reservations()), (0, 0));
    }
}

/// While all wait, nobody polls: neither the call itself nor a timer.
#[tokio::test(start_paused = true)]
async fn regression_28_a_call_that_waits_does_not_spin() {
    let polls = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let endpoint = || Endpoint::new(Gated::with_semaphore(service_fn(echo as Echo), Arc::clone(&gate)));
    let balance = Balance::builder("spins").build([(0, endpoint()), (1, endpoint()), (2, endpoint())]);
    // One of them is out and comes back meanwhile.
    let counted = Arc::clone(&polls);
    let call = balance.clone().oneshot(1);
    let waits = tokio::spawn(async move {
        let mut call = pin!(call);
        std::future::poll_fn(|cx| {
            counted.fetch_add(1, Relaxed);
            call.as_mut().poll(cx)
        })
        .await
    });
    sleep(Duration::from_secs(300)).await;
    assert_eq!(polls.load(Relaxed), 1);
    // A change of the endpoints wakes it once.
    balance.balancer().eject(&0);
    sleep(MS).await;
    assert_eq!(polls.load(Relaxed), 2);
    gate.add_permits(1);
    assert_eq!(waits.await.unwrap().unwrap(), 1);
    assert!(polls.load(Relaxed) <= 4, "{polls:?}");
    assert_eq!(gate.available_permits(), 1, "what was ready as well is given back");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_sees_endpoints_that_come_and_ends_at_its_deadline() {
    let full = || Endpoint::new(Gated::with_semaphore(service_fn(echo as Echo), Arc::new(Semaphore::new(0))));
    let balance = Balance::builder("waits").build([(0, full()), (1, full())]);
    let began = Instant::now();
    let late = Deadline::after(50 * MS).scope(balance.clone().oneshot(1)).await.unwrap_err();
    let rejected = *late.rejected().unwrap();
    assert_eq!(
        (rejected.reason(), rejected.sent(), rejected.layer()),
        (Reason::DeadlineExceeded, false, "balance")
    );
    assert!((50 * MS..60 * MS).contains(&began.elapsed()));

    let waits = tokio::spawn(balance.clone().oneshot(2));
    sleep(MS).await;
    // The one that it waits for alone is gone, and another comes.
    balance.members().apply(Change::Remove(1));
    balance.members().apply(Change::Remove(0));
    let free = Gated::with_semaphore(service_fn(echo as Echo), Arc::new(Semaphore::new(1)));
    let next = tokio::spawn(balance.clone().oneshot(3));
    assert_eq!(next.await.unwrap().unwrap_err().rejected().unwrap().reason(), Reason::NoEndpoint);
    assert_eq!(
        timeout(MS, waits).await.unwrap().unwrap().unwrap_err().rejected().unwrap().reason(),
        Reason::NoEndpoint
    );

    balance.members().apply(Change::Insert(2, full()));
    let waits = tokio::spawn(balance.clone().oneshot(2));
    sleep(MS).await;
    balance.members().apply(Change::Insert(9, Endpoint::new(free)));
    assert_eq!(timeout(MS, waits).await.unwrap().unwrap().unwrap(), 2);
}

type Echo = fn(u32) -> std::future::Ready<io::Result<u32>>;
/// It is ready while its semaphore has a permit.
type Gated = ConcurrencyLimit<ServiceFn<Echo>>;

fn echo(n: u32) -> std::future::Ready<io::Result<u32>> {
    std::future::ready(Ok(n))
}

/// An endpoint's ejection is over while nobody calls, and the one call that waits learns of it.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_sees_one_come_back_by_itself() {
    let gate = Arc::new(Semaphore::new(0));
    let breaks = Arc::new(AtomicBool::new(true));
    let shared = Arc::clone(&breaks);
    let flaky = service_fn(move |n: u32| {
        std::future::ready(if shared.load(Relaxed) { Err(io::Error::other("broken")) } else { Ok(n) })
    });
    let flaky = BoxCloneSyncService::new(flaky);
    let gated = BoxCloneSyncService::new(Gated::with_semaphore(service_fn(echo as Echo), gate));
    let once = Ejection::try_new(1, Duration::from_secs(30), 0.5).unwrap();
    let balance =
        Balance::builder("back").ejection(once).build([(0, Endpoint::new(flaky)), (1, Endpoint::new(gated))]);
    balance.clone().oneshot(1).await.unwrap_err();
    breaks.store(false, Relaxed);
    let began = Instant::now();
    assert_eq!(balance.clone().oneshot(1).await.unwrap(), 1);
    let waited = began.elapsed().as_secs();
    assert!((30..=33).contains(&waited), "{waited}");
}

/// The last clone is gone, as in `oneshot`: the call ends all the same.
#[tokio::test(start_paused = true)]
async fn a_call_outlives_its_balancer() {
    let backend = Backend::new();
    backend.ready_after(3).reply_after(3);
    let balance = over([backend.service(), backend.service()]);
    assert_eq!(balance.oneshot(5).await.unwrap(), 5);
    assert_eq!((backend.calls(), backend.unready_calls(), backend.reservations()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_endpoints_a_call_is_refused_at_once() {
    let balance = over([]);
    let error = balance.clone().oneshot(1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "balance `contract`: there is no endpoint to send it to; the call was not sent"
    );
    let backend = Backend::new();
    balance.members().replace(vec![(3, Endpoint::new(backend.service()))]);
    balance.clone().oneshot(1).await.unwrap();
    balance.members().replace(Vec::new());
    assert!(balance.members().is_empty());
    assert_eq!(balance.oneshot(1).await.unwrap_err().rejected().unwrap().reason(), Reason::NoEndpoint);
}

#[tokio::test(start_paused = true)]
async fn a_call_allocates_nothing_whether_its_answer_waits_or_not() {
    let after = |polls: u32| {
        let mut left = polls;
        std::future::poll_fn(move |_| {
            if left == 0 {
                return Poll::Ready(Ok::<_, BoxError>(polls));
            }
            left -= 1;
            Poll::Pending
        })
    };
    let mut balance =
        Balance::builder("allocates").build([1_u32, 2, 3].map(|key| (key, Endpoint::new(service_fn(after)))));
    let mut call = |polls: u32| {
        let mut call = pin!(balance.call(polls));
        (0..polls).for_each(|_| assert!(call.as_mut().poll(&mut no_waker()).is_pending()));
        assert!(call.as_mut().poll(&mut no_waker()).is_ready());
    };
    // The first makes what is each thread's.
    call(1);
    let counted = allocations(|| (0..100).for_each(|polls| call(polls % 3)));
    assert_eq!(counted.count, 0);
    advance(MS).await;
}
