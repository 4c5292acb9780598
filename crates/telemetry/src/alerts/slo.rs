use std::time::Duration;

use super::subject::{Raw, judged};
use crate::{CallsSnapshot, sketch::Bound};

/// What share of calls has to be good.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a rule watches over it"]
pub struct Slo {
    pub(crate) calls: String,
    pub(crate) objective: f64,
    pub(crate) rejected_are_bad: bool,
    pub(crate) slower: Option<Duration>,
}

impl Slo {
    /// Of the calls that the telemetry layer of that name sees, such a share has to be good: 0.999. Bad ones are those that
    /// fail or panic. Calls that are dropped do not count.
    pub fn new(calls: impl Into<String>, objective: f64) -> Self {
        Self { calls: calls.into(), objective, rejected_are_bad: false, slower: None }
    }

    /// Calls that a layer refused or gave up are bad too.
    pub fn rejected_are_bad(self) -> Self {
        Self { rejected_are_bad: true, ..self }
    }

    /// Calls that succeed but take longer are bad too. It is one of the bounds of the histograms that Prometheus reads, so that
    /// both count the same calls: 1, 5, 10, 25, 50, 75, 100, 250, 500 or 750 ms, 1, 2.5, 5, 7.5 or 10 s, each within 2.2 %.
    pub fn slower_are_bad(self, than: Duration) -> Self {
        Self { slower: Some(than), ..self }
    }

    /// How many calls were bad, of how many.
    pub(crate) fn read(&self, calls: &CallsSnapshot) -> Raw {
        let total = &calls.total;
        let rejected = if self.rejected_are_bad { total.rejected } else { 0 };
        let slow = self.slower.and_then(Bound::called).map_or(0, |at| total.success - calls.within[at]);
        Raw::Share { part: total.failure + total.panicked + rejected + slow, all: judged(total) }
    }

    /// What share may be bad.
    pub(crate) fn budget(&self) -> f64 {
        round(1.0 - self.objective)
    }

    /// Above which share of bad calls the budget burns faster.
    pub(crate) fn limit(&self, factor: f64) -> f64 {
        round(factor * self.budget())
    }
}

/// 1 - 0.999 is 0.001 for people.
fn round(share: f64) -> f64 {
    (share * 1e12).round() / 1e12
}

/// Two windows and how fast the error budget may burn in them: 1 would use it up exactly in the time that the objective is
/// for.
///
/// The long one shows that it matters, the short one that it still goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnWindow {
    /// The long window.
    pub long: Duration,
    /// The short window, a twelfth of the long one as a rule.
    pub short: Duration,
    /// How many times as fast as the objective allows for.
    pub factor: f64,
}

impl BurnWindow {
    /// 2 % of a 30 days' budget within an hour, and 5 % within six hours.
    ///
    /// Source: *The Site Reliability Workbook*, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
    pub const DEFAULT: [Self; 2] = [
        Self { long: Duration::from_secs(3600), short: Duration::from_secs(300), factor: 14.4 },
        Self { long: Duration::from_secs(6 * 3600), short: Duration::from_secs(1800), factor: 6.0 },
    ];
}
