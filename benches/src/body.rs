use std::{
    hint::black_box,
    io,
    pin::{Pin, pin},
};

use tokio::{
    runtime::{Builder, Runtime},
    task::unconstrained,
    time::Instant,
};
use tower::{Service, ServiceExt};

use crate::verdict::{Refusal, Tally, verdict};

/// What a row measures: one way to make a call, and the state behind it.
pub(crate) trait Body: Send {
    /// Makes that many calls, one after the other.
    fn run(&mut self, runtime: &Runtime, calls: u64);

    /// Makes calls, looking at the clock after every `chunk` of them, until it is past `deadline`; returns how many.
    fn run_until(&mut self, runtime: &Runtime, chunk: u64, deadline: Instant) -> u64;

    /// Makes that many calls and says how they ended.
    fn tally(&mut self, runtime: &Runtime, calls: u64) -> Tally;

    /// Another handle on the same state for a second thread, where there can be one.
    fn fork(&self) -> Option<Box<dyn Body>>;
}

/// A body that calls a service, whose clones share its state.
pub(crate) fn shared<S>(service: S) -> Box<dyn Body>
where
    S: Service<u64, Error: Refusal> + Clone + Send + 'static,
{
    Box::new(Calls { service, next: 0, fork: |service| Some(service.clone()) })
}

/// A body that calls a service which serves a single thread.
pub(crate) fn single<S>(service: S) -> Box<dyn Body>
where
    S: Service<u64, Error: Refusal> + Send + 'static,
{
    Box::new(Calls { service, next: 0, fork: |_| None })
}

/// The runtime that every thread of the harness calls on: its own, without other tasks.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_time().build()
}

/// Two handles must not share a cache line by the accident of where they were allocated.
#[repr(align(128))]
struct Calls<S> {
    service: S,
    /// The next request's number. It goes on from slice to slice, so that "every hundredth" holds across them.
    next: u64,
    fork: fn(&S) -> Option<S>,
}

impl<S: Service<u64>> Calls<S> {
    // Written out rather than made of smaller futures: each level of them would copy the answer once more.
    async fn make(&mut self, calls: u64) {
        let requests = self.next..self.next + calls;
        self.next = requests.end;
        for request in requests {
            match self.service.ready().await {
                Ok(service) => drop(black_box(service.call(black_box(request)).await)),
                Err(error) => drop(black_box(error)),
            }
        }
    }

    async fn judge(&mut self, calls: u64) -> Tally
    where
        S::Error: Refusal,
    {
        let mut tally = Tally::default();
        for _ in 0..calls {
            let request = self.next;
            self.next += 1;
            let answer = match self.service.ready().await {
                Ok(service) => service.call(request).await,
                Err(error) => Err(error),
            };
            tally += verdict(&answer);
        }
        tally
    }
}

impl<S> Body for Calls<S>
where
    S: Service<u64, Error: Refusal> + Send + 'static,
{
    fn run(&mut self, runtime: &Runtime, calls: u64) {
        block_on(runtime, pin!(self.make(calls)));
    }

    fn run_until(&mut self, runtime: &Runtime, chunk: u64, deadline: Instant) -> u64 {
        let mut made = 0;
        let slice = async {
            while Instant::now() < deadline {
                self.make(chunk).await;
                made += chunk;
            }
        };
        block_on(runtime, pin!(slice));
        made
    }

    fn tally(&mut self, runtime: &Runtime, calls: u64) -> Tally {
        let mut tally = Tally::default();
        let judging = async { tally = self.judge(calls).await };
        block_on(runtime, pin!(judging));
        tally
    }

    fn fork(&self) -> Option<Box<dyn Body>> {
        let service = (self.fork)(&self.service)?;
        Some(Box::new(Self { service, next: 0, fork: self.fork }))
    }
}

/// `unconstrained`: a slice is one long poll of one task, which tokio's budget would make yield over and over. `dyn`:
/// the loop of calls is compiled by itself, as a task's is. Where it melts into the runtime's, `bare` alone becomes four
/// times faster.
fn block_on(runtime: &Runtime, slice: Pin<&mut dyn Future<Output = ()>>) {
    runtime.block_on(unconstrained(slice));
}
