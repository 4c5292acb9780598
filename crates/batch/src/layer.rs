use std::{fmt, future::Future, hash::Hash, sync::Arc, time::Duration};

use buttress_core::{Origin, Rejectable};
use futures_core::Stream;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Batch, Batched, Process,
    batch::Function,
    rules::{Bisect, Dedupe, Limits, Rules},
};

/// Makes one request of many: the knobs of a batcher, and the layer that puts it before a service.
///
/// The service inside takes a `Vec` of requests, and returns a result for each of them in their order.
///
/// Each service that it makes gathers for itself, since a batch is one call of one service.
#[must_use = "it does nothing until it is put before a service"]
pub struct BatchLayer<Req, Res, E> {
    rules: Rules<Req, Res, E>,
}

impl<Req, Res, E> BatchLayer<Req, Res, E> {
    /// With the default of every knob. The name stands in errors and metrics.
    pub fn new(name: &str) -> Self {
        let origin = Origin::new("batch", name);
        Self {
            rules: Rules {
                origin,
                limits: Limits::DEFAULT,
                weigh: None,
                bisect: None,
                dedupe: None,
                share: None,
            },
        }
    }

    /// The most requests in a batch: 1,000 by default, at least 1.
    pub const fn max_size(mut self, requests: usize) -> Self {
        self.rules.limits.size = at_least_one(requests);
        self
    }

    /// The most that the requests of a batch weigh together, and what one weighs: its bytes, say. A request that is heavier
    /// than that goes alone. Without it there is no such bound.
    ///
    /// A panic of `weigh` goes on to the caller whose request it was.
    pub fn max_weight(mut self, weight: u64, weigh: impl Fn(&Req) -> u64 + Send + Sync + 'static) -> Self {
        self.rules.limits.weight = weight;
        self.rules.weigh = Some(Arc::new(weigh));
        self
    }

    /// How many batches are in flight at the same time: 1 by default, at least 1. A lone caller's call may be one more.
    ///
    /// With more of them batches are smaller: more come where one would do.
    pub const fn in_flight(mut self, batches: usize) -> Self {
        self.rules.limits.in_flight = at_least_one(batches);
        self
    }

    /// How long a request waits for others although nothing is in flight: zero by default. Any other time is added to the
    /// latency of every call, and is at least a millisecond, which is the tick of tokio's timer.
    pub const fn linger(mut self, time: Duration) -> Self {
        self.rules.limits.linger = time;
        self
    }

    /// How many requests wait at most, those in flight not included: 10,000 by default, at least 1. What is beyond that is
    /// refused with [`Overloaded`](buttress_core::Reason::Overloaded).
    pub const fn max_waiting(mut self, requests: usize) -> Self {
        self.rules.limits.waiting = at_least_one(requests);
        self
    }

    /// Sends the halves of a batch that failed with an error of which `splits` is true, until what made it fail is alone.
    ///
    /// Let it be true only where nothing of the batch was carried out, or where it does no harm to carry it out again. A lost
    /// connection says neither for an `INSERT`. Each request is cloned once for each time that it is sent among others.
    pub fn bisect(mut self, splits: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self
    where
        Req: Clone,
    {
        self.rules.bisect = Some(Bisect { splits: Arc::new(splits), clone: Req::clone });
        self
    }

    /// Gives each caller of a batch that failed as a whole a clone of its error, instead of
    /// [`BatchFailed`](buttress_core::Reason::BatchFailed): what it says of the backend (it cannot be reached, nothing was sent)
    /// is true for all of them.
    pub fn share_errors(mut self) -> Self
    where
        E: Clone,
    {
        self.rules.share = Some(E::clone);
        self
    }

    /// Sends requests with equal keys once in a batch, and gives each of their callers a clone of the result.
    ///
    /// A panic of `key`, or of the key's `Hash` and `Eq`, harms the batch.
    pub fn dedupe<K, F>(mut self, key: F) -> Self
    where
        K: Hash + Eq + Send + 'static,
        F: Fn(&Req) -> K + Send + Sync + 'static,
        Res: Clone,
        E: Clone,
    {
        self.rules.dedupe = Some(Dedupe::by(key));
        self
    }

    /// A batcher for code that is no service: before a function of many requests.
    ///
    /// ```
    /// use buttress_batch::BatchLayer;
    /// use buttress_core::BoxError;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let squares = BatchLayer::new("squares").function(async |numbers: Vec<u64>| {
    ///     Ok::<_, BoxError>(numbers.iter().map(|n| Ok::<_, BoxError>(n * n)).collect())
    /// });
    /// assert_eq!(squares.call(7).await?, 49);
    /// # Ok(()) }
    /// ```
    ///
    /// One that captures something is written `move |requests| { let db = db.clone(); async move { .. } }`.
    pub fn function<F, T>(&self, function: F) -> Batch<Req, Res, E>
    where
        F: Fn(Vec<Req>) -> T + Clone + Send + 'static,
        T: Future<Output = Result<Vec<Result<Res, E>>, E>> + Send + 'static,
        Req: Send + 'static,
        Res: Send + 'static,
        E: Rejectable + Send + 'static,
    {
        Batched::new(Function(function), self.rules.clone()).batch()
    }

    /// Sends the items of a stream in batches, and is the stream of their results: one for each item, in their order.
    ///
    /// See [`Process`] for what is in flight and in memory when. [`linger`](Self::linger) and
    /// [`max_waiting`](Self::max_waiting) have no part in it.
    pub fn process<T, S>(&self, stream: T, service: S) -> Process<T, S, Req, Res, E>
    where
        T: Stream<Item = Req>,
        S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
        S::Future: Send,
        Req: Send + 'static,
        Res: Send + 'static,
        E: Rejectable + Send + 'static,
    {
        Process::new(stream, service, self.rules.clone())
    }
}

const fn at_least_one(n: usize) -> usize {
    if n == 0 { 1 } else { n }
}

impl<S, Req, Res, E> Layer<S> for BatchLayer<Req, Res, E> {
    type Service = Batched<S, Req, Res, E>;

    fn layer(&self, inner: S) -> Self::Service {
        Batched::new(inner, self.rules.clone())
    }
}

impl<Req, Res, E> Clone for BatchLayer<Req, Res, E> {
    fn clone(&self) -> Self {
        Self { rules: self.rules.clone() }
    }
}

impl<Req, Res, E> fmt::Debug for BatchLayer<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLayer")
            .field("origin", &self.rules.origin)
            .field("limits", &self.rules.limits)
            .finish_non_exhaustive()
    }
}
