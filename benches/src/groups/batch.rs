//! 64 callers in as many tasks, each with the next call when it has its answer; and one caller.
//!
//! The service inside does nothing, but is ready at its second poll: one that were so at its first would leave nothing to
//! gather.

use std::{
    future::Future,
    hint::black_box,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress_batch::{BatchLayer, Batched};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::unconstrained,
    time::Instant,
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_batch::{Batch as TowerBatch, BatchControl};

use crate::{
    backend::Failure,
    body::Body,
    row::{Expected, Row},
    verdict::{Refusal, Tally, Verdict, verdict},
};

const CALLERS: u64 = 64;
/// tower-batch's.
const TIMER: Duration = Duration::from_millis(5);

type Answers = Vec<Result<u64, Failure>>;

/// Ready at the second poll.
async fn answer(requests: Vec<u64>) -> Result<Answers, Failure> {
    _ = Passes(1).await;
    Ok(requests.into_iter().map(|request| Ok(black_box(request))).collect())
}

/// Callers of a service, each in a task of its own.
struct Callers<S> {
    service: S,
    callers: u64,
}

impl<S> Callers<S>
where
    S: Service<u64, Response: Send, Error: Refusal + Send, Future: Send> + Clone + Send + 'static,
{
    async fn make(&self, calls: u64) -> Tally {
        let callers: Vec<_> = (0..self.callers)
            .map(|caller| {
                let (mut service, callers) = (self.service.clone(), self.callers);
                let mine = calls / callers + u64::from(caller < calls % callers);
                tokio::spawn(unconstrained(async move {
                    let mut tally = Tally::default();
                    for request in 0..mine {
                        let answer = match service.ready().await {
                            Ok(service) => service.call(black_box(request)).await,
                            Err(error) => Err(error),
                        };
                        tally += verdict(&black_box(answer));
                    }
                    tally
                }))
            })
            .collect();
        let mut sum = Tally::default();
        for caller in callers {
            let tally = caller.await.expect("no caller panics");
            sum.served += tally.served;
            sum.failed += tally.failed;
            sum.refused += tally.refused;
        }
        sum
    }
}

impl<S> Body for Callers<S>
where
    S: Service<u64, Response: Send, Error: Refusal + Send, Future: Send> + Clone + Send + 'static,
{
    /// As many for each caller: where a few were left over, tower-batch would wait for its timer.
    fn run(&mut self, runtime: &Runtime, calls: u64) {
        black_box(runtime.block_on(self.make(calls.next_multiple_of(self.callers))));
    }

    fn run_until(&mut self, runtime: &Runtime, chunk: u64, deadline: Instant) -> u64 {
        let mut made = 0;
        while Instant::now() < deadline {
            self.run(runtime, chunk);
            made += chunk;
        }
        made
    }

    fn tally(&mut self, runtime: &Runtime, calls: u64) -> Tally {
        runtime.block_on(self.make(calls))
    }

    /// Workers live on the runtime where they began. A second thread has one of its own, and nobody would drive the first
    /// while it goes on alone.
    fn fork(&self) -> Option<Box<dyn Body>> {
        None
    }
}

type Buttress<S> = Batched<S, u64, u64, Failure>;

fn buttress() -> Buttress<
    impl Service<Vec<u64>, Response = Answers, Error = Failure, Future: Send> + Clone + Send + 'static,
> {
    BatchLayer::new("no-op").layer(service_fn(answer))
}

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

/// Ready after so many polls.
struct Passes(u32);

impl Future for Passes {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.0 == 0 {
            return Poll::Ready(Ok(()));
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn bare() -> impl Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + 'static {
    service_fn(async |request| answer(vec![request]).await?.pop().expect("there is an answer"))
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("batch", name, Expected::All(Verdict::Served), build);
    vec![
        row("buttress no-op 64", |_| Box::new(Callers { service: buttress(), callers: CALLERS })),
        row("by hand 64", |runtime| Box::new(Callers { service: by_hand(runtime), callers: CALLERS })),
        // As large as there are callers, so that it need not wait for its timer.
        row("tower-batch 64", |_| {
            Box::new(Callers { service: TowerBatch::new(Flushes, 64, TIMER), callers: CALLERS })
        }),
        row("bare one caller", |_| Box::new(Callers { service: bare(), callers: 1 })),
        row("buttress one caller", |_| Box::new(Callers { service: buttress(), callers: 1 })),
        row("by hand one caller", |runtime| Box::new(Callers { service: by_hand(runtime), callers: 1 })),
    ]
}
