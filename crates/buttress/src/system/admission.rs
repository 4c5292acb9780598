use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Origin, Reason, Rejected};
use pin_project_lite::pin_project;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tower_layer::Layer;
use tower_service::Service;

/// Counts the calls inside, and lets none in any more once the system shuts down.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    inside: TaskTracker,
    origin: Origin,
}

impl Gate {
    pub(crate) fn new(name: &str) -> Self {
        Self { inside: TaskTracker::new(), origin: Origin::new("system", name) }
    }

    /// The call is inside for as long as it holds this.
    pub(crate) fn enter(&self) -> Result<TaskTrackerToken, Rejected> {
        // First in, then the look: whoever waits for all to leave has seen this one, or this one sees that it is closed.
        let token = self.inside.token();
        if self.inside.is_closed() {
            return Err(self.origin.reject(Reason::Closed));
        }
        Ok(token)
    }

    /// What a call is refused with.
    pub(crate) fn refusal(&self, reason: Reason) -> Rejected {
        self.origin.reject(reason)
    }

    pub(crate) fn close(&self) {
        self.inside.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inside.is_closed()
    }

    /// How many calls are inside.
    pub(crate) fn inside(&self) -> usize {
        self.inside.len()
    }

    /// Once it is closed and the last has left.
    pub(crate) async fn empty(&self) {
        self.inside.wait().await;
    }
}

impl<S> Layer<S> for Gate {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { inner, gate: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Admitted<S> {
    inner: S,
    gate: Gate,
}

impl<S, Req> Service<Req> for Admitted<S>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AdmittedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A refusal waits for nobody.
        if self.gate.is_closed() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.gate.enter() {
            Ok(token) => AdmittedFuture::Inside { future: self.inner.call(request), token: Some(token) },
            Err(rejected) => AdmittedFuture::Refused { rejected },
        }
    }
}

pin_project! {
    #[project = Admission]
    pub(crate) enum AdmittedFuture<F> {
        Inside { #[pin] future: F, token: Option<TaskTrackerToken> },
        Refused { rejected: Rejected },
    }
}

impl<F, T, E> Future for AdmittedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Rejected>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Admission::Inside { future, token } => {
                let result = ready!(future.poll(cx));
                // Also where the future itself is kept for a while.
                *token = None;
                Poll::Ready(result)
            }
            Admission::Refused { rejected } => Poll::Ready(Err((*rejected).into())),
        }
    }
}

#[cfg(test)]
mod tests;
