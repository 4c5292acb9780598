//! A stream in batches.

mod support;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use buttress_core::Reason;
use futures_util::{Stream, StreamExt, stream};
use support::{Backend, Failure, MISSING, MS, layer, rejected};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// Counts what it has given.
struct Given<T>(T, Arc<AtomicUsize>);

impl<T: Stream + Unpin> Stream for Given<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        let item = self.0.poll_next_unpin(cx);
        if let Poll::Ready(Some(_)) = &item {
            self.1.fetch_add(1, Relaxed);
        }
        item
    }
}

#[tokio::test(start_paused = true)]
async fn results_come_in_order_and_batches_run_beside_each_other() {
    let backend = Backend::taking(MS);
    let start = Instant::now();
    let results: Vec<_> = layer("in_order")
        .max_size(100)
        .in_flight(4)
        .process(stream::iter(0..2_000), backend.clone())
        .collect()
        .await;
    assert_eq!(results, (0..2_000).map(|item| Ok(item * 10)).collect::<Vec<_>>());
    assert_eq!(backend.sizes(), [100; 20]);
    assert_eq!(start.elapsed(), 5 * MS);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_ahead_is_bounded() {
    for in_flight in [1, 3] {
        let backend = Backend::taking(MS);
        let given = Arc::new(AtomicUsize::new(0));
        let mut results = layer("bounded")
            .max_size(10)
            .in_flight(in_flight)
            .process(Given(stream::iter(0..), given.clone()), backend.clone());
        let mut most = 0;
        for taken in 0..500 {
            assert_eq!(results.next().await, Some(Ok(taken * 10)));
            sleep(MS / 10).await;
            most = most.max(given.load(Relaxed) - taken as usize);
        }
        // In flight, gathered, handed out.
        assert_eq!(most, (in_flight + 2) * 10);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_processor_sends_what_there_is() {
    let backend = Backend::taking(10 * MS);
    let (send, mut receive) = mpsc::unbounded_channel();
    let items = stream::poll_fn(move |cx| receive.poll_recv(cx));
    let mut results = layer("idle").in_flight(2).process(items, backend.clone());
    let start = Instant::now();
    send.send(1).unwrap();
    let more = tokio::spawn({
        let send = send.clone();
        async move {
            for item in 2..5 {
                sleep(MS).await;
                send.send(item).unwrap();
            }
        }
    });
    for item in 1..5 {
        assert_eq!(results.next().await, Some(Ok(item * 10)));
    }
    assert_eq!((backend.sizes(), start.elapsed()), (vec![1, 3], 20 * MS));
    more.await.unwrap();
    assert!(timeout(MS, results.next()).await.is_err());
    drop(send);
    assert_eq!(results.next().await, None);
    assert_eq!(results.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_by_weight() {
    let backend = Backend::taking(MS);
    let items = [4, 4, 4, 6, 50, 3, 3, 3, 3];
    let results: Vec<_> = layer("weight")
        .max_weight(10, |item| u64::from(*item))
        .process(stream::iter(items), backend.clone())
        .collect()
        .await;
    assert_eq!(results, items.map(|item| Ok(item * 10)));
    assert_eq!(backend.batches(), [vec![4, 4], vec![4, 6], vec![50], vec![3, 3, 3], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn each_item_has_its_own_error() {
    let backend = Backend::poisoned_by([30, 31, 77]);
    let layer = layer("own_error").max_size(40).bisect(|error| *error == Failure::Poison);
    let items = (0..100).chain([MISSING]);
    let results: Vec<_> = layer.process(stream::iter(items.clone()), backend.clone()).collect().await;
    for (item, result) in items.zip(results) {
        let expected = match item {
            30 | 31 | 77 => Err(Failure::Poison),
            MISSING => Err(Failure::NotFound(MISSING)),
            _ => Ok(item * 10),
        };
        assert_eq!(result, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_followed_by_others() {
    let backend = Backend::taking(MS);
    backend.fail_once(Failure::Lost);
    let results: Vec<_> =
        layer("followed").max_size(10).process(stream::iter(0..30), backend.clone()).collect().await;
    let (failed, done) = results.split_at(10);
    assert_eq!(done, (10..30).map(|item| Ok(item * 10)).collect::<Vec<_>>());
    for result in failed {
        let rejected = rejected(result.clone());
        assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, true));
    }
}

#[tokio::test(start_paused = true)]
async fn equal_items_are_sent_once_in_a_batch() {
    let backend = Backend::taking(MS);
    let items = [1, 2, 1, 1, 3, 3, 4, 1];
    let results: Vec<_> = layer("equal")
        .max_size(4)
        .dedupe(|item| *item)
        .process(stream::iter(items), backend.clone())
        .collect()
        .await;
    assert_eq!(results, items.map(|item| Ok(item * 10)));
    assert_eq!(backend.batches(), [vec![1, 2], vec![3, 4, 1]]);
}

#[tokio::test(start_paused = true)]
async fn dropped_it_drops_its_calls() {
    let backend = Backend::taking(10 * MS);
    let mut results = layer("dropped").max_size(10).process(stream::iter(0..), backend.clone());
    assert!(timeout(MS, results.next()).await.is_err());
    drop(results);
    sleep(20 * MS).await;
    assert_eq!((backend.sizes(), backend.ended()), (vec![10], 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_items_ends_without_a_call() {
    let backend = Backend::taking(MS);
    let mut results = layer("empty").process(stream::iter(0..0), backend.clone());
    assert_eq!(results.next().await, None);
    assert!(backend.batches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_heavier_than_any_batch_may_be_goes_alone() {
    let backend = Backend::taking(MS);
    let results = layer("heavier").max_weight(0, |_| 1).process(stream::iter(0..3), backend.clone());
    let results: Vec<_> = timeout(MS * 10, results.collect()).await.expect("it ends");
    assert_eq!(results, [Ok(0), Ok(10), Ok(20)]);
    assert_eq!(backend.sizes(), [1, 1, 1]);
}
