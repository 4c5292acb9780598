use std::{fmt, future::Future, pin::Pin};

use crate::{Cause, Status};

#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod tcp;

pub(crate) type Asking = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Something that can be asked how a part is.
///
/// Dropping the future of a probe that runs, which its timeout does, must leave nothing behind.
pub struct Probe {
    kind: Kind,
    ask: Box<dyn FnMut() -> Asking + Send>,
}

/// The `componentType` of `application/health+json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Component,
    #[cfg(any(feature = "postgres", feature = "redis"))]
    Datastore,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            #[cfg(any(feature = "postgres", feature = "redis"))]
            Self::Datastore => "datastore",
        }
    }
}

impl Probe {
    /// Asks this function. What it gives is a [`Status`], or a `Result<(), E>` whose error is shown as the cause: see to it that
    /// this holds no secret.
    ///
    /// ```
    /// use buttress_health::{Probe, Status};
    ///
    /// let answers = Probe::from_fn(|| async { std::fs::metadata("/").map(drop) });
    /// let queue = Probe::from_fn(|| async { Status::down_if(false, "the queue is full") });
    /// # drop((answers, queue));
    /// ```
    pub fn from_fn<F, Fut>(mut ask: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output: Into<Status>> + Send + 'static,
    {
        Self::of(Kind::Component, move || {
            let asking = ask();
            async move { asking.await.into() }
        })
    }

    fn of<F, Fut>(kind: Kind, mut ask: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Status> + Send + 'static,
    {
        Self { kind, ask: Box::new(move || Box::pin(ask())) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn ask(&mut self) -> Asking {
        (self.ask)()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a probe's steps give: an error is what is wrong.
fn status(result: Result<(), Cause>) -> Status {
    match result {
        Ok(()) => Status::Well,
        Err(cause) => Status::Down(cause),
    }
}
