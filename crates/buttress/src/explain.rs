//! What a stack of layers does at worst, and where its settings contradict each other.
//!
//! Every layer and client tells what it is set to ([`Observe::settings`](buttress_core::Observe::settings)). From that alone
//! an [`Explanation`] computes how long a call can take, how many attempts it can become and what is kept in memory for it,
//! and it finds numbers that contradict each other, each with its arithmetic:
//!
//! ```
//! # #[cfg(not(all(feature = "retry", feature = "timeout")))] fn main() {}
//! # #[cfg(all(feature = "retry", feature = "timeout"))] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use buttress::{
//!     explain::Explanation,
//!     retry::RetryLayer,
//!     telemetry::Registry,
//!     timeout::TimeoutLayer,
//! };
//!
//! let registry = Registry::new();
//! let total = TimeoutLayer::new(Duration::from_secs(10)).name("stock total");
//! let retry = RetryLayer::new("stock");
//! let retrier = retry.retrier();
//! let attempt = TimeoutLayer::new(Duration::from_secs(4)).name("stock attempt");
//! // The service is made of the same layers, in the same order.
//! registry.stack("stock").layer(&total).layer(&retrier).layer(&attempt).register()?;
//!
//! let explanation = Explanation::of_registry(&registry);
//! let stack = &explanation.stacks()[0];
//! assert_eq!((stack.attempts, stack.longest), (3, Some(Duration::from_secs(10))));
//!
//! let [finding, _] = explanation.findings() else { panic!("{explanation}") };
//! assert_eq!(
//!     finding.text,
//!     "retry `stock`: 3 attempts of 4s and waits of up to 100ms + 200ms take 12.3s, but timeout `stock total` ends the call \
//!      after 10s: the last attempt is cut off",
//! );
//! assert!(!explanation.has_errors());
//! # Ok(()) }
//! ```
//!
//! `{explanation}` is a page of text with all of it.
//!
//! # What is counted, and what is not
//!
//! - **Time** is what the layers allow, not what is likely: each attempt takes as long as its limit lets it, and each wait is
//!   as long as it may be before chance shortens it. Not counted is what a server asks for by `Retry-After` (up to the
//!   backoff's cap for each wait), that a wait with decorrelated jitter may reach the cap at once, and that who waits for
//!   another's load of a cache may wait for several of them. A limit around all of that bounds it nevertheless.
//! - **Attempts** are what may reach the innermost service for one call. Open breakers, caches, shared batches and budgets
//!   make them fewer. In the long run the budgets count: see [`Load`].
//! - **A layer that it does not know** is shown, and changes no figure. Settings that are not told make no finding.
//! - **Not told** is how long a rate limit lets calls wait, which is its layer's and not its handle's: add it by
//!   [`Stack::also`]. Which calls are repeated is a function, and is said by [`Stack::repeats`].

mod explanation;
mod finding;
mod layer;
mod page;
mod rules;
mod stack;
mod view;
mod worst;

pub use self::{
    explanation::{Bound, ExplainedLayer, ExplainedStack, Explanation, Load, QueueWait, RateOfAttempts},
    finding::{Finding, Severity},
    layer::Layer,
    stack::{Repeats, Stack},
};
