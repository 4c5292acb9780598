use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use http::{Extensions, Request};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    client::HttpClient,
    connection::{Claim, Exchange},
    places::Places,
};

const INTERVAL: Duration = Duration::from_millis(5);

impl<B> HttpClient<B> {
    /// Closes the client and all its clones. From the call of this on, new calls are refused with
    /// [`Reason::Closed`](buttress_core::Reason::Closed) and idle connections are closed. Calls in flight may take `grace`
    /// to end, the bodies of their answers included.
    ///
    /// It is ready when no call and no connection is left. What is still there after `grace` is closed at once; its
    /// callers get an error. Closing a client again waits for the same.
    ///
    /// Dropping the future does not open the client again: calls in flight end and connections are closed as they become
    /// idle, and nothing is cut off. The same holds where it is never polled. Made outside of a tokio runtime, it closes
    /// idle connections only once it is polled.
    ///
    /// # Errors
    /// [`CutOff`] where `grace` was too short: how much was cut off.
    ///
    /// # Panics
    /// When it is polled outside of a tokio runtime with a timer.
    pub fn close(&self, grace: Duration) -> impl Future<Output = Result<(), CutOff>> + Send + use<B> {
        let places = Arc::clone(self.places());
        places.calls.close();
        // Also where nobody polls what is returned.
        let runtime = Handle::try_current();
        if let Ok(runtime) = &runtime {
            runtime.spawn(Arc::clone(&places).empty());
        }
        let is_outside = runtime.is_err();
        async move {
            if is_outside {
                tokio::spawn(Arc::clone(&places).empty());
            }
            let mut grace = pin!(sleep(grace));
            loop {
                let mut changed = pin!(places.calls.changed.notified());
                // What changes from here on is seen.
                changed.as_mut().enable();
                let left = places.left();
                if left == CutOff::default() {
                    return Ok(());
                }
                let is_over = poll_fn(|cx| match changed.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(false),
                    Poll::Pending => grace.as_mut().poll(cx).map(|()| true),
                });
                if is_over.await {
                    places.cut();
                    return Err(left);
                }
            }
        }
    }
}

/// What was still there when the time of [`HttpClient::close`] was up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CutOff {
    /// Calls without an answer, and answers whose body was not read to its end and not dropped.
    pub calls: usize,
    /// Connections, open or being made.
    pub connections: usize,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, connections } = self;
        write!(
            f,
            "the HTTP client was closed with {calls} calls in flight and {connections} connections open"
        )
    }
}

impl std::error::Error for CutOff {}

impl Places {
    /// Lets a call in, unless the client is closed.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Held> {
        let is_let_in = self.calls.enter();
        let counted = Counted { places: Some(Arc::clone(self)), exchange: None };
        let since = self.drawn.load(SeqCst);
        let held = Held { claim: None, used: None, uploads: false, since, counted };
        is_let_in.then_some(held)
    }

    /// Closes connections as they become idle, until there is none. A body that is held after the cut holds none.
    async fn empty(self: Arc<Self>) {
        while !self.is_cut() && self.left() != CutOff::default() {
            self.close_idle();
            // hyper's pool takes them a moment after the end of the answer.
            sleep(INTERVAL).await;
        }
    }

    fn left(&self) -> CutOff {
        CutOff { calls: self.calls.count(), connections: self.taken() }
    }
}

/// What a call holds until it has an answer.
pub(crate) struct Held {
    pub(crate) claim: Option<Claim>,
    /// Which connection the call uses, where that may have to be closed afterwards.
    used: Option<CaptureConnection>,
    /// The request has a body, which may still be on its way when the call is given up.
    uploads: bool,
    /// How many tickets of the queue had been drawn when it began.
    since: u64,
    counted: Counted,
}

/// What a call holds until the body of its answer has ended.
#[derive(Default)]
pub(crate) struct Counted {
    places: Option<Arc<Places>>,
    exchange: Option<Exchange>,
}

impl Held {
    /// Has hyper tell which connection this request uses, where others wait for one, or it may have to be given up. It costs
    /// a call something.
    pub(crate) fn watch<B: Body>(&mut self, request: &mut Request<B>) {
        self.uploads = !request.body().is_end_stream();
        if self.uploads || self.counted.places.as_ref().is_some_and(|places| places.watches()) {
            self.used = Some(capture_connection(request));
        }
    }

    /// The head of the answer is there: what is left to hold.
    pub(crate) fn answered(&mut self, extensions: &mut Extensions) -> Counted {
        self.claim = None;
        self.used = None;
        let mut counted = std::mem::take(&mut self.counted);
        let Some(exchange) = extensions.remove::<Exchange>() else { return counted };
        if let Some(places) = &counted.places {
            places.served(&exchange.connection().host, self.since);
        }
        // A connection that is another protocol's from here on is never idle.
        exchange.answered();
        if extensions.get::<OnUpgrade>().is_none() {
            counted.exchange = Some(exchange);
        }
        counted
    }

    /// The request may have been sent.
    pub(crate) fn may_be_sent(&mut self) {
        let (Some(used), Some(places)) = (&self.used, &self.counted.places) else { return };
        let mut extensions = Extensions::new();
        {
            let connected = used.connection_metadata();
            let Some(connected) = &*connected else { return };
            connected.get_extras(&mut extensions);
            if extensions.get().is_some_and(|exchange: &Exchange| places.dismisses(exchange.connection())) {
                // The pool does not take it back.
                connected.poison();
            }
        }
        if !self.uploads {
            self.used = None;
        }
    }

    /// A server that does not take the rest of the request would keep the connection, and its place, as long as it likes.
    fn give_up(&self) {
        let Some(used) = self.used.as_ref().filter(|_| self.uploads) else { return };
        let mut extensions = Extensions::new();
        let connected = used.connection_metadata();
        let Some(connected) = &*connected else { return };
        connected.get_extras(&mut extensions);
        if let Some(exchange) = extensions.get::<Exchange>() {
            exchange.give_up(connected);
        }
    }

    /// There will be no answer.
    pub(crate) fn end(&mut self) {
        self.claim = None;
        self.used = None;
        self.counted.end();
    }
}

impl Counted {
    pub(crate) fn end(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.end();
        }
        if let Some(places) = self.places.take() {
            places.calls.leave();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_up();
        self.end();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
