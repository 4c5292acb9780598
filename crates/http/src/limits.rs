use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::builder::{Builder, InvalidConfig};

/// What bounds an answer beside the caller's deadline. Nothing does by default: an answer may be a stream of events, and
/// a thin client cannot know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) first_byte: Option<Duration>,
    pub(crate) read: Option<Duration>,
    pub(crate) body: Option<u64>,
}

/// Added to the time, which must not overflow.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Limits {
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        let zero = |limit: Option<Duration>| limit.is_some_and(|limit| limit.is_zero());
        match () {
            () if zero(self.first_byte) => Err(InvalidConfig::ZeroTimeout("first_byte_timeout")),
            () if zero(self.read) => Err(InvalidConfig::ZeroTimeout("read_timeout")),
            () => Ok(()),
        }
    }

    /// `None` where there is none: a word for each call to carry.
    pub(crate) fn shared(self) -> Option<Arc<Self>> {
        (self.first_byte.is_some() || self.read.is_some() || self.body.is_some()).then(|| Arc::new(self))
    }
}

impl Builder {
    /// How long a server may be silent before its answer's head comes. No limit by default.
    ///
    /// It counts from the time when hyper took the last piece of the request to send it, and not while the connection
    /// is being made or while the request's own body keeps hyper waiting. So a long upload is not cut off as long as the
    /// server takes it, and one that the server stops taking is. What the system's buffers hold counts as sent. The call
    /// ends with [`Error::FirstByteTimeout`](crate::Error::FirstByteTimeout).
    ///
    /// Zero is an error when the client is built; more than 30 years are taken as 30 years.
    pub fn first_byte_timeout(mut self, limit: Duration) -> Self {
        self.limits.first_byte = Some(limit.min(LONGEST));
        self
    }

    /// The longest silence between two pieces of an answer's body. No limit by default.
    ///
    /// It counts while somebody waits for the next piece; a reader that takes its time is not cut off. Reading ends with
    /// [`Error::ReadTimeout`](crate::Error::ReadTimeout). It bounds no answer as a whole: a server can trickle for ever.
    /// That is for a deadline around the reader.
    ///
    /// Zero is an error when the client is built; more than 30 years are taken as 30 years.
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.limits.read = Some(limit.min(LONGEST));
        self
    }

    /// The most bytes that an answer's body may have, as it arrives: before it is decompressed. No limit by default.
    ///
    /// An answer whose `Content-Length` is more is refused with its head; another one where the first byte too many
    /// arrives. Both give [`Error::BodyTooLarge`](crate::Error::BodyTooLarge).
    pub fn max_response_body(mut self, bytes: u64) -> Self {
        self.limits.body = Some(bytes);
        self
    }
}

/// Polls a timer for the instant `at`.
///
/// One that is set to an earlier time is left to ring and then set anew: for limits that move with every piece that
/// comes, that is one entry in the timer's wheel for each limit that passes and not for each piece.
pub(crate) fn poll_by(mut timer: Pin<&mut Sleep>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
    if at < timer.deadline() {
        timer.as_mut().reset(at);
    }
    loop {
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() >= at {
            return Poll::Ready(());
        }
        timer.as_mut().reset(at);
    }
}
