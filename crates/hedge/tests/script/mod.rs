//! A backend that plays a script, for all tests.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Outcome, Reason, Rejectable, Rejected, Value};
use buttress_hedge::{Budget, CloneRequest, HedgeLayer, Hedger};
use tokio::time::{Instant, sleep};
use tower::Service;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Of the attempt with that number.
    Broken(usize),
    NotFound(usize),
    Busy(usize),
    Rejected(Rejected),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Error for Failure {}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Failure {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

pub(crate) fn judge<T>(result: &Result<T, Failure>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Failure::NotFound(_)) => Outcome::Ignored,
        Err(Failure::Busy(_)) => Outcome::Throttled(None),
        Err(Failure::Broken(_)) => Outcome::Failure,
        Err(Failure::Rejected(rejected)) => rejected.outcome(),
    }
}

type Judge<T> = fn(&Result<T, Failure>) -> Outcome;

/// Hedges everything, after that many milliseconds, without a limit.
pub(crate) fn layer(name: &str, delay: u32) -> HedgeLayer<CloneRequest, Judge<usize>> {
    HedgeLayer::new(name, CloneRequest)
        .delay(delay * MS)
        .budget(Budget::unlimited())
        .classify(judge::<usize> as Judge<usize>)
}

/// A refusal on this side.
pub(crate) fn refused() -> Failure {
    Origin::new("bulkhead", "script").reject(Reason::Overloaded).into()
}

/// What an attempt does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Answers with its number.
    Answers,
    Broken,
    NotFound,
    Busy,
    Refused,
    /// A refusal that may have been sent.
    TimedOut,
}

impl End {
    pub(crate) fn result(self, attempt: usize) -> Result<usize, Failure> {
        match self {
            Self::Answers => Ok(attempt),
            Self::Broken => Err(Failure::Broken(attempt)),
            Self::NotFound => Err(Failure::NotFound(attempt)),
            Self::Busy => Err(Failure::Busy(attempt)),
            Self::Refused => Err(refused()),
            Self::TimedOut => {
                Err(Origin::new("timeout", "script").reject(Reason::TimedOut).after_sending().into())
            }
        }
    }
}

/// A backend whose attempts end after so many milliseconds, each in its way. It notes when it was called.
#[derive(Debug, Clone)]
pub(crate) struct Script(Arc<Mutex<Played>>);

#[derive(Debug)]
struct Played {
    start: Instant,
    attempts: VecDeque<(u32, End)>,
    started: Vec<u128>,
    running: usize,
}

impl Script {
    pub(crate) fn of(attempts: impl IntoIterator<Item = (u32, End)>) -> Self {
        Self(Arc::new(Mutex::new(Played {
            start: Instant::now(),
            attempts: attempts.into_iter().collect(),
            started: Vec::new(),
            running: 0,
        })))
    }

    /// When attempts were made, in milliseconds since the script was written.
    pub(crate) fn started(&self) -> Vec<u128> {
        self.0.lock().unwrap().started.clone()
    }

    /// How many attempts have neither ended nor been dropped.
    pub(crate) fn running(&self) -> usize {
        self.0.lock().unwrap().running
    }

    pub(crate) fn attempt(&self) -> impl Future<Output = Result<usize, Failure>> + Send + use<> {
        let (running, number, after, end) = {
            let mut played = self.0.lock().unwrap();
            let now = played.start.elapsed().as_millis();
            played.started.push(now);
            played.running += 1;
            let (after, end) = played.attempts.pop_front().expect("no more attempts than are in the script");
            (Running(Arc::clone(&self.0)), played.started.len() - 1, after, end)
        };
        async move {
            let _running = running;
            if after > 0 {
                sleep(after * MS).await;
            }
            end.result(number)
        }
    }
}

#[derive(Debug)]
struct Running(Arc<Mutex<Played>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().unwrap().running -= 1;
    }
}

impl<Req> Service<Req> for Script {
    type Response = usize;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<usize, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        Box::pin(self.attempt())
    }
}

pub(crate) fn figure<C: Send + Sync>(hedger: &Hedger<C>, wanted: &str) -> f64 {
    let mut found = None;
    hedger.observe(&mut |Metric { name, value, .. }| {
        if name == wanted {
            found = Some(match value {
                Value::Counter(count) => count as f64,
                Value::Gauge(gauge) => gauge,
                _ => panic!("an unknown kind of figure"),
            });
        }
    });
    found.unwrap_or_else(|| panic!("there is no figure `{wanted}`"))
}
