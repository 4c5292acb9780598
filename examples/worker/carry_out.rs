//! One attempt, from its beginning to the note of how it ended.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tower::{Service, ServiceExt};
use tracing::{info, warn};

use crate::{
    counts::End,
    job::{Attempt, Failure, Finished, Job},
    queue::Queue,
};

/// Does the job. A panic is a failure like any other, and takes nothing else down.
pub(crate) async fn carry_out<S>(attempt: Attempt, perform: S, delay: Duration) -> End
where
    S: Service<Attempt, Response = Finished, Error = Failure>,
{
    let (queue, job) = (attempt.queue.clone(), attempt.job.clone());
    let result = AssertUnwindSafe(perform.oneshot(attempt)).catch_unwind().await;
    match result.unwrap_or_else(|panic| Err(Failure::Panicked(message(&*panic)))) {
        Ok(Finished { .. }) => {
            info!(job.id, job.kind, job.attempt, "done");
            End::Done
        }
        Err(failure) => note(&queue, &job, &failure, delay).await,
    }
}

/// Notes how a failed attempt ended.
async fn note(queue: &Queue, job: &Job, failure: &Failure, delay: Duration) -> End {
    if matches!(failure, Failure::Fenced) {
        warn!(job.id, job.kind, job.attempt, "{failure}");
        return End::Lost;
    }
    let delay = (!matches!(failure, Failure::Hopeless(_))).then_some(delay);
    match queue.fail(job, &failure.to_string(), delay).await {
        Ok(Some(dead)) => {
            warn!(job.id, job.kind, job.attempt, dead, "failed: {failure}");
            if dead { End::Dead } else { End::Failed }
        }
        // Also where the database did commit, and the answer was lost.
        Ok(None) => End::Lost,
        Err(error) => {
            warn!(job.id, job.kind, job.attempt, %error, "failed, which could not be noted: {failure}");
            End::Lost
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
