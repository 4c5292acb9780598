//! What a handle tells, and what layers say of their decisions, as a test compares it.

use std::future::{Future, poll_fn};
use std::pin::pin;

use buttress_core::{Decisions, Observe, Setting};

/// The settings of a handle, in their order.
pub fn settings(handle: &dyn Observe) -> Vec<Setting> {
    let mut all = Vec::new();
    handle.settings(&mut |setting| all.push(setting));
    all
}

/// What a call comes to, and what was decided about it: what, and why.
pub async fn watched<F: Future>(call: F) -> (F::Output, Vec<(&'static str, String)>) {
    let mut decisions = Decisions::new();
    let mut call = pin!(call);
    let output = poll_fn(|cx| decisions.collect(|| call.as_mut().poll(cx))).await;
    let said = decisions.as_slice().iter().map(|decision| (decision.what, decision.why.clone()));
    (output, said.collect())
}

/// One decision, to compare with.
pub fn said(what: &'static str, why: &str) -> (&'static str, String) {
    (what, why.to_owned())
}
