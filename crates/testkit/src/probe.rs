//! Contract probes: what every layer owes to its caller and to the service inside.
//!
//! Each probe puts a layer around a [`Probed`] service, drives it and panics with the rule that was broken.
//! They run inside a tokio runtime, best with a paused clock (`#[tokio::test(start_paused = true)]`): a
//! layer that hangs is then found at once, and a backoff costs no time.
//!
//! | probe | rule |
//! |---|---|
//! | [`calls_only_ready`] | the service that is called is one that was polled ready |
//! | [`releases_readiness`] | readiness that was not used is given back, and a clone starts without any |
//! | [`cancel_everywhere`] | a call dropped at any await point leaves nothing behind |
//! | [`clones_share`] | clones, and services made by one layer, share one state |
//! | [`survives_panic`] | a panic inside reaches the caller and breaks nothing else |
//!
//! The error of the inner service is [`BoxError`]; a test with an error type of its own takes
//! [`Backend::service`] and drives it by hand.

mod backend;
mod cancel;
mod drive;
mod panic;
mod probed;
mod readiness;
mod share;

use std::error::Error;

pub use self::backend::{Backend, PanicAt, ScriptedFailure};
pub use self::cancel::cancel_everywhere;
pub use self::drive::{drop_after, ready};
pub use self::panic::survives_panic;
pub use self::probed::{Probed, ProbedFuture};
pub use self::readiness::{calls_only_ready, releases_readiness};
pub use self::share::clones_share;

/// The error of a [`Probed`] service, unless it is told otherwise.
pub type BoxError = Box<dyn Error + Send + Sync>;
