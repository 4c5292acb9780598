use std::{mem, time::Duration};

use buttress_core::{Decision, Decisions};
use tokio::time::Instant;

use crate::{
    Ended, SlowCall, SlowDecision,
    recording::Recording,
    series::{Calls, Way},
    source::{End, Exemplar},
    span::{CallSpan, SpanEnd, TraceIds},
    wall,
};

/// Where a call is counted, and since when it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) recording: &'static Recording,
    pub(crate) calls: &'static Calls,
    pub(crate) started: Instant,
}

/// A call that has begun.
pub(crate) struct Call {
    begun: Begun,
    span: CallSpan,
    decisions: Decisions,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    /// In code that may panic: that of the service, the convention or the classifier.
    Inside,
    Ended,
}

impl Call {
    /// One that was made, and has no span.
    #[inline]
    pub(crate) fn without_span(begun: Begun, decisions: Decisions) -> Self {
        Self { begun, span: CallSpan::default(), decisions, progress: Progress::Waiting }
    }

    /// One that is about to be made, in a span if there is to be one.
    pub(crate) fn in_span(recording: &'static Recording, calls: &'static Calls) -> Self {
        let own = &calls.attributes[recording.span.common.len()..];
        let span = CallSpan::begin(&recording.span, &calls.name, own);
        // Not before: a subscriber is code of others, and of a call that never was nobody would count the end.
        let begun = recording.begin(calls);
        Self { begun, span, decisions: Decisions::new(), progress: Progress::Inside }
    }

    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.progress == Progress::Waiting
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.progress == Progress::Ended
    }

    /// Runs `f`, a `call` or a poll, where what is decided is collected and all spans are inside of this one.
    #[inline]
    pub(crate) fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let span = &self.span;
        self.progress = Progress::Inside;
        self.decisions.collect(|| span.enter(f))
    }

    /// Nothing of it runs now.
    #[inline]
    pub(crate) const fn waits(&mut self) {
        self.progress = Progress::Waiting;
    }

    pub(crate) fn finish(&mut self, end: End, ended: &Ended<'_>) {
        self.progress = Progress::Ended;
        let latency = self.begun.started.elapsed();
        let nanos =
            latency.as_secs().saturating_mul(1_000_000_000).saturating_add(latency.subsec_nanos().into());
        let way = self.begun.calls.way(end, ended);
        way.latencies.record(nanos);
        let is_slow = self.begun.recording.judge(end, nanos);
        if is_slow || !self.decisions.as_slice().is_empty() || self.span.wants_end(end, is_slow) {
            self.tell(way, end, ended, latency, is_slow);
        }
    }

    /// What has something to say beside its latency.
    #[cold]
    fn tell(&mut self, way: &Way, end: End, ended: &Ended<'_>, latency: Duration, is_slow: bool) {
        let Begun { recording, calls, .. } = self.begun;
        let (span, decisions) = (mem::take(&mut self.span), mem::take(&mut self.decisions));
        let mut ids = None;
        if span.wants_end(end, is_slow) {
            let end = SpanEnd {
                operation: &calls.name,
                attributes: &way.attributes[recording.span.common.len()..],
                end,
                error: ended.error,
                latency,
                is_slow,
                decisions: decisions.as_slice(),
            };
            ids = span.end(&recording.span, &end);
        }
        if let Some(TraceIds { trace, span }) = ids {
            let (seconds, at) = (latency.as_secs_f64(), wall::now());
            way.exemplify(Exemplar { seconds, at, trace_id: trace, span_id: span });
        }
        if let Some(log) = recording.log().filter(|_| is_slow) {
            log.push(SlowCall {
                at: wall::unix_millis(wall::now()),
                name: recording.origin.name(),
                operation: calls.name.clone(),
                seconds: latency.as_secs_f64(),
                end: end.word(),
                error: ended.error.map(str::to_owned),
                trace_id: ids.map(|ids| format!("{:032x}", u128::from_be_bytes(ids.trace))),
                decisions: decisions.as_slice().iter().map(|decision| self.slow_decision(decision)).collect(),
            });
        }
        decisions.pass_on();
    }

    fn slow_decision(&self, decision: &Decision) -> SlowDecision {
        SlowDecision {
            after_seconds: decision.at.saturating_duration_since(self.begun.started).as_secs_f64(),
            layer: decision.origin.layer(),
            name: decision.origin.name(),
            what: decision.what,
            why: decision.why.clone(),
        }
    }
}

impl Drop for Call {
    #[inline]
    fn drop(&mut self) {
        match self.progress {
            Progress::Waiting => self.finish(End::Cancelled, &Ended::new()),
            Progress::Inside => self.finish(End::Panicked, &Ended::new()),
            Progress::Ended => {}
        }
    }
}

/// A call without a span that is being made: dropped before it is [left](Self::leave), it has panicked.
pub(crate) struct Entered {
    begun: Begun,
    decisions: Decisions,
}

impl Entered {
    #[inline]
    pub(crate) const fn new(begun: Begun) -> Self {
        Self { begun, decisions: Decisions::new() }
    }

    #[inline]
    pub(crate) fn collect<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.decisions.collect(f)
    }

    /// What was decided.
    #[inline]
    pub(crate) fn leave(mut self) -> Decisions {
        // Most often none, and none are made anew more cheaply than they are moved.
        let decisions = if self.decisions.as_slice().is_empty() {
            Decisions::new()
        } else {
            mem::take(&mut self.decisions)
        };
        // Without its heap memory, and with nothing else to drop.
        mem::forget(self);
        decisions
    }
}

impl Drop for Entered {
    #[cold]
    fn drop(&mut self) {
        let decisions = mem::take(&mut self.decisions);
        let (begun, span) = (self.begun, CallSpan::default());
        drop(Call { begun, span, decisions, progress: Progress::Inside });
    }
}
