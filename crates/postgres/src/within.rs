use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use buttress_core::Deadline;
use tokio::{
    task::unconstrained,
    time::{Sleep, sleep_until},
};

/// The deadline that passed first.
#[derive(Debug)]
pub(crate) struct Late(pub(crate) Deadline);

/// The earlier of the two: the one that a call began with, and the ambient one. The call's future may have been moved
/// under another since.
pub(crate) fn earlier(deadline: Option<Deadline>) -> Option<Deadline> {
    match (deadline, Deadline::current()) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Runs a future until the deadline, or until an earlier one under which it is polled.
///
/// Pin a large one where it is made, and give the pin: each move of one copies some kilobytes.
pub(crate) async fn within<F: Future>(mut deadline: Option<Deadline>, future: F) -> Result<F::Output, Late> {
    let mut future = pin!(future);
    let mut alarm = pin!(None::<Sleep>);
    poll_fn(move |cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let Some(limit) = earlier(deadline) else { return Poll::Pending };
        if deadline != Some(limit) || alarm.is_none() {
            deadline = Some(limit);
            alarm.set(Some(sleep_until(limit.instant())));
        }
        let Some(alarm) = alarm.as_mut().as_pin_mut() else { unreachable!("it was set above") };
        // It must ring also where the future used up what the runtime lets a task do at a time.
        pin!(unconstrained(alarm)).poll(cx).map(|()| Err(Late(limit)))
    })
    .await
}
