use std::time::Duration;

use buttress_core::{Setting, SettingValue};
use buttress_telemetry::{LayerSnapshot, Registry, SettingSnapshot, SettingWord, Snapshot};

use super::{Finding, Layer, Severity, Stack, rules, view::View};

/// What stacks do at worst, and what is wrong with them. As text it is a page for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    stacks: Vec<ExplainedStack>,
    findings: Vec<Finding>,
}

/// What one stack does with a call at worst.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExplainedStack {
    /// Its name.
    pub name: String,
    /// Its layers, outermost first.
    pub layers: Vec<ExplainedLayer>,
    /// How many calls may reach the innermost service for one call.
    pub attempts: u64,
    /// How long a call may take; `None` where nothing in the stack ends it.
    pub longest: Option<Duration>,
    /// What a backend that fails every call has to bear.
    pub load: Load,
    /// Where a call may wait for others, outermost first.
    pub waits: Vec<QueueWait>,
    /// What is bounded, outermost first.
    pub bounds: Vec<Bound>,
}

/// A layer, and what all from it inwards does at worst.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExplainedLayer {
    /// The layer.
    pub layer: Layer,
    /// How many calls may reach the innermost service for one that comes here.
    pub attempts: u64,
    /// How long it may take from here; `None` where nothing ends it.
    pub longest: Option<Duration>,
}

/// What a backend that fails every call has to bear.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// For a single call, and for all of them where no budget bounds it: attempts a call.
    pub worst: u64,
    /// In the long run, where the budgets of retries and hedges are used up: attempts a call.
    pub long_run: f64,
    /// And besides, whatever comes in: attempts a second, which the budgets grant in any case.
    pub floor: f64,
    /// What rate limits let in of calls, and the attempts that it may become.
    pub rates: Vec<RateOfAttempts>,
}

/// What a rate limit lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateOfAttempts {
    /// The rate limit: its place in [`ExplainedStack::layers`].
    pub place: usize,
    /// So many calls come in,
    pub calls: u64,
    /// and at worst become so many attempts,
    pub attempts: u64,
    /// in that time.
    pub per: Duration,
}

/// A place where a call may wait for others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueWait {
    /// The layer: its place in [`ExplainedStack::layers`].
    pub place: usize,
    /// How long at most.
    pub longest: Duration,
}

/// What is never more than a number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bound {
    /// The layer: its place in [`ExplainedStack::layers`].
    pub place: usize,
    /// What is bounded: `calls in its queue`.
    pub what: &'static str,
    /// By how many; `None` where its settings say that it is not.
    pub most: Option<u64>,
}

impl Explanation {
    /// Explains them.
    #[must_use]
    pub fn of(stacks: impl IntoIterator<Item = Stack>) -> Self {
        let mut all = Self { stacks: Vec::new(), findings: Vec::new() };
        for stack in stacks {
            let mut view = View::of(&stack);
            rules::ALL.iter().for_each(|rule| rule(&mut view));
            all.stacks.push(ExplainedStack::of(&stack.name, &view));
            all.findings.extend(view.into_findings());
        }
        all.findings.sort_by_key(|finding| finding.severity);
        all
    }

    /// Explains all stacks that are registered there, as they are set now. A layer that is gone is left out.
    #[must_use]
    pub fn of_registry(registry: &Registry) -> Self {
        Self::of_snapshot(&registry.snapshot())
    }

    /// The same, as they were set when the snapshot was taken.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Self {
        Self::of(snapshot.stacks.iter().map(|stack| {
            let layers = stack.layers.iter().filter_map(|&place| snapshot.layers.get(place));
            layers.fold(Stack::new(&stack.name), |stack, layer| {
                stack.settings(layer.layer, layer.name, settings(layer))
            })
        }))
    }

    /// The stacks, in the order in which they came.
    #[must_use]
    pub fn stacks(&self) -> &[ExplainedStack] {
        &self.stacks
    }

    /// What is wrong or worth knowing, the worst first.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether any of them is an [`Error`](Severity::Error).
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

fn settings(layer: &LayerSnapshot) -> Vec<Setting> {
    let setting = |told: &SettingSnapshot| {
        let value = match told.value {
            SettingWord::Count(count) => SettingValue::Count(count),
            SettingWord::Ratio(ratio) => SettingValue::Ratio(ratio),
            // The longest there is becomes a float that is no duration any more.
            SettingWord::Seconds(seconds) => {
                SettingValue::Duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
            }
            SettingWord::Word(word) => SettingValue::Word(word),
            SettingWord::Off => SettingValue::Off,
            _ => return None,
        };
        Some(Setting::new(told.name, value))
    };
    layer.settings.iter().filter_map(setting).collect()
}

impl ExplainedStack {
    fn of(name: &str, view: &View<'_>) -> Self {
        let layers = view.layers();
        let whole = view.worst(0);
        let explained = |(layer, worst): (&Layer, &super::worst::Worst)| ExplainedLayer {
            layer: layer.clone(),
            attempts: worst.attempts,
            longest: worst.longest,
        };
        let waits = layers.iter().enumerate().filter_map(|(place, layer)| {
            let longest = layer.wait().filter(|wait| !wait.is_zero())?;
            Some(QueueWait { place, longest })
        });
        Self {
            name: name.to_owned(),
            layers: layers.iter().zip(view.all_worst()).map(explained).collect(),
            attempts: whole.attempts,
            longest: whole.longest,
            load: Load::of(view),
            waits: waits.collect(),
            bounds: bounds(layers),
        }
    }
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "a factor to be read")]
    fn of(view: &View<'_>) -> Self {
        let (mut long_run, mut floor) = (1.0, 0.0);
        let mut rates = Vec::new();
        for (place, layer) in view.layers().iter().enumerate() {
            let most = layer.retries().saturating_add(layer.at_once() - 1);
            if most > 0 {
                let share = layer.ratio("budget_ratio");
                let factor = 1.0 + share.map_or(most as f64, |share| share.min(most as f64));
                let granted = layer.count("budget_floor").zip(layer.duration("budget_window"));
                let granted = granted.filter(|(_, window)| share.is_some() && !window.is_zero());
                let granted = granted.map_or(0.0, |(floor, window)| floor as f64 / window.as_secs_f64());
                (long_run, floor) = (long_run * factor, floor * factor + granted);
            }
            if let (true, Some(calls), Some(per)) =
                (layer.is("rate-limit"), layer.count("limit"), layer.duration("per"))
            {
                let attempts = calls.saturating_mul(view.worst(place).attempts);
                rates.push(RateOfAttempts { place, calls, attempts, per });
            }
        }
        let worst = view.worst(0).attempts;
        // The attempts saturate, and the factor does not.
        Self { worst, long_run: long_run.min(worst as f64), floor, rates }
    }
}

/// By kind: what is bounded, and the setting that bounds it.
const BOUNDS: [(&str, &str, &str); 16] = [
    ("telemetry", "operations", "max_operations"),
    ("bulkhead", "calls at a time", "limit"),
    ("bulkhead", "calls at a time", "limit_max"),
    ("bulkhead", "calls in its queue", "queue_capacity"),
    ("cache", "of weight", "max_weight"),
    ("http-cache", "bytes", "max_weight"),
    ("batch", "requests that wait", "max_waiting"),
    ("batch", "requests in a batch", "max_size"),
    ("balance", "endpoints", "max_endpoints"),
    ("http", "connections", "max_connections"),
    ("http", "calls that wait for one", "max_waiting"),
    ("api-client", "bytes of an answer", "max_answer"),
    ("postgres", "statements prepared on a connection", "statement_cache"),
    ("redis", "connections", "pool_size"),
    ("redis", "commands that wait on each", "max_queued"),
    ("redis", "commands in flight on each", "max_in_flight"),
];

fn bounds(layers: &[Layer]) -> Vec<Bound> {
    let mut all = Vec::new();
    for (place, layer) in layers.iter().enumerate() {
        if let Some(most) = layer.connections().filter(|_| layer.is("postgres")) {
            all.push(Bound { place, what: "connections", most: Some(most) });
        }
        for (_, what, knob) in BOUNDS.into_iter().filter(|(kind, ..)| layer.is(kind)) {
            if let Some(most) = layer.count(knob) {
                all.push(Bound { place, what, most: Some(most) });
            } else if layer.is_off(knob) && knob != "queue_capacity" {
                all.push(Bound { place, what, most: None });
            }
        }
    }
    all
}
