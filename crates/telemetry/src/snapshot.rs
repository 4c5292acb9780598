mod since;

use std::{cmp::Reverse, collections::HashMap};

use buttress_core::{Metric, Origin, Setting, SettingValue, Value};
use foldhash::fast::RandomState;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    Handle, Registry, Sketch, process,
    sketch::BOUNDS,
    source::{End, Series, Source},
    wall,
};

/// All that a registry knows at one moment, to be serialized, shown, or compared with an earlier one.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// When, in milliseconds of Unix time.
    pub at: u64,
    /// What time the counts cover: since the registry was made, or [since](Self::since) an earlier snapshot.
    pub seconds: f64,
    /// The stacks, in the order of their registration.
    pub stacks: Vec<StackSnapshot>,
    /// Every layer that is registered and lives, each once.
    pub layers: Vec<LayerSnapshot>,
    /// The calls that telemetry layers saw.
    pub calls: Vec<CallsSnapshot>,
    /// How many calls were slow.
    pub slow_calls: u64,
    /// What the process takes.
    pub process: ProcessSnapshot,
    #[serde(skip)]
    read_at: Instant,
}

/// A stack of layers.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StackSnapshot {
    /// Its name.
    pub name: String,
    /// Its layers, outermost first: the indices in [`Snapshot::layers`].
    pub layers: Vec<usize>,
}

/// A layer and its figures.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LayerSnapshot {
    /// The kind of layer: `circuit-breaker`.
    pub layer: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// What it is set to.
    pub settings: Vec<SettingSnapshot>,
    /// What an operator may do to it.
    pub actions: &'static [&'static str],
}

/// One figure of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// The label, with its value.
    pub label: Option<(&'static str, &'static str)>,
    /// Whether it only grows.
    pub kind: Kind,
    /// The unit, as UCUM writes it; empty where things are counted.
    pub unit: &'static str,
    /// The figure.
    pub value: f64,
}

/// A figure's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One setting of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SettingSnapshot {
    /// What is set.
    pub name: &'static str,
    /// To what.
    pub value: SettingWord,
}

/// What something is set to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SettingWord {
    /// How many.
    Count(u64),
    /// A share or a factor.
    Ratio(f64),
    /// How long, in seconds.
    Seconds(f64),
    /// One of several ways.
    Word(&'static str),
    /// Not set.
    Off,
}

/// The calls that one telemetry layer saw.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CallsSnapshot {
    /// Its name.
    pub name: &'static str,
    /// Calls that have begun and not ended.
    pub in_flight: u64,
    /// All operations together.
    pub total: OperationSnapshot,
    /// Each of them.
    pub operations: Vec<OperationSnapshot>,
    /// How many of all that succeeded took no longer than each bound.
    #[serde(skip)]
    pub(crate) within: [u64; BOUNDS.len()],
    #[serde(skip)]
    pub(crate) source: u64,
}

/// The calls of one operation.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct OperationSnapshot {
    /// What was called: `GET /users/{id}`. Empty for all together.
    pub operation: String,
    /// Calls that succeeded.
    pub success: u64,
    /// Calls that failed.
    pub failure: u64,
    /// Calls that were the caller's own mistake.
    pub ignored: u64,
    /// Calls that were asked to come back later.
    pub throttled: u64,
    /// Calls that a layer refused or gave up.
    pub rejected: u64,
    /// Calls that were dropped.
    pub cancelled: u64,
    /// Calls that panicked.
    pub panicked: u64,
    /// The kinds of errors, the most frequent first.
    pub errors: Vec<ErrorCount>,
    /// How long the calls took.
    pub latency: Latency,
}

/// How often a kind of error came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErrorCount {
    /// The kind: `timed_out`, `503`, `40001`.
    pub kind: String,
    /// How often.
    pub count: u64,
}

/// How long calls took, in seconds. Quantiles are exact within 2.2 %.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// How many calls.
    pub count: u64,
    /// None of no calls, as all that follows.
    pub mean: Option<f64>,
    /// What half of the calls did not exceed.
    pub p50: Option<f64>,
    /// What 95 % did not exceed.
    pub p95: Option<f64>,
    /// What 99 % did not exceed.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
    /// All of it, for other quantiles, or to merge with those of others.
    #[serde(skip)]
    pub sketch: Sketch,
}

/// What the process takes. `None` where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProcessSnapshot {
    /// Resident memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processor time since the process began, or since the earlier snapshot.
    pub cpu_seconds: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
}

impl Snapshot {
    pub(crate) fn read(registry: &Registry) -> Self {
        let handles = registry.handles();
        let layers: Vec<LayerSnapshot> = handles.iter().map(read_layer).collect();
        let places: HashMap<_, _, RandomState> =
            layers.iter().enumerate().map(|(at, layer)| ((layer.layer, layer.name), at)).collect();
        let place = |origin: &Origin| places.get(&(origin.layer(), origin.name())).copied();
        let stacks = registry.stacks().into_iter();
        let now = Instant::now();
        Self {
            at: wall::unix_millis(wall::now()),
            seconds: now.saturating_duration_since(registry.began()).as_secs_f64(),
            stacks: stacks
                .map(|(name, layers)| StackSnapshot {
                    name: name.to_string(),
                    layers: layers.iter().filter_map(place).collect(),
                })
                .collect(),
            layers,
            calls: registry.sources().iter().map(|source| read_calls(&**source)).collect(),
            slow_calls: registry.slow_calls_total(),
            process: process::read(),
            read_at: now,
        }
    }

    /// The layer of that kind and name.
    #[must_use]
    pub fn layer(&self, layer: &str, name: &str) -> Option<&LayerSnapshot> {
        self.layers.iter().find(|known| known.layer == layer && known.name == name)
    }

    /// The calls that the telemetry layer of that name saw.
    #[must_use]
    pub fn calls(&self, name: &str) -> Option<&CallsSnapshot> {
        self.calls.iter().find(|known| known.name == name)
    }
}

impl LayerSnapshot {
    /// The figure of that name and label.
    #[must_use]
    pub fn figure(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        self.figures
            .iter()
            .find(|figure| figure.name == name && figure.label == label)
            .map(|figure| figure.value)
    }
}

impl OperationSnapshot {
    /// All calls that ended.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.success
            + self.failure
            + self.ignored
            + self.throttled
            + self.rejected
            + self.cancelled
            + self.panicked
    }

    fn add(&mut self, series: &Series<'_>) {
        let count = series.latencies.count();
        *self.of(series.end) += count;
        if let Some(kind) = series.error {
            match self.errors.iter_mut().find(|known| known.kind == kind) {
                Some(known) => known.count += count,
                None => self.errors.push(ErrorCount { kind: kind.to_owned(), count }),
            }
        }
        self.latency.sketch.merge(&series.latencies);
    }

    fn of(&mut self, end: End) -> &mut u64 {
        match end {
            End::Success => &mut self.success,
            End::Failure => &mut self.failure,
            End::Ignored => &mut self.ignored,
            End::Throttled => &mut self.throttled,
            End::Rejected => &mut self.rejected,
            End::Cancelled => &mut self.cancelled,
            End::Panicked => &mut self.panicked,
        }
    }

    fn finish(&mut self) {
        self.errors.retain(|error| error.count > 0);
        self.errors.sort_by_key(|error| Reverse(error.count));
        self.latency = Latency::of(std::mem::take(&mut self.latency.sketch));
    }
}

impl Latency {
    fn of(sketch: Sketch) -> Self {
        let seconds = |duration: Option<std::time::Duration>| duration.map(|duration| duration.as_secs_f64());
        let count = sketch.count();
        Self {
            count,
            mean: seconds(sketch.mean()),
            p50: seconds(sketch.quantile(0.5)),
            p95: seconds(sketch.quantile(0.95)),
            p99: seconds(sketch.quantile(0.99)),
            max: seconds((count > 0).then(|| sketch.max())),
            sketch,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "JSON has no other numbers")]
fn read_layer(handle: &Handle) -> LayerSnapshot {
    let origin = handle.observe.origin();
    let figure = |metric: Metric| {
        let (kind, value) = match metric.value {
            Value::Counter(count) => (Kind::Counter, count as f64),
            Value::Gauge(gauge) => (Kind::Gauge, gauge),
            _ => return None,
        };
        Some(Figure { name: metric.name, label: metric.label, kind, unit: metric.unit, value })
    };
    let figures = handle.figures().into_iter().filter_map(figure).collect();
    let setting = |setting: Setting| {
        let value = match setting.value {
            SettingValue::Count(count) => SettingWord::Count(count),
            SettingValue::Ratio(ratio) => SettingWord::Ratio(ratio),
            SettingValue::Duration(duration) => SettingWord::Seconds(duration.as_secs_f64()),
            SettingValue::Word(word) => SettingWord::Word(word),
            SettingValue::Off => SettingWord::Off,
            _ => return None,
        };
        Some(SettingSnapshot { name: setting.name, value })
    };
    let settings = handle.settings().into_iter().filter_map(setting).collect();
    LayerSnapshot {
        layer: origin.layer(),
        name: origin.name(),
        figures,
        settings,
        actions: handle.observe.actions(),
    }
}

fn read_calls(source: &dyn Source) -> CallsSnapshot {
    let mut total = OperationSnapshot::default();
    let mut operations: Vec<OperationSnapshot> = Vec::new();
    let mut within = [0; BOUNDS.len()];
    source.series(&mut |series| {
        total.add(&series);
        if series.end == End::Success {
            within.iter_mut().zip(series.latencies.within()).for_each(|(all, more)| *all += more);
        }
        match operations.iter_mut().find(|known| known.operation == series.operation) {
            Some(known) => known.add(&series),
            None => {
                let mut fresh = OperationSnapshot {
                    operation: series.operation.to_owned(),
                    ..OperationSnapshot::default()
                };
                fresh.add(&series);
                operations.push(fresh);
            }
        }
    });
    total.finish();
    operations.iter_mut().for_each(OperationSnapshot::finish);
    CallsSnapshot {
        name: source.origin().name(),
        in_flight: source.in_flight(),
        total,
        operations,
        within,
        source: source.number(),
    }
}
