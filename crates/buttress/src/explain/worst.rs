//! The arithmetic: what a call does at worst, from one layer inwards.

use std::{fmt, time::Duration};

use super::Layer;

/// What a part of a stack does with one call at worst: a layer and all that is inside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worst {
    /// How long it takes; `None` where nothing ends it.
    pub(super) longest: Option<Duration>,
    /// How many calls reach what is inside of all layers.
    pub(super) attempts: u64,
}

/// Of each layer; and last, of what is inside of all of them.
pub(super) fn of_each(layers: &[Layer]) -> Vec<Worst> {
    let mut all = vec![Worst { longest: None, attempts: 1 }];
    let mut inner = all[0];
    for layer in layers.iter().rev() {
        inner = around(layer, inner);
        all.push(inner);
    }
    all.reverse();
    all
}

fn around(layer: &Layer, inner: Worst) -> Worst {
    let Worst { longest, attempts } = inner;
    match layer.kind() {
        "timeout" | "api-client" => Worst { longest: sooner(longest, layer.limit()), attempts },
        "redis" => Worst { longest: sooner(longest, layer.duration("command_timeout")), attempts },
        "retry" => {
            let retry = Retry::of(layer);
            Worst {
                longest: longest.map(|longest| retry.takes(longest)),
                attempts: attempts.saturating_mul(retry.attempts()),
            }
        }
        "hedge" => Worst {
            longest: longest.map(|longest| {
                // One that comes later than the attempts before it have ended never begins.
                let delay = hedge_delay(layer).unwrap_or(longest).min(longest);
                longest.saturating_add(times(delay, layer.at_once() - 1))
            }),
            attempts: attempts.saturating_mul(layer.at_once()),
        },
        "batch" => Worst {
            longest: longest.map(|longest| {
                let rounds = batch_rounds(layer);
                times(longest, rounds).saturating_add(layer.wait().unwrap_or_default())
            }),
            attempts: attempts.saturating_mul(bisections(layer) + 1),
        },
        "bulkhead" | "rate-limit" | "balance" => {
            let wait = layer.wait().unwrap_or_default();
            Worst { longest: longest.map(|longest| longest.saturating_add(wait)), attempts }
        }
        _ => inner,
    }
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The longest time before the next attempt.
fn hedge_delay(layer: &Layer) -> Option<Duration> {
    layer
        .duration("delay")
        .or_else(|| layer.duration("delay_max").max(layer.duration("delay_until_measured")))
}

/// How often a request is sent again by halving its batch, until it is alone.
pub(super) fn bisections(layer: &Layer) -> u64 {
    let size = layer.count("max_size").unwrap_or(1).max(1);
    if layer.is_word("bisect", "custom") {
        u64::from(size.ilog2()) + u64::from(!size.is_power_of_two())
    } else {
        0
    }
}

/// How many batches' time one request takes, its own batch included: those that are before it in a full queue, one after
/// the other, and where they are halved, each of them fewer than twice as many calls as requests.
fn batch_rounds(layer: &Layer) -> u64 {
    let size = layer.count("max_size").unwrap_or(1).max(1);
    let at_once = size.saturating_mul(layer.count("in_flight").unwrap_or(1).max(1));
    let calls = if bisections(layer) > 0 { size.saturating_mul(2) - 1 } else { 1 };
    // One is in flight when it comes.
    let waves = layer.count("max_waiting").unwrap_or(0).div_ceil(at_once).max(1).saturating_add(1);
    waves.saturating_mul(calls)
}

/// What a retry layer tells of its waits: their ceilings. Chance makes them shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    retries: u64,
    first: Duration,
    cap: Duration,
    factor: f64,
}

impl Retry {
    /// Terms that are added one by one; what comes after them is taken as the cap.
    const TERMS: u64 = 1000;

    pub(super) fn of(layer: &Layer) -> Self {
        let first = layer.duration("backoff_first").unwrap_or_default();
        Self {
            retries: layer.retries(),
            first,
            cap: layer.duration("backoff_cap").unwrap_or(first),
            factor: layer.ratio("backoff_factor").unwrap_or(1.0),
        }
    }

    pub(super) const fn attempts(&self) -> u64 {
        self.retries.saturating_add(1)
    }

    /// The wait before the `n`th retry, from 0.
    pub(super) fn wait(&self, n: u64) -> Duration {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powf(f64::from(n));
        Duration::try_from_secs_f64(seconds).map_or(self.cap, |wait| wait.min(self.cap))
    }

    /// The first `n` waits together.
    pub(super) fn waits(&self, n: u64) -> Duration {
        let mut sum = Duration::ZERO;
        for done in 0..n {
            let wait = self.wait(done);
            if wait >= self.cap || done >= Self::TERMS {
                return sum.saturating_add(times(self.cap, n - done));
            }
            sum = sum.saturating_add(wait);
        }
        sum
    }

    /// When an attempt begins at the latest (from 1), where each takes that long.
    pub(super) fn begins(&self, attempt: u64, each: Duration) -> Duration {
        let before = attempt.saturating_sub(1);
        times(each, before).saturating_add(self.waits(before))
    }

    /// How long all take together.
    pub(super) fn takes(&self, each: Duration) -> Duration {
        self.begins(self.attempts(), each).saturating_add(each)
    }

    /// How many attempts begin before that time, where each takes that long: at least the first.
    pub(super) fn begin_before(&self, limit: Duration, each: Duration) -> u64 {
        let (mut least, mut most) = (1, self.attempts());
        while least < most {
            let middle = least + (most - least).div_ceil(2);
            if self.begins(middle, each) < limit { least = middle } else { most = middle - 1 }
        }
        least
    }

    /// `1s + 2s + 4s`, or what they are together where they are many.
    pub(super) fn sum(&self) -> String {
        let waits = |range: std::ops::Range<u64>| {
            let waits: Vec<_> = range.map(|n| time(self.wait(n)).to_string()).collect();
            waits.join(" + ")
        };
        match self.retries {
            retries @ 0..=5 => waits(0..retries),
            retries => {
                format!("{} + ... ({retries} of them, {} together)", waits(0..2), time(self.waits(retries)))
            }
        }
    }
}

/// Never overflows: what is longer is the longest there is.
pub(super) fn times(duration: Duration, times: u64) -> Duration {
    let nanos = duration.as_nanos().saturating_mul(times.into());
    let seconds = u64::try_from(nanos / 1_000_000_000);
    seconds.map_or(Duration::MAX, |seconds| Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// To be read: to three digits of a second, and none of what nobody lives to see.
pub(super) struct Time(Duration);

pub(super) const fn time(duration: Duration) -> Time {
    Time(duration)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            long if long >= FOREVER => f.write_str("for ever"),
            long if long >= Duration::from_secs(1) => {
                write!(f, "{:?}", Duration::new(long.as_secs(), long.subsec_millis() * 1_000_000))
            }
            short => write!(f, "{short:?}"),
        }
    }
}

/// A thousand years.
const FOREVER: Duration = Duration::from_secs(1000 * 365 * 86_400);
