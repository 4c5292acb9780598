use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::cluster::{Ask, Grant, Store};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    TimedOut,
    Panicked,
    /// The store's own words.
    Said(String),
    /// Another number of answers than of asks, or more units than were asked for.
    Nonsense,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "it did not answer in time",
            Self::Panicked => "its code panicked",
            Self::Said(error) => error,
            Self::Nonsense => "its answer makes no sense",
        })
    }
}

/// One round trip. A grant is one that could be.
pub(crate) async fn round_trip<St: Store>(
    store: &St,
    asks: Vec<Ask>,
    limit: Duration,
) -> Result<Vec<Result<Grant, Failure>>, Failure> {
    let bounds: Vec<_> = asks.iter().map(|ask| (ask.least, ask.most)).collect();
    let answers = match in_time(Caught(pin!(async { store.take(asks).await })), limit).await {
        None => return Err(Failure::TimedOut),
        Some(None) => return Err(Failure::Panicked),
        Some(Some(answers)) if answers.len() != bounds.len() => return Err(Failure::Nonsense),
        Some(Some(answers)) => answers,
    };
    let check = |(answer, (least, most)): (Result<Grant, St::Error>, (u32, u32))| match answer {
        Ok(grant) if grant.units > most || (grant.units > 0 && grant.units < least) => Err(Failure::Nonsense),
        Ok(grant) => Ok(grant),
        Err(error) => Err(Failure::Said(error.to_string())),
    };
    let mut answers: Vec<_> = answers.into_iter().zip(bounds).map(check).collect();
    // One ask that failed concerns itself alone. All of them: the store.
    match answers.iter().all(Result::is_err).then(|| answers.pop()) {
        Some(Some(Err(failure))) => Err(failure),
        _ => Ok(answers),
    }
}

/// Whether a timer was so late that this process cannot have had its turn.
pub(crate) fn is_late(until: Instant) -> bool {
    const LATE: Duration = Duration::from_millis(5);
    Instant::now() >= until + LATE
}

/// `None` where it takes longer than that. Where this process did not get its turn meanwhile, the answer may be there and
/// nobody has read it: that is not the store's silence, so it gets a fifth of the time more, twice at most.
async fn in_time<F: Future + Unpin>(mut future: F, limit: Duration) -> Option<F::Output> {
    for wait in [limit, limit / 5, limit / 5] {
        let until = Instant::now() + wait;
        match timeout_at(until, &mut future).await {
            Ok(output) => return Some(output),
            Err(_) if is_late(until) => {}
            Err(_) => break,
        }
    }
    None
}

/// `None` where the future panicked.
struct Caught<'a, F>(Pin<&'a mut F>);

impl<F: Future> Future for Caught<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // It is not polled again.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}
