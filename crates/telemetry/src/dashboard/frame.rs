use std::{collections::VecDeque, time::Duration};

use axum::body::Bytes;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tokio::time::Instant;

use crate::{CallsSnapshot, Kind, LayerSnapshot, SlowCall, Snapshot};

/// What a viewer is sent each time.
#[derive(Serialize)]
pub(super) struct Frame<'a> {
    /// All since the program began.
    pub(super) now: &'a Snapshot,
    /// What happened since the frame before. None in the first.
    pub(super) since: Option<Point<'a>>,
    /// The calls of the latest seconds, since a quantile of one second says little.
    pub(super) recent: Option<Recent<'a>>,
    pub(super) slow_calls: &'a [SlowCall],
    pub(super) alerts: &'a Value,
    /// The next one follows after so many seconds.
    pub(super) every: f64,
    /// Whether there is a route to act on layers.
    pub(super) control: bool,
}

#[derive(Serialize)]
pub(super) struct Recent<'a> {
    pub(super) seconds: f64,
    pub(super) calls: &'a [CallsSnapshot],
}

/// One moment of the charts: a snapshot since an earlier one, without what charts do not need.
#[derive(Serialize)]
pub(super) struct Point<'a> {
    at: u64,
    seconds: f64,
    layers: Vec<LayerPoint<'a>>,
    calls: Vec<CallsPoint>,
    memory: Option<u64>,
    cpu: Option<f64>,
}

#[derive(Serialize)]
struct LayerPoint<'a> {
    layer: &'static str,
    name: &'static str,
    #[serde(serialize_with = "figures")]
    figures: &'a LayerSnapshot,
}

#[derive(Serialize)]
struct CallsPoint {
    name: &'static str,
    success: u64,
    /// Failed, throttled, panicked.
    failure: u64,
    rejected: u64,
    /// The caller's mistake, or cancelled.
    other: u64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl<'a> Point<'a> {
    pub(super) fn of(since: &'a Snapshot) -> Self {
        let calls = since.calls.iter().map(|calls| {
            let total = &calls.total;
            CallsPoint {
                name: calls.name,
                success: total.success,
                failure: total.failure + total.throttled + total.panicked,
                rejected: total.rejected,
                other: total.ignored + total.cancelled,
                p50: total.latency.p50,
                p95: total.latency.p95,
                p99: total.latency.p99,
            }
        });
        let layers = since.layers.iter();
        Self {
            at: since.at,
            seconds: since.seconds,
            layers: layers.map(|it| LayerPoint { layer: it.layer, name: it.name, figures: it }).collect(),
            calls: calls.collect(),
            memory: since.process.memory_bytes,
            cpu: since.process.cpu_seconds,
        }
    }
}

/// `{"calls": 3, "rejections|circuit_open": 7}`. A counter that stood still is left out.
fn figures<S: Serializer>(layer: &&LayerSnapshot, serializer: S) -> Result<S::Ok, S::Error> {
    let figures = layer.figures.iter().filter(|figure| figure.kind == Kind::Gauge || figure.value > 0.0);
    serializer.collect_map(figures.map(|figure| {
        let key = match figure.label {
            Some((_, value)) => format!("{}|{value}", figure.name),
            None => figure.name.to_owned(),
        };
        (key, figure.value)
    }))
}

/// The latest points, for the charts of who comes later.
#[derive(Default)]
pub(super) struct History {
    points: VecDeque<(Instant, Bytes)>,
    bytes: usize,
}

impl History {
    const AGE: Duration = Duration::from_secs(60);
    const MAX_BYTES: usize = 2 << 20;

    pub(super) fn push(&mut self, at: Instant, point: Bytes) {
        self.bytes += point.len();
        self.points.push_back((at, point));
        while self.bytes > Self::MAX_BYTES {
            self.pop();
        }
        self.forget(at);
    }

    /// As JSON: an array, the oldest first.
    pub(super) fn json(&mut self, now: Instant) -> Vec<u8> {
        self.forget(now);
        let mut json = Vec::with_capacity(self.bytes + self.points.len() + 2);
        json.push(b'[');
        for (index, (_, point)) in self.points.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            json.extend_from_slice(point);
        }
        json.push(b']');
        json
    }

    fn forget(&mut self, now: Instant) {
        while self.points.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > Self::AGE) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, point)) = self.points.pop_front() {
            self.bytes -= point.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn history_is_bounded_in_time_and_in_bytes() {
        let mut history = History::default();
        for second in 0..200u64 {
            history.push(Instant::now(), Bytes::from(second.to_string()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let points: Vec<u64> = serde_json::from_slice(&history.json(Instant::now())).unwrap();
        assert_eq!(points, (140..200).collect::<Vec<_>>());
        history.push(Instant::now(), Bytes::from(vec![b'1'; History::MAX_BYTES - 10]));
        assert!(history.bytes <= History::MAX_BYTES && history.points.len() < 10);
        history.push(Instant::now(), Bytes::from(vec![b'1'; History::MAX_BYTES + 1]));
        assert_eq!((history.bytes, &*history.json(Instant::now())), (0, &b"[]"[..]));
        history.push(Instant::now(), Bytes::from_static(b"7"));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(history.json(Instant::now()), b"[]");
    }
}
