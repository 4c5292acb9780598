use std::{
    borrow::Cow,
    error::Error,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use buttress_core::{BoxError, Rejected};
use tower_service::Service;

use crate::{
    BackendError,
    state::{Ended, Shared},
};

/// The request that a simulation sends through a stack. Where the stack takes something else, tower's `map_request`
/// makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Call {
    /// From 0 on, in the order of arrival. For a stack with keys: `number % keys`.
    pub number: u64,
    /// Which [`Callers`](crate::Callers) it comes from, in the order in which the simulation was given them.
    pub population: usize,
    /// How often the caller had tried before.
    pub attempt: u32,
}

pub(crate) type Kind = Arc<dyn Fn(&(dyn Error + 'static)) -> Cow<'static, str> + Send + Sync>;

/// What a failure is called in reports, where the user does not say otherwise.
pub(crate) fn kind_of(error: &(dyn Error + 'static)) -> Cow<'static, str> {
    if let Some(rejected) = Rejected::in_error(error) {
        return rejected.reason().as_str().into();
    }
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(error) = error.downcast_ref::<BackendError>() {
            return error.as_str().into();
        }
        link = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    error.to_string().chars().take(48).collect::<String>().into()
}

/// A call from its first try to its end.
pub(crate) async fn run<S>(shared: Arc<Shared>, slot: usize, mut call: Call, stack: S, kind: Kind)
where
    S: Service<Call> + Clone,
    S::Error: Into<BoxError>,
{
    let tries = shared.with(|state| state.tries(call.population));
    let mut stack = Some(stack);
    loop {
        let is_last = call.attempt + 1 >= tries;
        let Some(service) = (if is_last { stack.take() } else { stack.clone() }) else { return };
        let Some(ended) = attempt(&shared, slot, service, call, &kind).await else { return };
        if !shared.with(|state| state.end_try(slot, &ended)) {
            return;
        }
        poll_fn(|cx| shared.with(|state| state.wait(slot, cx.waker()))).await;
        call.attempt += 1;
        shared.with(|state| state.begin_try(slot));
    }
}

/// One try. `None` where the stack panicked, which ends the simulation.
async fn attempt<S>(shared: &Shared, slot: usize, mut service: S, call: Call, kind: &Kind) -> Option<Ended>
where
    S: Service<Call>,
    S::Error: Into<BoxError>,
{
    let mut answer = pin!(async move {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(call).await
    });
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(Poll::Ready(Ok(_))) => Poll::Ready(Some(Ended::Answered)),
        Ok(Poll::Ready(Err(error))) => Poll::Ready(Some(Ended::Failed(kind(&*error.into())))),
        // An answer at the very end of the patience is one.
        Ok(Poll::Pending) => {
            let left = shared.with(|state| state.wait(slot, cx.waker()));
            left.map(|()| Some(Ended::Failed("out_of_patience".into())))
        }
        Err(panic) => {
            shared.with(|state| state.panicked(panic));
            Poll::Ready(None)
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use buttress_core::{Origin, Reason};

    use super::*;

    #[test]
    fn failures_are_named_after_their_cause() {
        let rejected = Origin::new("timeout", "failures_are_named").reject(Reason::TimedOut);
        let kind = |error: BoxError| kind_of(&*error);
        assert_eq!(kind(rejected.into()), "timed_out");
        assert_eq!(kind(BackendError::from(rejected).into()), "timed_out");
        assert_eq!(kind(io::Error::other(BackendError::QueueFull).into()), "queue_full");
        assert_eq!(kind("x".repeat(99).into()), "x".repeat(48));
    }
}
