use std::{convert::Infallible, ops::AddAssign};

use buttress_core::Rejectable;
use tower::BoxError;

use crate::backend::{Broken, Failure};

/// How a call ended, so that a row can be held to what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Served,
    Failed,
    Refused,
}

/// An error that may be a layer's refusal.
pub(crate) trait Refusal {
    fn is_refusal(&self) -> bool;
}

pub(crate) fn verdict<T, E: Refusal>(answer: &Result<T, E>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Served,
        Err(error) if error.is_refusal() => Verdict::Refused,
        Err(_) => Verdict::Failed,
    }
}

impl Refusal for Infallible {
    fn is_refusal(&self) -> bool {
        match *self {}
    }
}

impl Refusal for Failure {
    fn is_refusal(&self) -> bool {
        self.rejected().is_some()
    }
}

impl Refusal for tokio::time::error::Elapsed {
    fn is_refusal(&self) -> bool {
        true
    }
}

impl Refusal for BoxError {
    fn is_refusal(&self) -> bool {
        !self.is::<Broken>()
    }
}

/// How many calls ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) served: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
}

impl AddAssign<Verdict> for Tally {
    fn add_assign(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Served => &mut self.served,
            Verdict::Failed => &mut self.failed,
            Verdict::Refused => &mut self.refused,
        } += 1;
    }
}
