use std::{
    ops::{Bound, RangeBounds},
    time::Duration,
};

use crate::nanos::{Nanos, from_duration};

/// A span of virtual time, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Nanos,
    pub(crate) until: Nanos,
}

impl Span {
    pub(crate) fn of(range: &impl RangeBounds<Duration>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(from) => from_duration(*from),
            Bound::Excluded(from) => from_duration(*from).saturating_add(1),
            Bound::Unbounded => 0,
        };
        let until = match range.end_bound() {
            Bound::Included(until) => from_duration(*until).saturating_add(1),
            Bound::Excluded(until) => from_duration(*until),
            Bound::Unbounded => Nanos::MAX,
        };
        Self { from, until }
    }

    pub(crate) fn contains(self, at: Nanos) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// What holds at which times.
#[derive(Debug, Clone)]
pub(crate) struct Schedule<T>(Vec<(Span, T)>);

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Schedule<T> {
    pub(crate) fn add(&mut self, span: Span, value: T) {
        self.0.push((span, value));
    }

    pub(crate) fn at(&self, now: Nanos) -> impl Iterator<Item = T> + '_ {
        self.0.iter().filter(move |(span, _)| span.contains(now)).map(|&(_, value)| value)
    }

    pub(crate) fn holds(&self, now: Nanos) -> bool {
        self.at(now).next().is_some()
    }

    pub(crate) fn beginnings(&self) -> impl Iterator<Item = Nanos> + '_ {
        self.0.iter().filter(|(span, _)| span.from < span.until).map(|(span, _)| span.from)
    }
}
