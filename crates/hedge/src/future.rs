use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
};

use buttress_core::{Classify, Decision, Outcome, Rejectable};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::{
    ReplayRequest,
    loan::Inner,
    race::{Ending, Race},
    watch::Watch,
};

pin_project! {
    /// The future of [`Hedge`](crate::Hedge).
    ///
    /// It polls all attempts itself, on the task that polls it. Dropped unfinished, it drops all of them, and no other
    /// starts. A hedge that was granted by the budget stays counted.
    ///
    /// # Panics
    /// When the first attempt has to wait and there is no tokio runtime with a timer. Polled after its answer, it stays
    /// pending, or does what the future inside does then.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, P>
    where
        S: Service<Req>,
    {
        // None when it has ended, or has lost.
        #[pin]
        first: Option<S::Future>,
        #[pin]
        next: Next,
        watch: Watch,
        // What the next attempt needs. There is a spare service wherever there is a kept request.
        spare: Option<S>,
        kept: Option<Req>,
        // None until a hedge starts.
        race: Option<Box<Race<S::Future>>>,
        classify: C,
        requests: P,
    }
}

pin_project! {
    /// What the next attempt waits for.
    #[project = NextProject]
    enum Next {
        // For the first attempt to be polled.
        Fresh,
        Delayed { #[pin] sleep: Sleep },
        // For nothing, if it may start.
        Due,
        // It is granted, and waits for the spare service to be ready.
        Readying,
        // There will be none.
        Never,
    }
}

impl<S: Service<Req>, Req, C, P> ResponseFuture<S, Req, C, P> {
    #[inline]
    pub(crate) const fn new(
        first: S::Future,
        spare: Option<S>,
        kept: Option<Req>,
        lent: &'static Inner,
        classify: C,
        requests: P,
    ) -> Self {
        Self {
            first: Some(first),
            next: Next::Fresh,
            watch: Watch::new(lent),
            spare,
            kept,
            race: None,
            classify,
            requests,
        }
    }
}

impl<S, Req, C, P> Future for ResponseFuture<S, Req, C, P>
where
    S: Service<Req>,
    S::Error: Rejectable,
    C: Classify<S::Response, S::Error>,
    P: ReplayRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    // Else the compiler leaves it out of line, and each result is copied once more.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        if let (Next::Fresh, Some(first)) = (&*this.next, this.first.as_pin_mut()) {
            let Poll::Ready(result) = first.poll(cx) else { return self.wait(cx) };
            let lent = this.watch.lent;
            // The others are not hedged, whatever they take.
            if lent.measures() && this.kept.is_some() && this.classify.classify(&result) == Outcome::Success {
                lent.estimator.at_once();
            } else {
                lent.estimator.other();
            }
            return Poll::Ready(result);
        }
        self.poll_attempts(cx)
    }
}

/// The ways of calls that have to wait: apart, so that `poll` is short where all is well.
impl<S, Req, C, P> ResponseFuture<S, Req, C, P>
where
    S: Service<Req>,
    S::Error: Rejectable,
    C: Classify<S::Response, S::Error>,
    P: ReplayRequest<Req>,
{
    #[inline(never)]
    fn wait(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        let mut this = self.as_mut().project();
        let lent = this.watch.lent;
        lent.estimator.other();
        if this.kept.is_none() {
            this.next.set(Next::Never);
            return Poll::Pending;
        }
        let now = Instant::now();
        if lent.measures() {
            this.watch.start(now);
        }
        this.next.set(Next::after_delay(lent, now));
        self.poll_next(cx)
    }

    #[inline(never)]
    fn poll_attempts(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        let mut this = self.as_mut().project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(result) = first.poll(cx)
        {
            this.first.set(None);
            if let Poll::Ready(result) = self.as_mut().end_attempt(result, By::First) {
                return Poll::Ready(result);
            }
        }
        while let Some(result) = self.as_mut().project().race.as_mut().and_then(|race| race.poll(cx)) {
            if let Poll::Ready(result) = self.as_mut().end_attempt(result, By::Hedge) {
                return Poll::Ready(result);
            }
        }
        self.poll_next(cx)
    }

    /// Waits until another attempt can start, and starts it.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Response, S::Error>> {
        loop {
            let mut this = self.as_mut().project();
            let lent = this.watch.lent;
            match this.next.as_mut().project() {
                NextProject::Delayed { sleep } => {
                    if sleep.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.next.set(Next::Due);
                }
                NextProject::Due => {
                    let can_race = this.kept.as_ref().is_some_and(|kept| this.requests.can_race(kept));
                    let now = Instant::now();
                    if can_race && lent.could_end_in_time(now) && lent.withdraw(now) {
                        this.next.set(Next::Readying);
                    } else {
                        self.as_mut().start_no_more();
                    }
                }
                NextProject::Readying => {
                    let ready = this.spare.as_mut().map(|spare| spare.poll_ready(cx));
                    match ready {
                        Some(Poll::Pending) => return Poll::Pending,
                        Some(Poll::Ready(Ok(()))) if lent.could_end_in_time(Instant::now()) => {
                            self.as_mut().start_hedge();
                            let result =
                                self.as_mut().project().race.as_mut().and_then(|race| race.poll_newest(cx));
                            if let Some(result) = result
                                && let Poll::Ready(result) = self.as_mut().end_attempt(result, By::Hedge)
                            {
                                return Poll::Ready(result);
                            }
                        }
                        // It concerns the hedge alone.
                        _ => self.as_mut().start_no_more(),
                    }
                }
                NextProject::Fresh | NextProject::Never => return Poll::Pending,
            }
        }
    }

    fn start_hedge(self: Pin<&mut Self>) {
        let mut this = self.project();
        let (Some(spare), Some(request)) = (this.spare.as_mut(), this.kept.take()) else { return };
        let lent = this.watch.lent;
        // Where the policy or the service panics, none follows.
        this.next.set(Next::Never);
        let race = this.race.get_or_insert_with(|| Box::new(Race::new()));
        if race.started() + 2 < lent.settings.attempts {
            *this.kept = this.requests.replay(&request);
        }
        lent.counts.hedges.fetch_add(1, Relaxed);
        Decision::note(lent.origin, "hedged", || {
            let (attempt, of) = (race.started().saturating_add(2), lent.settings.attempts);
            format!("attempt {attempt} of {of}: the one before has no answer after {:.1?}", lent.delay())
        });
        race.start(spare.call(request));
        if this.kept.is_some() {
            this.next.set(Next::after_delay(lent, Instant::now()));
        } else {
            *this.spare = None;
        }
    }

    /// Also gives back the readiness of a spare service that was not called.
    fn start_no_more(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.next.set(Next::Never);
        *this.spare = None;
        *this.kept = None;
    }

    fn end_attempt(
        mut self: Pin<&mut Self>,
        result: Result<S::Response, S::Error>,
        by: By,
    ) -> Poll<Result<S::Response, S::Error>> {
        let this = self.as_mut().project();
        let ending = Ending::of(this.classify, &result);
        if by == By::First {
            this.watch.stop(ending.is_success());
        }
        let Some(race) = this.race else {
            // The only attempt: its result stands, whatever it is. A retry outside decides about another one.
            self.start_no_more();
            return Poll::Ready(result);
        };
        if ending.stands() {
            if by == By::Hedge {
                this.watch.lent.counts.hedge_wins.fetch_add(1, Relaxed);
                this.watch.stop(false);
            }
            self.as_mut().project().first.set(None);
            *self.as_mut().project().race = None;
            self.start_no_more();
            return Poll::Ready(result);
        }
        race.hold(result, ending);
        if this.first.is_some() || race.runs() {
            if ending.asks_for_less() {
                self.start_no_more();
            }
            return Poll::Pending;
        }
        let result = race.end();
        self.start_no_more();
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    First,
    Hedge,
}

impl Next {
    fn after_delay(lent: &Inner, now: Instant) -> Self {
        match now.checked_add(lent.delay()) {
            Some(due) if due == now => Self::Due,
            Some(due) => Self::Delayed { sleep: sleep_until(due) },
            None => Self::Never,
        }
    }
}

impl<S, Req, C, P> fmt::Debug for ResponseFuture<S, Req, C, P>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("origin", &self.watch.lent.origin)
            .field("watch", &self.watch)
            .field("race", &self.race)
            .finish_non_exhaustive()
    }
}
