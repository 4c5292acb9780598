//! Requests with equal keys.

mod support;

use buttress_core::Reason;
use support::{Backend, Failure, MISSING, MS, all, call_in_turn, layer, rejected};
use tower::{Layer, ServiceExt};

#[tokio::test(start_paused = true)]
async fn equal_keys_are_loaded_once_in_a_batch() {
    let backend = Backend::taking(MS);
    let service = layer("once").dedupe(|request| *request).layer(backend.clone());
    let calls = call_in_turn(&service, [0, 1, 5, 6, 5, 7, MISSING, 6, 5, MISSING]).await;
    let missing = || Err(Failure::NotFound(MISSING));
    let expected = [Ok(0), Ok(10), Ok(50), Ok(60), Ok(50), Ok(70), missing(), Ok(60), Ok(50), missing()];
    assert_eq!(all(calls).await, expected);
    assert_eq!(backend.batches(), [vec![0], vec![1], vec![5, 6, 7, MISSING]]);
    // Nothing is kept.
    assert_eq!(service.clone().oneshot(5).await, Ok(50));
    assert_eq!(backend.batches().len(), 4);
    let stats = service.batch().stats();
    assert_eq!((stats.batches, stats.items), (4, 11));
}

#[tokio::test(start_paused = true)]
async fn equal_ones_take_no_room() {
    let backend = Backend::taking(MS);
    let service = layer("no_room")
        .max_size(3)
        .max_weight(30, |request| u64::from(*request))
        .dedupe(|request| *request)
        .layer(backend.clone());
    let requests = [0, 1, 5, 5, 5, 6, 5, 6, 7, 5, 8, 7, 20, 9, 20, 2, 2];
    all(call_in_turn(&service, requests).await).await;
    assert_eq!(
        backend.batches(),
        [vec![0], vec![1], vec![5, 6, 7], vec![5, 8, 7], vec![20, 9], vec![20, 2]],
        "a full batch takes nobody more"
    );
}

#[tokio::test(start_paused = true)]
async fn who_shares_with_one_who_left_has_his_result() {
    let backend = Backend::taking(10 * MS);
    let service = layer("shares").dedupe(|request| *request).layer(backend.clone());
    let mut calls = call_in_turn(&service, [0, 1, 5, 5, 6, 6]).await;
    tokio::time::sleep(15 * MS).await;
    calls.remove(4).abort();
    calls.remove(2).abort();
    assert_eq!(all(calls).await, [Ok(0), Ok(10), Ok(50), Ok(60)]);
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_request_fails_for_all_who_share_it() {
    let backend = Backend::poisoned_by([5]);
    let service = layer("shared_poison").dedupe(|request| *request).bisect(|_| true).layer(backend.clone());
    let calls = call_in_turn(&service, [0, 1, 4, 5, 6, 5, 4]).await;
    let poison = || Err(Failure::Poison);
    assert_eq!(all(calls).await, [Ok(0), Ok(10), Ok(40), poison(), Ok(60), poison(), Ok(40)]);

    let calls = call_in_turn(&service, [2, 3, 7, 7]).await;
    backend.fail_once(Failure::Lost);
    let results = all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_or_a_clone_that_panics_harms_its_batch() {
    #[derive(Debug)]
    struct Fragile(u32);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 13, "it is not cloned");
            Self(self.0)
        }
    }
    let layer = buttress_batch::BatchLayer::<u32, Fragile, Failure>::new("fragile").dedupe(|request| {
        assert_ne!(*request, 99, "it has no key");
        *request
    });
    let service = layer.layer(tower::service_fn(async |requests: Vec<u32>| {
        tokio::time::sleep(MS).await;
        Ok(requests.into_iter().map(|request| Ok(Fragile(request))).collect())
    }));
    for (bad, sent) in [(13, true), (99, false)] {
        // A lone one, so that the next goes alone.
        assert_eq!(service.clone().oneshot(3).await.unwrap().0, 3);
        let mut calls = Vec::new();
        for request in [0, 1, 2, bad, bad] {
            let call = service.clone().oneshot(request);
            calls.push(tokio::spawn(async { call.await.map(|fragile| fragile.0) }));
            support::settle().await;
        }
        let results = all(calls).await;
        assert_eq!(results[..2], [Ok(0), Ok(1)]);
        for result in results.into_iter().skip(2) {
            let rejected = rejected(result);
            assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, sent), "{bad}");
        }
    }
    assert_eq!(service.oneshot(3).await.unwrap().0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_harms_no_batch_behind_it() {
    let backend = Backend::taking(MS);
    let key = |request: &u32| {
        assert_ne!(*request, 99, "it has no key");
        *request
    };
    let service = layer("no_batch_behind").max_size(2).dedupe(key).layer(backend.clone());
    let results = all(call_in_turn(&service, [0, 1, 99, 2, 3, 4, 5, 6]).await).await;
    assert!(results[2..4].iter().all(Result::is_err));
    assert_eq!(results[4..], [Ok(30), Ok(40), Ok(50), Ok(60)]);
}

#[tokio::test(start_paused = true)]
async fn batches_beside_each_other_are_bisected_each_by_itself() {
    let backend = Backend::poisoned_by([110, 125]);
    let service = layer("beside")
        .max_size(8)
        .in_flight(3)
        .bisect(|error| *error == Failure::Poison)
        .dedupe(|request| *request)
        .layer(backend.clone());
    let requests = (0..200).map(|n| 100 + n % 30);
    let calls = call_in_turn(&service, requests.clone()).await;
    for (request, result) in requests.zip(all(calls).await) {
        let poison = [110, 125].contains(&request);
        assert_eq!(result, if poison { Err(Failure::Poison) } else { Ok(request * 10) });
    }
    assert_eq!(service.batch().stats().failed, 0);
}
