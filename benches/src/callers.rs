//! Callers in tasks of their own, and what they call.

use std::{
    future::Future,
    hint::black_box,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{runtime::Runtime, task::unconstrained, time::Instant};
use tower::{BoxError, Service, ServiceExt};

use crate::{
    backend::Failure,
    body::Body,
    verdict::{Refusal, Tally, verdict},
};

pub(crate) const CALLERS: u64 = 64;

pub(crate) type Answers = Vec<Result<u64, Failure>>;

/// Ready at the second poll.
pub(crate) async fn answer(requests: Vec<u64>) -> Result<Answers, Failure> {
    _ = Passes(1).await;
    Ok(requests.into_iter().map(|request| Ok(black_box(request))).collect())
}

/// Callers of a service, each in a task of its own.
pub(crate) struct Callers<S> {
    pub(crate) service: S,
    pub(crate) callers: u64,
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

/// Ready after so many polls.
pub(crate) struct Passes(pub(crate) u32);

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
