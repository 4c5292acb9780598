use std::{fmt, sync::PoisonError, time::Duration};

use buttress_http::CutOff;
use tokio::time::{Instant, timeout_at};

use super::Inner;

/// What a shutdown found: how long it took, and what it had to cut off.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How long it took.
    pub took: Duration,
    /// How many calls were still on their way when the time was up, at least: answers of which the end was not read yet are
    /// counted where there were no other calls.
    pub calls: usize,
    /// The parts whose connections had not all been given back by then.
    pub parts: Vec<String>,
}

impl ShutdownReport {
    /// Whether everything came to its end.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.calls == 0 && self.parts.is_empty()
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shut down in {:.1?}: ", self.took)?;
        if self.is_clean() {
            return f.write_str("everything came to its end");
        }
        write!(f, "{} calls were cut off", self.calls)?;
        if !self.parts.is_empty() {
            write!(f, "; connections were still in use: {}", self.parts.join(", "))?;
        }
        Ok(())
    }
}

/// What it takes to say goodbye where nothing is in use.
const MOMENT: Duration = Duration::from_millis(100);

pub(super) async fn shutdown(system: &Inner, deadline: Duration) -> ShutdownReport {
    let began = Instant::now();
    let end = began + deadline.min(Duration::from_secs(30 * 365 * 86_400));
    system.health.begin_shutdown();
    {
        // Not amid a reload: the APIs that it brings are closed too.
        let _config = system.config.lock().unwrap_or_else(PoisonError::into_inner);
        system.gate.close();
    }
    let mut report = ShutdownReport::default();
    if timeout_at(end, system.gate.empty()).await.is_err() {
        report.calls = system.gate.inside();
    }
    // What nobody uses is closed in a moment, also where the time is up.
    let last = end.max(Instant::now() + MOMENT);
    // All at once: none of them waits for another.
    let upstreams = system.http.load_full();
    let closing = upstreams.iter().map(|(name, upstream)| async move {
        let grace = end.saturating_duration_since(Instant::now());
        let closed = upstream.service.client().close(grace).await;
        closed.err().map(|CutOff { calls, .. }| (format!("http.{name}"), calls))
    });
    let http = futures_util::future::join_all(closing);
    let database = async {
        match &system.database {
            Some(database) => timeout_at(last, database.client().close()).await.is_err(),
            None => false,
        }
    };
    let redis = async {
        match &system.redis {
            Some(redis) => timeout_at(last, redis.client().close()).await.is_err(),
            None => false,
        }
    };
    let cache = async {
        match &system.cache {
            Some(cache) => timeout_at(last, cache.close()).await.is_err(),
            None => false,
        }
    };
    let (http, database, redis, cache) = tokio::join!(http, database, redis, cache);
    let (parts, unread): (Vec<String>, Vec<usize>) = http.into_iter().flatten().unzip();
    report.calls = report.calls.max(unread.into_iter().sum());
    report.parts = parts;
    report.parts.extend(database.then(|| "database".to_owned()));
    report.parts.extend(redis.then(|| "redis".to_owned()));
    report.parts.extend(cache.then(|| "cache".to_owned()));
    system.health.shutdown().await;
    system.seen.shutdown(end).await;
    report.took = began.elapsed();
    report
}
