//! When a batch goes, and who is in it.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason};
use support::{Backend, MS, all, batching, call, call_in_turn, layer, rejected, settle};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceExt};

#[tokio::test(start_paused = true)]
async fn regression_25_who_finds_nothing_in_flight_goes_at_once() {
    let backend = Backend::taking(MS);
    let service = batching("regression_25_at_once", &backend);
    let start = Instant::now();
    for round in 1..=10 {
        assert_eq!(service.clone().oneshot(round).await.unwrap(), round * 10);
        assert_eq!(start.elapsed(), round * MS);
    }
    // After a batch of several too, by a task.
    all(call_in_turn(&service, 0..5).await).await;
    let start = Instant::now();
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 10);
    assert_eq!(start.elapsed(), MS);
    assert_eq!(backend.sizes()[..10], [1; 10]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_batch_is_in_flight_makes_up_the_next() {
    let backend = Backend::taking(MS);
    let service = batching("natural", &backend);
    let start = Instant::now();
    let calls = call_in_turn(&service, 0..50).await;
    // The first goes alone, in its own task; the second does not wait for it.
    assert_eq!(backend.batches(), [[0], [1]]);
    let results = all(calls).await;
    assert_eq!(results, (0..50).map(|request| Ok(request * 10)).collect::<Vec<_>>());
    assert_eq!(backend.batches()[2], (2..50).collect::<Vec<_>>());
    assert_eq!((backend.batches().len(), start.elapsed()), (3, 2 * MS));
}

#[tokio::test(start_paused = true)]
async fn those_who_come_together_go_together() {
    let backend = Backend::taking(MS);
    let service = batching("together", &backend);
    let callers = |rounds: u32| {
        (0..64).map(move |caller| (caller, rounds)).map(|(caller, rounds)| {
            let service = service.clone();
            tokio::spawn(async move {
                for round in 0..rounds {
                    let request = caller * 100 + round;
                    assert_eq!(service.clone().oneshot(request).await, Ok(request * 10));
                }
            })
        })
    };
    for caller in callers(20).collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    // Not 1 and 63 by turns.
    let sizes = backend.sizes();
    assert_eq!(sizes.iter().sum::<usize>(), 64 * 20);
    assert!(sizes.len() <= 23, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_by_size_and_first_come_first_served() {
    let backend = Backend::taking(MS);
    let service = layer("by_size").max_size(4).layer(backend.clone());
    let calls = call_in_turn(&service, 0..12).await;
    let start = Instant::now();
    all(calls).await;
    assert_eq!(backend.sizes(), [1, 1, 4, 4, 2]);
    assert_eq!(backend.batches().concat(), (0..12).collect::<Vec<_>>());
    assert_eq!(start.elapsed(), 4 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_by_weight_and_what_is_heavier_goes_alone() {
    let backend = Backend::taking(MS);
    let service = layer("by_weight").max_weight(10, |request| u64::from(*request)).layer(backend.clone());
    let calls = call_in_turn(&service, [1, 1, 4, 4, 4, 6, 50, 3, 3, 3, 3]).await;
    all(calls).await;
    assert_eq!(
        backend.batches(),
        [vec![1], vec![1], vec![4, 4], vec![4, 6], vec![50], vec![3, 3, 3], vec![3]]
    );
}

#[tokio::test(start_paused = true)]
async fn so_many_batches_at_once() {
    let backend = Backend::taking(MS);
    let service = layer("in_flight").max_size(2).in_flight(3).layer(backend.clone());
    let calls = call_in_turn(&service, 0..20).await;
    // The lone first one, and one for each of the next three.
    assert_eq!(backend.sizes(), [1, 1, 1, 1]);
    let start = Instant::now();
    all(calls).await;
    assert_eq!(backend.sizes()[4..], [2; 8]);
    assert_eq!(start.elapsed(), 4 * MS, "1 of each, then three times 3 of 2");
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_bound_is_refused_at_once() {
    let backend = Backend::taking(MS);
    let service = layer("overloaded").max_waiting(10).layer(backend.clone());
    let calls = call_in_turn(&service, 0..12).await;
    assert_eq!(service.batch().stats().waiting, 10);
    let start = Instant::now();
    let refused = rejected(service.clone().oneshot(13).await);
    assert_eq!((refused.reason(), refused.sent()), (Reason::Overloaded, false));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(all(calls).await.into_iter().all(|result| result.is_ok()));
    assert_eq!(service.oneshot(1).await, Ok(10));
    assert!(!backend.batches().concat().contains(&13));
}

#[tokio::test(start_paused = true)]
async fn who_lingers_waits_for_others_once() {
    let backend = Backend::taking(MS);
    let service = layer("linger").linger(5 * MS).max_size(4).layer(backend.clone());
    let start = Instant::now();
    let first = call(&service, 0);
    settle().await;
    advance(3 * MS).await;
    let second = call(&service, 1);
    assert_eq!(all(vec![first, second]).await, [Ok(0), Ok(10)]);
    assert_eq!((start.elapsed(), backend.batches()), (6 * MS, vec![vec![0, 1]]), "from the first one on");

    // A full batch goes at once.
    let start = Instant::now();
    all(call_in_turn(&service, 0..4).await).await;
    assert_eq!(start.elapsed(), MS);
}

#[tokio::test(start_paused = true)]
async fn nobody_lingers_at_the_cost_of_a_deadline() {
    let backend = Backend::taking(MS);
    let service = layer("linger_deadline").linger(5 * MS).layer(backend.clone());
    let start = Instant::now();
    let first = call(&service, 0);
    settle().await;
    advance(MS).await;
    let late = Deadline::after(9 * MS).scope(service.clone().oneshot(1));
    assert_eq!(tokio::spawn(late).await.unwrap(), Ok(10));
    assert_eq!(first.await.unwrap(), Ok(0));
    assert_eq!(start.elapsed(), 2 * MS);

    let start = Instant::now();
    let patient = Deadline::after(11 * MS).scope(service.oneshot(1));
    assert_eq!(tokio::spawn(patient).await.unwrap(), Ok(10));
    assert_eq!(start.elapsed(), 6 * MS);
    assert_eq!(backend.sizes(), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn figures_are_told() {
    use buttress_core::Observe;
    let backend = Backend::taking(MS);
    let service = batching("figures", &backend);
    all(call_in_turn(&service, 0..10).await).await;
    let stats = service.batch().stats();
    assert_eq!((stats.batches, stats.items, stats.waiting, stats.failed), (3, 10, 0, 0));
    assert!((stats.mean_size() - 10.0 / 3.0).abs() < 1e-9);
    let mut seen = Vec::new();
    service.batch().observe(&mut |metric| seen.push(format!("{} {:?}", metric.name, metric.value)));
    assert!(seen.contains(&"batches Counter(3)".to_owned()), "{seen:?}");
    assert!(seen.contains(&"waiting Gauge(0.0)".to_owned()), "{seen:?}");
    assert_eq!(format!("{service:?}"), "Batched { origin: batch `figures`, .. }");
}

#[tokio::test(start_paused = true)]
async fn a_linger_begins_anew_when_all_it_was_for_have_gone() {
    let backend = Backend::taking(MS);
    let service = layer("anew").linger(100 * MS).layer(backend.clone());
    let gone = call(&service, 1);
    settle().await;
    gone.abort();
    sleep(99 * MS).await;
    let start = Instant::now();
    assert_eq!(call(&service, 2).await.unwrap(), Ok(20));
    assert_eq!(start.elapsed(), 101 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_linger_without_end_waits_for_a_full_batch() {
    let backend = Backend::taking(MS);
    let service = layer("without_end").linger(Duration::MAX).max_size(2).layer(backend.clone());
    let first = call(&service, 1);
    sleep(Duration::from_secs(10)).await;
    assert!(backend.batches().is_empty());
    assert_eq!(all(vec![first, call(&service, 2)]).await, [Ok(10), Ok(20)]);
}

#[tokio::test(start_paused = true)]
async fn weights_of_any_size_add_up() {
    let backend = Backend::taking(MS);
    let service =
        layer("any_size").max_weight(u64::MAX, |_| u64::MAX).linger(100 * MS).layer(backend.clone());
    let start = Instant::now();
    all(call_in_turn(&service, [1, 2, 3]).await).await;
    // The last is as heavy as a batch may be, as the others were, and does not linger.
    assert_eq!((start.elapsed(), backend.sizes()), (3 * MS, vec![1, 1, 1]));
}
