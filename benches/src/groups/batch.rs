//! 64 callers in as many tasks, each with the next call when it has its answer; and one caller.
//!
//! The service inside does nothing, but is ready at its second poll: one that were so at its first would leave nothing to
//! gather.

use std::{
    hint::black_box,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::unconstrained,
};
use tower::{BoxError, Service, service_fn};
use tower_batch::{Batch as TowerBatch, BatchControl};

use crate::{
    backend::Failure,
    callers::{CALLERS, Callers, Passes, answer},
    ours::{self, batched},
    row::{Expected, Row},
    verdict::Verdict,
};

/// tower-batch's.
const TIMER: Duration = Duration::from_millis(5);

/// What one writes by hand: a channel to a worker, and one back for each call. The worker takes what is there, at most a
/// thousand, and waits for its batch.
fn by_hand(
    runtime: &Runtime,
) -> impl Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + 'static {
    let (send, mut receive) = mpsc::unbounded_channel::<(u64, oneshot::Sender<Result<u64, Failure>>)>();
    runtime.spawn(unconstrained(async move {
        let mut taken = Vec::new();
        while receive.recv_many(&mut taken, 1_000).await > 0 {
            let (requests, back): (Vec<_>, Vec<_>) = taken.drain(..).unzip();
            let Ok(answers) = answer(requests).await else { return };
            for (answer, back) in answers.into_iter().zip(back) {
                _ = back.send(answer);
            }
        }
    }));
    service_fn(move |request| {
        let (back, answer) = oneshot::channel();
        let sent = send.send((request, back));
        async move {
            sent.expect("the worker lives");
            answer.await.expect("the worker answers")
        }
    })
}

/// The service inside of tower-batch gets the items one by one, and all callers get the answer of the flush.
#[derive(Clone)]
struct Flushes;

impl Service<BatchControl<u64>> for Flushes {
    type Response = ();
    type Error = BoxError;
    type Future = Passes;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, control: BatchControl<u64>) -> Self::Future {
        match control {
            BatchControl::Item(item) => {
                black_box(item);
                Passes(0)
            }
            BatchControl::Flush => Passes(1),
        }
    }
}

fn bare() -> impl Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + 'static {
    service_fn(async |request| answer(vec![request]).await?.pop().expect("there is an answer"))
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("batch", name, Expected::All(Verdict::Served), build);
    let peers = vec![
        row("by hand 64", |runtime| Box::new(Callers { service: by_hand(runtime), callers: CALLERS })),
        // As large as there are callers, so that it need not wait for its timer.
        row("tower-batch 64", |_| {
            Box::new(Callers { service: TowerBatch::new(Flushes, 64, TIMER), callers: CALLERS })
        }),
        row("bare one caller", |_| Box::new(Callers { service: bare(), callers: 1 })),
        row("buttress one caller", |_| Box::new(Callers { service: batched(), callers: 1 })),
        row("by hand one caller", |runtime| Box::new(Callers { service: by_hand(runtime), callers: 1 })),
    ];
    [ours::rows_of("batch"), peers].concat()
}
