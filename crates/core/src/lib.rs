#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backoff;
mod classify;
mod clock;
mod deadline;
mod decision;
#[cfg(feature = "http")]
mod http;
mod observe;
mod origin;
mod rejected;
mod replay;
mod respond;
#[cfg(feature = "http")]
mod retry_after;
mod shelf;
mod sync;
mod tally;
mod thread;
#[cfg(feature = "tonic")]
mod tonic;

pub use self::{
    backoff::{Backoff, Delays, InvalidBackoff, Jitter},
    classify::{ByError, Classify, Outcome},
    clock::tokio_can_pause,
    deadline::{Deadline, Scope, Scoped},
    decision::{Decision, Decisions},
    observe::{Metric, Observe, Setting, SettingValue, UnknownAction, Value, WeakObserve},
    origin::Origin,
    rejected::{BoxError, Reason, Rejectable, Rejected},
    replay::{CloneRequest, ReplayRequest},
    respond::{Fallible, FallibleFuture, Respond, RespondFuture, Responding},
    shelf::Shelf,
    thread::{thread_number, thread_stripes},
};
#[cfg(feature = "http")]
pub use self::{http::problem, retry_after::retry_after};
