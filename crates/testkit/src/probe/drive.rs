//! How probes drive services and futures.

use std::any::Any;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tower_service::Service;

/// Far longer than a layer under a probe has to wait for anything, backoffs included.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until `service` is ready.
///
/// # Errors
/// What `poll_ready` reports.
pub async fn ready<S, R>(service: &mut S) -> Result<(), S::Error>
where
    S: Service<R>,
{
    poll_fn(|cx| service.poll_ready(cx)).await
}

/// Polls `future`, each time that it was woken, and drops it after `polls` of them that were pending.
/// `None` says that it was dropped; its output, that it was complete before.
///
/// With `woken`, it is dropped only once it was woken again, in place of the next poll: the moment in which
/// a waiter has been handed something and never learns of it. (A future that is not woken again then hangs.)
pub async fn drop_after<F: Future>(polls: usize, woken: bool, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 && !woken => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits until `service` is ready, calls it and waits for the reply.
pub(super) async fn call<S>(service: &mut S, request: u32) -> Result<u32, S::Error>
where
    S: Service<u32, Response = u32>,
{
    ready(service).await?;
    service.call(request).await
}

/// Makes sure that the service works: what it is asked comes back.
pub(super) async fn assert_works<S>(service: &mut S, rule: &str)
where
    S: Service<u32, Response = u32>,
    S::Error: Debug,
{
    match in_time(call(service, 42), rule).await {
        Ok(reply) => assert_eq!(reply, 42, "{rule}: the reply is another call's"),
        Err(error) => panic!("{rule}: the call failed: {error:?}"),
    }
}

/// Waits for `future`, and panics with `rule` when it hangs.
pub(super) async fn in_time<F: Future>(future: F, rule: &str) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{rule}: it hangs"),
    }
}

/// Whether `condition` comes true once the tasks that run beside this one had their turns. For layers that
/// have a worker.
pub(super) async fn settles(condition: impl Fn() -> bool) -> bool {
    const TURNS: usize = 100;
    for _ in 0..TURNS {
        if condition() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    condition()
}

/// Drives `future` and catches its panic.
pub(super) async fn catch<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
