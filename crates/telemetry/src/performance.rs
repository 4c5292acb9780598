use std::{cmp::Reverse, fmt, time::Duration};

use serde::Serialize;

use crate::{CallsSnapshot, ErrorCount, Figure, LayerSnapshot, ProcessSnapshot, Snapshot};

/// The few figures that tell how a program does, one line for each stack and each layer: from
/// [`Snapshot::performance_stats`].
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PerformanceStats {
    /// What time the counts cover.
    pub seconds: f64,
    /// What each telemetry layer saw, in the order of the snapshot.
    pub calls: Vec<CallStats>,
    /// What each registered layer did, in the order of their registration.
    pub layers: Vec<LayerStats>,
    /// How many calls were slow.
    pub slow_calls: u64,
    /// What the process takes.
    pub process: ProcessSnapshot,
}

/// A line for each stack and for each layer that refused something or keeps connections, for people.
impl fmt::Display for PerformanceStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds: Option<f64>| match seconds.map(Duration::try_from_secs_f64) {
            Some(Ok(time)) => format!("{time:.1?}"),
            _ => "-".to_owned(),
        };
        writeln!(f, "in {:.0} s, {} slow calls", self.seconds, self.slow_calls)?;
        for calls in &self.calls {
            let success =
                calls.success_share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
            writeln!(
                f,
                "{}: {} calls ({:.1}/s), {} in flight, {success} well, p50 {}, p95 {}, p99 {}, max {}",
                calls.name,
                calls.calls,
                calls.per_second,
                calls.in_flight,
                time(calls.p50),
                time(calls.p95),
                time(calls.p99),
                time(calls.max)
            )?;
            for error in &calls.errors {
                writeln!(f, "  {} x {}", error.count, error.kind)?;
            }
        }
        for layer in &self.layers {
            if let Some(pool) = &layer.pool {
                writeln!(f, "{} `{}`: {pool}", layer.layer, layer.name)?;
            }
            if let Some(share) = layer.hit_share {
                writeln!(f, "{} `{}`: {:.1} % hits", layer.layer, layer.name, share * 100.0)?;
            }
            for rejection in &layer.rejections {
                writeln!(f, "{} `{}`: {} x {}", layer.layer, layer.name, rejection.count, rejection.kind)?;
            }
        }
        Ok(())
    }
}

/// The calls that one telemetry layer saw.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CallStats {
    /// The telemetry layer's name.
    pub name: &'static str,
    /// How many calls ended.
    pub calls: u64,
    /// The same to a second.
    pub per_second: f64,
    /// How many have begun and not ended.
    pub in_flight: u64,
    /// How many succeeded, from 0 to 1, of those that the caller neither spoiled nor dropped. `None` of none.
    pub success_share: Option<f64>,
    /// The ten most frequent kinds of errors, the most frequent first.
    pub errors: Vec<ErrorCount>,
    /// What half of the calls did not exceed, in seconds. `None` of no calls, as the three that follow.
    pub p50: Option<f64>,
    /// What 95 % did not exceed.
    pub p95: Option<f64>,
    /// What 99 % did not exceed.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

/// What one registered layer did.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LayerStats {
    /// The kind of layer: `cache`.
    pub layer: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The calls that it took, where it counts them: those of a retry or hedge, a pool's queries.
    pub calls: Option<u64>,
    /// What it refused or gave up, by the reason, the most frequent first.
    pub rejections: Vec<ErrorCount>,
    /// Of a cache: how many of the calls with a key it answered by itself, stale answers included, from 0 to 1.
    pub hit_share: Option<f64>,
    /// Of a pool, as that of Postgres, Redis or HTTP has it.
    pub pool: Option<PoolStats>,
}

/// How a pool of connections is used now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStats {
    /// How many connections there are.
    pub open: u64,
    /// How many of them nobody uses. `None` where all callers share each.
    pub idle: Option<u64>,
    /// How many there may be, where that is bounded.
    pub max: Option<u64>,
    /// How many calls wait for one.
    pub waiting: u64,
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections", self.open)?;
        if let Some(max) = self.max {
            write!(f, " of {max}")?;
        }
        if let Some(idle) = self.idle {
            write!(f, ", {idle} idle")?;
        }
        write!(f, ", {} calls waiting", self.waiting)
    }
}

impl Snapshot {
    /// The few figures of it that tell how a program does. Of a [difference](Self::since) of two snapshots they are those of
    /// the time between.
    ///
    /// ```
    /// # use buttress_telemetry::Registry;
    /// # let registry = Registry::new();
    /// let earlier = registry.snapshot();
    /// // ... a minute later:
    /// let minute = registry.snapshot().since(&earlier).performance_stats();
    /// for calls in &minute.calls {
    ///     println!("{}: {:.0}/s, p99 {:?} s", calls.name, calls.per_second, calls.p99);
    /// }
    /// ```
    #[must_use]
    pub fn performance_stats(&self) -> PerformanceStats {
        PerformanceStats {
            seconds: self.seconds,
            calls: self.calls.iter().map(|calls| CallStats::of(calls, self.seconds)).collect(),
            layers: self.layers.iter().map(LayerStats::of).collect(),
            slow_calls: self.slow_calls,
            process: self.process,
        }
    }
}

/// More kinds of errors are in the snapshot alone.
const ERRORS: usize = 10;

impl CallStats {
    #[expect(clippy::cast_precision_loss, reason = "a rate is no ledger")]
    fn of(calls: &CallsSnapshot, seconds: f64) -> Self {
        let total = &calls.total;
        let judged = total.success + total.failure + total.throttled + total.rejected + total.panicked;
        Self {
            name: calls.name,
            calls: total.count(),
            per_second: if seconds > 0.0 { total.count() as f64 / seconds } else { 0.0 },
            in_flight: calls.in_flight,
            success_share: (judged > 0).then(|| total.success as f64 / judged as f64),
            errors: total.errors.iter().take(ERRORS).cloned().collect(),
            p50: total.latency.p50,
            p95: total.latency.p95,
            p99: total.latency.p99,
            max: total.latency.max,
        }
    }
}

impl LayerStats {
    fn of(layer: &LayerSnapshot) -> Self {
        let mut rejections: Vec<ErrorCount> =
            layer.figures.iter().filter_map(rejections).filter(|rejections| rejections.count > 0).collect();
        rejections.sort_by_key(|rejections| Reverse(rejections.count));
        Self {
            layer: layer.layer,
            name: layer.name,
            calls: ["calls", "queries"].into_iter().find_map(|name| layer.figure(name, None)).map(whole),
            rejections,
            hit_share: hit_share(layer),
            pool: PoolStats::of(layer),
        }
    }
}

fn rejections(figure: &Figure) -> Option<ErrorCount> {
    let (_, reason) = figure.label.filter(|(key, _)| figure.name == "rejections" && *key == "reason")?;
    Some(ErrorCount { kind: reason.to_owned(), count: whole(figure.value) })
}

fn hit_share(layer: &LayerSnapshot) -> Option<f64> {
    let figure = |name| layer.figure(name, None);
    let (hits, misses) = (figure("hits")? + figure("stale").unwrap_or(0.0), figure("misses")?);
    (hits + misses > 0.0).then(|| hits / (hits + misses))
}

impl PoolStats {
    /// As the adapters name their gauges.
    fn of(layer: &LayerSnapshot) -> Option<Self> {
        let figure = |name| layer.figure(name, None).map(whole);
        Some(Self {
            open: figure("connections").or_else(|| figure("connections_open"))?,
            idle: figure("connections_idle"),
            max: figure("connections_max"),
            waiting: ["waiting", "calls_waiting", "commands_queued"]
                .into_iter()
                .find_map(figure)
                .unwrap_or(0),
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn whole(figure: f64) -> u64 {
    figure as u64
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};

    use super::*;
    use crate::{
        Registry, Sketch,
        source::{End, Series, Source},
    };

    #[derive(Clone)]
    struct Handle(Arc<(&'static str, Vec<Metric>)>);

    impl Observe for Handle {
        fn origin(&self) -> Origin {
            Origin::new(self.0.0, "performance")
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            self.0.1.iter().copied().for_each(visit);
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }

    fn stats(figures: &[(&'static str, Value)]) -> LayerStats {
        let figures = figures.iter().map(|(name, value)| Metric::new(name, *value)).collect();
        stats_of(figures)
    }

    fn stats_of(figures: Vec<Metric>) -> LayerStats {
        let (registry, handle) = (Registry::new(), Handle(Arc::new(("test", figures))));
        registry.register(&handle).unwrap();
        registry.snapshot().performance_stats().layers.remove(0)
    }

    use Value::{Counter, Gauge};

    #[test]
    fn a_cache_has_a_share_of_hits_once_it_was_asked() {
        let of = |hits, stale, misses| {
            stats(&[("hits", Counter(hits)), ("stale", Counter(stale)), ("misses", Counter(misses))])
                .hit_share
        };
        assert_eq!(of(0, 0, 0), None);
        assert_eq!(of(2, 1, 1), Some(0.75));
        assert_eq!(stats(&[("hits", Counter(1))]).hit_share, None);
    }

    #[test]
    fn the_pools_of_all_adapters_are_known_by_their_gauges() {
        let postgres = stats(&[
            ("connections", Gauge(7.0)),
            ("connections_idle", Gauge(2.0)),
            ("connections_max", Gauge(10.0)),
            ("waiting", Gauge(1.0)),
            ("queries", Counter(55)),
        ]);
        assert_eq!(postgres.pool, Some(PoolStats { open: 7, idle: Some(2), max: Some(10), waiting: 1 }));
        assert_eq!(postgres.calls, Some(55));
        let redis = stats(&[("connections", Gauge(3.0)), ("commands_queued", Gauge(4.0))]);
        assert_eq!(redis.pool, Some(PoolStats { open: 3, idle: None, max: None, waiting: 4 }));
        let http = stats(&[
            ("connections_open", Gauge(5.0)),
            ("connections_idle", Gauge(1.0)),
            ("calls_waiting", Gauge(f64::NAN)),
        ]);
        assert_eq!(http.pool, Some(PoolStats { open: 5, idle: Some(1), max: None, waiting: 0 }));
        assert_eq!(stats(&[("waiting", Gauge(1.0))]).pool, None, "a queue is no pool");
    }

    #[test]
    fn rejections_are_told_by_their_reason() {
        let rejections =
            |reason, count| Metric::new("rejections", Counter(count)).with_label("reason", reason);
        let told = stats_of(vec![
            rejections("timed_out", 2),
            rejections("closed", 0),
            rejections("overloaded", 3),
            Metric::new("rejections", Counter(9)).with_label("key", "timed_out"),
        ]);
        let told: Vec<_> = told.rejections.iter().map(|told| (&*told.kind, told.count)).collect();
        assert_eq!(told, [("overloaded", 3), ("timed_out", 2)]);
    }

    struct Calls;

    impl Source for Calls {
        fn origin(&self) -> Origin {
            Origin::new("telemetry", "performance")
        }
        #[cfg(feature = "generate")]
        fn metric(&self) -> &'static str {
            "performance.test"
        }
        fn in_flight(&self) -> u64 {
            3
        }
        fn number(&self) -> u64 {
            0
        }
        fn series(&self, visit: &mut dyn FnMut(Series<'_>)) {
            for (end, calls, error) in [
                (End::Success, 6_u64, None),
                (End::Failure, 1, Some("503")),
                (End::Rejected, 1, Some("timed_out")),
                (End::Ignored, 5, Some("404")),
                (End::Cancelled, 7, None),
            ] {
                let mut latencies = Sketch::default();
                (0..calls).for_each(|n| latencies.record(Duration::from_millis(10 + n)));
                visit(Series {
                    metric: "calls",
                    attributes: &[],
                    operation: "GET",
                    end,
                    error,
                    latencies,
                    exemplars: Vec::new(),
                    since: std::time::SystemTime::UNIX_EPOCH,
                });
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_telemetry_layers_line_leaves_the_callers_own_mistakes_out_of_the_share() {
        let registry = Registry::new();
        let source: Arc<dyn Source> = Arc::new(Calls);
        registry.add_source(&source).unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        let stats = registry.snapshot().performance_stats();
        let line = &stats.calls[0];
        assert_eq!((line.name, line.calls, line.in_flight), ("performance", 20, 3));
        assert!((line.per_second - 2.0).abs() < 1e-9 && (stats.seconds - 10.0).abs() < 1e-9);
        assert_eq!(line.success_share, Some(0.75));
        assert_eq!(line.errors[0], ErrorCount { kind: "404".into(), count: 5 });
        assert!(line.p50.unwrap() < 0.014 && line.max.unwrap() >= 0.016);
        // It is made to be sent.
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json["calls"][0]["success_share"], 0.75);
    }
}
