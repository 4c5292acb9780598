use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use buttress_core::{Deadline, Rejectable, Scope};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::{
    carry::{Members, Places, Tally, carry, outcomes},
    flight::Flight,
    inner::Inner,
    rules::Assembly,
    shared::Look,
};

/// The right and duty to gather and send batches. Dropped before it is over, it says so.
pub(crate) struct Worker<S, Req, Res, E> {
    inner: Arc<Inner<S, Req, Res, E>>,
    number: u32,
    over: bool,
}

impl<S, Req, Res, E> Worker<S, Req, Res, E> {
    pub(crate) const fn new(inner: Arc<Inner<S, Req, Res, E>>, number: u32) -> Self {
        Self { inner, number, over: false }
    }
}

impl<S, Req, Res, E> Drop for Worker<S, Req, Res, E> {
    fn drop(&mut self) {
        if !self.over {
            self.inner.shared.lost(self.number);
        }
    }
}

/// Sends one batch after the other, until nothing waits.
pub(crate) async fn work<S, Req, Res, E>(mut worker: Worker<S, Req, Res, E>)
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    let (inner, number) = (worker.inner.clone(), worker.number);
    loop {
        // Whoever was woken by the last batch, or together with the one who began this, comes first and is taken along.
        behind_the_others().await;
        let sent = caught(round(&inner, number)).await;
        // Only now, when nothing of the user's is left that might panic.
        let ends =
            if sent == Some(false) { inner.shared.ends(number) } else { !inner.shared.goes_on(number) };
        if ends {
            worker.over = true;
            return;
        }
    }
}

/// Gathers a batch and sends it. Whether there was anything to send.
async fn round<S, Req, Res, E>(inner: &Arc<Inner<S, Req, Res, E>>, number: u32) -> bool
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    let mut gathering = Gathering { inner, number, unfinished: true };
    let ready = gathering.wait().await;
    let Some((service, ready)) = ready else {
        gathering.unfinished = false;
        return false;
    };
    let mut flight = Flight::new(&inner.shared, number);
    // Whatever panics from here on harms those that it takes, and no others.
    gathering.unfinished = false;
    gathering.take(&mut flight);
    drop(gathering);
    let requests = std::mem::take(&mut flight.taken.requests);
    if requests.is_empty() {
        return true;
    }
    if let Err(error) = ready {
        let size = requests.len();
        inner.shared.count_failed(0, true);
        flight.settle(Places::All(0..size), outcomes(&inner.rules, Err(error), size, false));
        return true;
    }

    let mut scope = flight.taken.deadline.map(|deadline| Scope::until(Deadline::at(deadline)));
    let flown = {
        let mut flying = pin!(carry(service, requests, &inner.rules, &mut flight));
        poll_fn(|cx| {
            if inner.shared.is_abandoned(number, cx) {
                return Poll::Ready(None);
            }
            match &mut scope {
                Some(scope) => scope.enter(|| flying.as_mut().poll(cx)),
                None => flying.as_mut().poll(cx),
            }
            .map(Some)
        })
        .await
    };
    // Who is left had gone before his turn came.
    flight.end();
    if let Some(Tally { splits, failed }) = flown
        && (splits > 0 || failed)
    {
        inner.shared.count_failed(splits, failed);
    }
    true
}

/// Where a user's code panics before anything was taken, those who wait for that are told so: what fails by each clone of a
/// service would else be tried for ever.
struct Gathering<'a, S, Req, Res, E> {
    inner: &'a Arc<Inner<S, Req, Res, E>>,
    number: u32,
    unfinished: bool,
}

impl<S, Req, Res, E> Gathering<'_, S, Req, Res, E>
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    /// Waits until what waits has lingered enough, and a service is ready for it. None where nothing waits.
    async fn wait(&self) -> Option<(S, Result<(), E>)> {
        let (mut service, mut sleep) = (None, None);
        let ready = poll_fn(|cx| {
            match self.inner.shared.look_around(self.number, cx) {
                Look::Over => return Poll::Ready(None),
                Look::Ready => {}
                Look::Linger(due) => {
                    if until(due, &mut sleep).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
            let service = service.get_or_insert_with(|| self.inner.fresh());
            service.poll_ready(cx).map(Some)
        })
        .await?;
        service.map(|service| (service, ready))
    }

    fn take(&self, flight: &mut Flight<'_, Req, Res, E>) {
        let Self { inner, number, .. } = self;
        let limits = &inner.rules.limits;
        let Some(dedupe) = &inner.rules.dedupe else {
            inner.shared.take(*number, (limits.size, limits.weight), &mut flight.taken);
            self.leave_the_rest();
            return;
        };
        let mut assembly = Assembly::new(dedupe);
        loop {
            let known = flight.taken.keys.len();
            inner.shared.take(*number, assembly.room(limits), &mut flight.taken);
            if flight.taken.keys.len() == known {
                break;
            }
            for request in std::mem::take(&mut flight.taken.requests) {
                let weight = inner.rules.weight_of(&request);
                assembly.add(request, weight);
            }
        }
        flight.taken.requests = assembly.requests;
        flight.share(assembly.places, dedupe.clone);
        self.leave_the_rest();
    }

    /// What there was no room for is another's, where one more batch may be in flight.
    fn leave_the_rest(&self) {
        if self.inner.rules.limits.in_flight > 1
            && let Some(number) = self.inner.shared.begin()
        {
            self.inner.begin(number);
        }
    }
}

impl<S, Req, Res, E> Drop for Gathering<'_, S, Req, Res, E> {
    fn drop(&mut self) {
        if self.unfinished {
            let limits = &self.inner.rules.limits;
            let mut flight = Flight::new(&self.inner.shared, self.number);
            self.inner.shared.take(self.number, (limits.size, limits.weight), &mut flight.taken);
        }
    }
}

fn until(due: Instant, sleep: &mut Option<Pin<Box<Sleep>>>) -> Pin<&mut Sleep> {
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if sleep.deadline() != due {
        sleep.as_mut().reset(due);
    }
    sleep.as_mut()
}

/// Lets every task run that is to run already. One that wakes itself goes to the end of its queue, also where tokio keeps the
/// one woken last for the next turn.
async fn behind_the_others() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// None if it panicked. Nothing of it is used again.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}
