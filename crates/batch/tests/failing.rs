//! What becomes of a batch that fails, and of those after it.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use buttress_core::{Origin, Reason};
use support::{
    Answer, Backend, Failure, MISSING, MS, all, batching, call, call_in_turn, layer, rejected, settle,
};
use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Makes the next calls go by a worker, and the given ones together.
async fn together<S>(service: &S, requests: impl IntoIterator<Item = u32>) -> Vec<Result<u32, Failure>>
where
    S: Service<u32, Response = u32, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let before = call_in_turn(service, [1, 2]).await;
    let calls = call_in_turn(service, requests).await;
    all(before).await.into_iter().for_each(|result| _ = result.unwrap());
    all(calls).await
}

#[tokio::test(start_paused = true)]
async fn each_request_has_its_own_error() {
    let backend = Backend::taking(MS);
    let service = batching("own_error", &backend);
    let results = together(&service, [3, MISSING, 4]).await;
    assert_eq!(results, [Ok(30), Err(Failure::NotFound(MISSING)), Ok(40)]);
    assert_eq!(service.batch().stats().failed, 0);
}

#[tokio::test(start_paused = true)]
async fn regression_26_of_a_hundred_only_the_poison_fails() {
    let backend = Backend::poisoned_by([142]);
    let service = layer("regression_26").bisect(|error| *error == Failure::Poison).layer(backend.clone());
    let results = together(&service, 100..200).await;
    for (request, result) in (100..200).zip(results) {
        assert_eq!(result, if request == 142 { Err(Failure::Poison) } else { Ok(request * 10) });
    }
    assert!(backend.batches().len() <= 2 + 15, "{:?}", backend.sizes());
    let stats = service.batch().stats();
    assert_eq!((stats.batches, stats.failed, stats.splits), (3, 0, (backend.batches().len() as u64 - 3) / 2));
}

#[tokio::test(start_paused = true)]
async fn several_poisoned_requests_fail_each_by_itself() {
    let poison = [100, 101, 177, 350, 499];
    let backend = Backend::poisoned_by(poison);
    let service = layer("several").bisect(|error| *error == Failure::Poison).layer(backend.clone());
    let results = together(&service, 100..500).await;
    for (request, result) in (100..500).zip(results) {
        let expected = if poison.contains(&request) { Err(Failure::Poison) } else { Ok(request * 10) };
        assert_eq!(result, expected);
    }
    assert!(backend.batches().len() <= 2 + 1 + 5 * 2 * 9, "{}", backend.batches().len());
}

#[tokio::test(start_paused = true)]
async fn each_of_a_batch_that_is_all_poison_fails_with_its_own_error() {
    let backend = Backend::poisoned_by(100..1_000);
    let service = layer("all_poison").bisect(|error| *error == Failure::Poison).layer(backend.clone());
    for result in together(&service, 100..1_000).await {
        assert_eq!(result, Err(Failure::Poison));
    }
    assert_eq!(backend.batches().len(), 2 + 2 * 900 - 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_carried_out_is_not_sent_again() {
    let backend = Backend::taking(MS);
    let service = layer("lost").bisect(|error| *error == Failure::Poison).layer(backend.clone());
    let before = call_in_turn(&service, [1, 2]).await;
    let calls = call_in_turn(&service, 3..13).await;
    all(before).await;
    backend.fail_once(Failure::Lost);
    for result in all(calls).await {
        let rejected = rejected(result);
        assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, true));
    }
    assert_eq!(backend.sizes(), [1, 1, 10]);

    // By default nothing is.
    let backend = Backend::poisoned_by([5]);
    let service = batching("no_bisection", &backend);
    assert!(together(&service, 3..13).await.into_iter().all(|result| rejected(result).sent()));
    assert_eq!(backend.sizes(), [1, 1, 10]);
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_in_a_batch_gets_its_error() {
    let backend = Backend::poisoned_by([1, 2]);
    let service = batching("alone", &backend);
    let calls = call_in_turn(&service, [1, 2]).await;
    assert_eq!(all(calls).await, [Err(Failure::Poison), Err(Failure::Poison)]);
    assert_eq!(backend.sizes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_from_inside_is_everybodys_answer() {
    let backend = Backend::taking(MS);
    let service = batching("refusal", &backend);
    let before = call_in_turn(&service, [1, 2]).await;
    let calls = call_in_turn(&service, [3, 4]).await;
    all(before).await;
    let refusal = Origin::new("circuit-breaker", "inside").reject(Reason::CircuitOpen);
    backend.fail_once(Failure::Rejected(refusal));
    assert!(all(calls).await.into_iter().all(|result| rejected(result) == refusal));
}

#[tokio::test(start_paused = true)]
async fn regression_25_one_failed_batch_poisons_nothing() {
    let backend = Backend::taking(MS);
    let service = batching("regression_25", &backend);
    for _ in 0..3 {
        let before = call_in_turn(&service, [1, 2]).await;
        let calls = call_in_turn(&service, [3, 4]).await;
        all(before).await;
        backend.fail_once(Failure::Lost);
        assert!(all(calls).await.into_iter().all(|result| result.is_err()));
        assert_eq!(service.clone().oneshot(5).await, Ok(50));
    }
    assert_eq!(service.batch().stats().failed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_fails_that_batch() {
    for wrong in [0, 1, 3, 100] {
        let results = move |requests: Vec<u32>| match requests.as_slice() {
            [3, 4] | [7] => wrong,
            _ => requests.len(),
        };
        let service = layer("wrong_number").layer(service_fn(move |requests: Vec<u32>| async move {
            sleep(MS).await;
            let answer: Answer = Ok((0..results(requests)).map(|at| Ok(at as u32)).collect());
            answer
        }));
        let before = call_in_turn(&service, [1, 2]).await;
        let calls = call_in_turn(&service, [3, 4]).await;
        assert!(all(before).await.into_iter().all(|result| result.is_ok()));
        for result in all(calls).await {
            let rejected = rejected(result);
            assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, true));
        }
        assert_eq!(service.clone().oneshot(5).await, Ok(0));
        let alone = service.clone().oneshot(7).await;
        assert_eq!(alone.is_err(), wrong != 1, "{alone:?}");
        assert_eq!(service.oneshot(5).await, Ok(0));
    }
}

/// Panics once where it is told to.
#[derive(Clone)]
struct Panicking {
    at: Arc<AtomicU32>,
    inside: Backend,
}

const NEVER: u32 = 0;
const READY: u32 = 1;
const CALL: u32 = 2;
const FUTURE: u32 = 3;
const UNREADY: u32 = 4;

impl Panicking {
    fn strikes(&self, here: u32) -> bool {
        self.at.compare_exchange(here, NEVER, Relaxed, Relaxed).is_ok()
    }
}

impl Service<Vec<u32>> for Panicking {
    type Response = Vec<Result<u32, Failure>>;
    type Error = Failure;
    type Future = std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.strikes(READY) {
            panic!("when it is asked whether it is ready");
        }
        Poll::Ready(if self.strikes(UNREADY) { Err(Failure::Lost) } else { Ok(()) })
    }

    fn call(&mut self, requests: Vec<u32>) -> Self::Future {
        assert!(!self.strikes(CALL), "when it is called");
        let (strikes, call) = (self.strikes(FUTURE), self.inside.call(requests));
        Box::pin(async move {
            let answer = call.await;
            assert!(!strikes, "while it is called");
            answer
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_harms_its_batch_only() {
    for (at, sent) in [(READY, false), (CALL, true), (FUTURE, true), (UNREADY, false)] {
        let panics = Arc::new(AtomicU32::new(NEVER));
        let inside = Panicking { at: panics.clone(), inside: Backend::taking(MS) };
        let service = layer("panics").max_size(3).layer(inside);
        let before = call_in_turn(&service, [1, 2]).await;
        let calls = call_in_turn(&service, 3..9).await;
        panics.store(at, Relaxed);
        let mut results = all(calls).await;
        assert!(all(before).await.into_iter().all(|result| result.is_ok()));
        for result in results.drain(..3) {
            let rejected = rejected(result);
            assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, sent), "{at}");
        }
        assert_eq!(results, [Ok(60), Ok(70), Ok(80)]);
        assert_eq!(service.batch().stats().failed, 1);
        // A lone caller gets it himself.
        assert_eq!(service.clone().oneshot(4).await, Ok(40));
        settle().await;
        panics.store(at, Relaxed);
        let alone = call(&service, 5).await;
        assert_eq!(alone.as_ref().is_err_and(|error| error.is_panic()), at != UNREADY, "{alone:?}");
        assert_eq!(service.clone().oneshot(6).await, Ok(60));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_users_functions_harms_no_other() {
    let backend = Backend::taking(MS);
    let service = layer("users_functions")
        .max_weight(100, |request| if *request == 13 { panic!("it weighs it") } else { 1 })
        .bisect(|_| panic!("it judges"))
        .layer(backend.clone());
    let before = call_in_turn(&service, [1, 2]).await;
    let calls = call_in_turn(&service, [3, 13, 4]).await;
    all(before).await;
    backend.fail_once(Failure::Poison);
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.await);
    }
    assert!(ends[1].as_ref().is_err_and(|error| error.is_panic()));
    for end in [ends.remove(0), ends.pop().unwrap()] {
        let rejected = rejected(end.unwrap());
        assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, true));
    }
    assert_eq!(service.oneshot(5).await, Ok(50));
}

#[tokio::test]
async fn a_clone_that_panics_harms_the_batch_and_whoever_is_alone() {
    struct Touchy(Arc<AtomicU32>, Backend);
    impl Clone for Touchy {
        fn clone(&self) -> Self {
            assert_ne!(self.0.load(Relaxed), CALL, "it is not cloned");
            Self(self.0.clone(), self.1.clone())
        }
    }
    impl Service<Vec<u32>> for Touchy {
        type Response = Vec<Result<u32, Failure>>;
        type Error = Failure;
        type Future = <Backend as Service<Vec<u32>>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            self.1.poll_ready(cx)
        }

        fn call(&mut self, requests: Vec<u32>) -> Self::Future {
            self.1.call(requests)
        }
    }
    let panics = Arc::new(AtomicU32::new(CALL));
    let service = layer("touchy").layer(Touchy(panics.clone(), Backend::taking(MS)));
    for _ in 0..2 {
        assert!(call(&service, 1).await.is_err_and(|error| error.is_panic()));
    }
    panics.store(NEVER, Relaxed);
    let first = call(&service, 1);
    settle().await;
    panics.store(CALL, Relaxed);
    let second = call(&service, 2).await.map_err(|_| "it is told").and_then(identity_ok).unwrap();
    assert_eq!((second.reason(), second.sent()), (Reason::BatchFailed, false));
    panics.store(NEVER, Relaxed);
    assert_eq!(first.await.unwrap(), Ok(10));
    assert_eq!(service.oneshot(3).await, Ok(30));

    fn identity_ok(result: Result<u32, Failure>) -> Result<buttress_core::Rejected, &'static str> {
        Ok(rejected(result))
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_shared_is_everybodys() {
    let backend = Backend::poisoned_by([7]);
    let layer = layer("shared").bisect(|error| *error == Failure::Poison).share_errors();
    let service = layer.layer(backend.clone());
    backend.fail_once(Failure::Lost);
    let first = service.clone().oneshot(1).await;
    assert_eq!(first, Err(Failure::Lost));

    // What one of them caused is still his alone.
    for (request, result) in (2..20).zip(together(&service, 2..20).await) {
        assert_eq!(result, if request == 7 { Err(Failure::Poison) } else { Ok(request * 10) });
    }

    let backend = Backend::taking(MS);
    let service = layer.layer(backend.clone());
    let before = call_in_turn(&service, [20, 21]).await;
    let calls = call_in_turn(&service, 22..32).await;
    all(before).await;
    backend.fail_once(Failure::Lost);
    for result in all(calls).await {
        assert_eq!(result, Err(Failure::Lost));
    }
    assert_eq!(backend.sizes(), [1, 1, 10]);
}

#[tokio::test(start_paused = true)]
async fn one_who_left_makes_no_failure_of_a_bisection() {
    let backend = Backend::poisoned_by([142]);
    let service = layer("left").bisect(|error| *error == Failure::Poison).layer(backend.clone());
    let before = call_in_turn(&service, [1, 2]).await;
    let mut calls = call_in_turn(&service, 140..148).await;
    all(before).await;
    calls.remove(7).abort();
    all(calls).await;
    settle().await;
    let stats = service.batch().stats();
    assert_eq!((stats.failed, stats.abandoned), (0, 0), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_half_that_is_refused_may_have_been_sent_with_the_whole() {
    // It does no harm to do it again.
    let lost = |error: &Failure| *error == Failure::Lost;
    let refusal = Origin::new("circuit-breaker", "half").reject(Reason::CircuitOpen);
    let service = layer("half").bisect(lost).layer(service_fn(move |requests: Vec<u32>| async move {
        sleep(MS).await;
        let answer: Answer = match requests.len() {
            3 => Err(Failure::Lost),
            _ if requests[0] < 3 => Ok(vec![Ok(0)]),
            _ => Err(Failure::Rejected(refusal)),
        };
        answer
    }));
    for result in together(&service, 3..6).await {
        let rejected = rejected(result);
        assert_eq!((rejected.reason(), rejected.sent()), (Reason::CircuitOpen, true));
    }
}

/// Is ready at once, and panics when it is dropped with 13 in it.
struct Touchy(Vec<u32>);

impl Future for Touchy {
    type Output = Answer;

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(Ok(self.0.iter().map(|request| Ok(*request)).collect()))
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(!self.0.contains(&13), "it is dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_when_it_is_dropped_is_over() {
    let service = layer("dropped").layer(service_fn(Touchy));
    assert!(call(&service, 13).await.is_err_and(|error| error.is_panic()));
    timeout(MS, service.batch().close()).await.expect("nothing is left to do");
}

#[tokio::test(start_paused = true)]
async fn a_lone_call_that_panics_at_once_is_counted() {
    let service = layer("counted").layer(service_fn(|requests: Vec<u32>| {
        assert!(requests.is_empty(), "it is called");
        std::future::ready::<Answer>(Ok(Vec::new()))
    }));
    assert!(call(&service, 1).await.is_err());
    let stats = service.batch().stats();
    assert_eq!((stats.batches, stats.abandoned), (1, 1));
}
