use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Backoff, Delays};
use futures_core::Stream;
use tokio::time::{Sleep, sleep};
use tracing::{info, warn};

use super::{
    Ttl,
    answers::{Answers, MAX_ADDRESSES, Missed, News},
    error::DnsError,
    lookup::{Answer, Lookups},
    resolution::Resolution,
};
use crate::{Change, Endpoint};

/// The endpoints of a name, as a `Stream` of changes that never ends. Made by [`Dns::endpoints`](crate::Dns::endpoints).
///
/// It gives an error for the first lookup in a row that fails, and tries again by itself. Of the runtime that polls it, it
/// uses timers and sockets.
pub struct DnsEndpoints<F> {
    host: Arc<str>,
    port: u16,
    lookups: Lookups,
    ttl: Ttl,
    backoff: Backoff,
    make: F,
    answers: Answers,
    changes: VecDeque<Diff>,
    step: Step,
    /// The next delays, while lookups fail.
    failing: Option<Delays>,
    overfull: bool,
    resolution: Resolution,
}

enum Diff {
    Appeared(IpAddr),
    Gone(IpAddr),
}

/// Boxed, for it has to be pinned. There is one of them in a TTL.
enum Step {
    Asking(Pin<Box<dyn Future<Output = [Answer; 2]> + Send>>),
    Waiting(Pin<Box<Sleep>>),
}

impl<F> DnsEndpoints<F> {
    pub(crate) fn new(host: &str, port: u16, lookups: Lookups, ttl: Ttl, backoff: Backoff, make: F) -> Self {
        let step = Step::Asking(Box::pin(lookups.clone().ask()));
        Self {
            host: host.into(),
            port,
            lookups,
            ttl,
            backoff,
            make,
            answers: Answers::default(),
            changes: VecDeque::new(),
            step,
            failing: None,
            overfull: false,
            resolution: Resolution::new(host, ttl, backoff),
        }
    }

    /// The handle of its figures.
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        self.resolution.clone()
    }

    fn answered(&mut self, news: News) {
        let addresses = self.answers.len();
        self.resolution.answered(addresses);
        if self.failing.take().is_some() {
            info!(host = &*self.host, addresses, "the name is found again");
        }
        let overfull = addresses > MAX_ADDRESSES;
        if overfull && !self.overfull {
            warn!(
                host = &*self.host,
                addresses, "more addresses than may be: the lowest {MAX_ADDRESSES} are used"
            );
        }
        self.overfull = overfull;
        // What is new comes first, so that there is always one.
        self.changes.extend(news.appeared.into_iter().map(Diff::Appeared));
        self.changes.extend(news.gone.into_iter().map(Diff::Gone));
        // Somewhat later than need be, so that many processes do not ask at once.
        self.wait(news.ttl.saturating_add(news.ttl.mul_f64(fastrand::f64() / 10.0)));
    }

    /// The error, for the first in a row.
    fn missed(&mut self, missed: Missed) -> Option<DnsError> {
        self.resolution.missed();
        let first = self.failing.is_none();
        let delays = self.failing.get_or_insert_with(|| self.backoff.delays());
        let delay = delays.next().unwrap_or_default().max(missed.not_before);
        self.wait(delay);
        first.then(|| DnsError::new(Arc::clone(&self.host), missed.why))
    }

    fn wait(&mut self, delay: Duration) {
        self.step = Step::Waiting(Box::pin(sleep(delay)));
    }
}

impl<F, S> Stream for DnsEndpoints<F>
where
    F: FnMut(SocketAddr) -> Endpoint<S>,
{
    type Item = Result<Change<SocketAddr, S>, DnsError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(diff) = this.changes.pop_front() {
                let change = match diff {
                    Diff::Appeared(ip) => {
                        let addr = SocketAddr::new(ip, this.port);
                        Change::Insert(addr, (this.make)(addr))
                    }
                    Diff::Gone(ip) => Change::Remove(SocketAddr::new(ip, this.port)),
                };
                return Poll::Ready(Some(Ok(change)));
            }
            match &mut this.step {
                Step::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    this.step = Step::Asking(Box::pin(this.lookups.clone().ask()));
                }
                Step::Asking(asking) => {
                    let answers = ready!(asking.as_mut().poll(cx));
                    match this.answers.take(answers, this.ttl) {
                        Ok(news) => this.answered(news),
                        Err(missed) => {
                            if let Some(error) = this.missed(missed) {
                                return Poll::Ready(Some(Err(error)));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Nothing in it is pinned in place.
impl<F> Unpin for DnsEndpoints<F> {}

impl<F> fmt::Debug for DnsEndpoints<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, answers, .. } = self;
        f.debug_struct("DnsEndpoints")
            .field("host", host)
            .field("port", port)
            .field("answers", answers)
            .finish_non_exhaustive()
    }
}
