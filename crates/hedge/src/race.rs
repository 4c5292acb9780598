//! What becomes of several attempts of one call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Classify, Outcome, Rejectable, Rejected};

/// The attempts beside the first one, and what those that have ended leave. On the heap, because a future is moved at each
/// call and few calls are hedged.
pub(crate) struct Race<F: Future> {
    hedges: Vec<Pin<Box<F>>>,
    started: u32,
    held: Option<Held<F::Output>>,
}

struct Held<R> {
    result: R,
    refused: bool,
}

/// How an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    outcome: Outcome,
    /// A layer on this side has refused it, so that the backend has not seen it.
    refused: bool,
}

impl Ending {
    pub(crate) fn of<C, Res, Err>(classify: &C, result: &Result<Res, Err>) -> Self
    where
        C: Classify<Res, Err>,
        Err: Rejectable,
    {
        let rejected = result.as_ref().err().and_then(Rejectable::rejected);
        // An error that is no rejection does not say, in a way that is known here, whether the call was sent.
        let sent = rejected.is_none_or(Rejected::sent);
        Self { outcome: classify.classify(result), refused: !sent }
    }

    pub(crate) fn is_success(self) -> bool {
        self.outcome == Outcome::Success
    }

    /// Whether it is the call's result, whatever the other attempts would come to: an answer, or an error that another
    /// attempt would meet as well. A refusal is neither, whatever the classifier says: the others were not refused.
    pub(crate) fn stands(self) -> bool {
        !self.refused && matches!(self.outcome, Outcome::Success | Outcome::Ignored)
    }

    /// Whether the next attempt would be one too many.
    pub(crate) fn asks_for_less(self) -> bool {
        self.refused || matches!(self.outcome, Outcome::Throttled(_))
    }
}

impl<F: Future> Race<F> {
    pub(crate) const fn new() -> Self {
        Self { hedges: Vec::new(), started: 0, held: None }
    }

    pub(crate) fn start(&mut self, hedge: F) {
        self.started += 1;
        self.hedges.push(Box::pin(hedge));
    }

    /// How many hedges were started.
    pub(crate) const fn started(&self) -> u32 {
        self.started
    }

    pub(crate) const fn runs(&self) -> bool {
        !self.hedges.is_empty()
    }

    /// The result of a hedge that has ended. It is dropped by then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<F::Output> {
        self.poll_from(0, cx)
    }

    /// The same of the hedge that was started last: the others have been polled before it.
    pub(crate) fn poll_newest(&mut self, cx: &mut Context<'_>) -> Option<F::Output> {
        self.poll_from(self.hedges.len().saturating_sub(1), cx)
    }

    fn poll_from(&mut self, first: usize, cx: &mut Context<'_>) -> Option<F::Output> {
        for at in first..self.hedges.len() {
            if let Poll::Ready(result) = self.hedges[at].as_mut().poll(cx) {
                drop(self.hedges.swap_remove(at));
                return Some(result);
            }
        }
        None
    }

    /// Keeps a result that does not stand. The last one counts, but a refusal says less than what the backend said: so where
    /// a refusal is the end of the call, all attempts were refused, and it says rightly that the call was not sent.
    pub(crate) fn hold(&mut self, result: F::Output, ending: Ending) {
        if self.held.as_ref().is_none_or(|held| held.refused || !ending.refused) {
            self.held = Some(Held { result, refused: ending.refused });
        }
    }

    /// The result of a call of which no attempt runs any more.
    pub(crate) fn end(&mut self) -> Option<F::Output> {
        self.held.take().map(|held| held.result)
    }
}

impl<F: Future> fmt::Debug for Race<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Race")
            .field("running", &self.hedges.len())
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}
