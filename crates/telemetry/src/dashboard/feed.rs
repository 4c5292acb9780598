use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::warn;

use super::frame::{Frame, History, Point, Recent};
use crate::{Registry, Snapshot};

/// What gives the alerts that are shown.
pub(super) type Source = Box<dyn Fn() -> Value + Send + Sync>;

/// How many slow calls are shown.
const SLOW_CALLS: usize = 20;
/// Quantiles are those of the calls of so long, up to twice as long.
const RECENT: Duration = Duration::from_secs(5);
/// Who takes nothing for so long does not look any more: the other end of a connection may be gone, or hold it open for ever,
/// without a word. Long enough for a large frame on a slow line.
const SILENT: Duration = Duration::from_secs(120);

/// Reads the figures while somebody looks, once for all who do.
pub(super) struct Feed {
    registry: Registry,
    alerts: Option<Source>,
    every: Duration,
    max_viewers: usize,
    control: bool,
    state: Mutex<State>,
    /// The latest frame, so that who is slow skips those before.
    frames: watch::Sender<Sent>,
}

#[derive(Default)]
struct State {
    /// Of each who looks, since when a frame waits that it has not taken.
    viewers: HashMap<u64, Option<Instant>>,
    next_viewer: u64,
    sampler: Option<AbortHandle>,
    history: History,
    is_closed: bool,
}

#[derive(Clone)]
enum Sent {
    Nothing,
    Frame(Bytes),
    Closed,
}

/// Why nobody else may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full(usize),
    Closed,
}

impl Feed {
    pub(super) fn new(
        registry: Registry,
        alerts: Option<Source>,
        every: Duration,
        max_viewers: usize,
        control: bool,
    ) -> Self {
        let (frames, _) = watch::channel(Sent::Nothing);
        Self { registry, alerts, every, max_viewers, control, state: Mutex::default(), frames }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All that is known now, as JSON.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct All<'a> {
            now: &'a Snapshot,
            slow_calls: &'a [crate::SlowCall],
            alerts: &'a Value,
        }
        let now = self.registry.snapshot();
        json(&All { now: &now, slow_calls: &self.registry.slow_calls(SLOW_CALLS), alerts: &self.alerts() })
    }

    /// Someone begins to look. The first one starts the sampler, and the last one's end is its end.
    pub(super) fn view(self: &Arc<Self>) -> Result<Viewer, Refused> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if state.viewers.len() >= self.max_viewers {
            return Err(Refused::Full(self.max_viewers));
        }
        let id = state.next_viewer;
        state.next_viewer += 1;
        state.viewers.insert(id, None);
        // One that has ended did so with its runtime.
        if state.sampler.as_ref().is_none_or(AbortHandle::is_finished) {
            self.frames.send_replace(Sent::Nothing);
            let feed = Arc::clone(self);
            state.sampler = Some(tokio::spawn(async move { feed.sample().await }).abort_handle());
        }
        let mut first = b"retry: 1000\nevent: history\ndata: ".to_vec();
        first.append(&mut state.history.json(Instant::now()));
        first.extend_from_slice(b"\n\n");
        let mut frames = self.frames.subscribe();
        frames.mark_changed();
        drop(state);
        Ok(Viewer { id, first: Some(first.into()), frames, feed: Arc::clone(self) })
    }

    /// Ends all streams, now and for ever.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        if let Some(sampler) = state.sampler.take() {
            sampler.abort();
        }
        self.frames.send_replace(Sent::Closed);
    }

    async fn sample(&self) {
        let mut sampler = Sampler::default();
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Handles and alerts are other people's code.
            let Ok((frame, point)) = catch_unwind(AssertUnwindSafe(|| sampler.read(self))) else {
                warn!("the dashboard could not read the figures: a layer's handle or an alert panicked");
                sampler = Sampler::default();
                continue;
            };
            let mut state = self.state();
            if state.is_closed {
                return;
            }
            if let Some(point) = point {
                state.history.push(Instant::now(), point.into());
            }
            self.frames.send_replace(Sent::Frame(frame.into()));
            let now = Instant::now();
            state.viewers.retain(|_, waits| now - *waits.get_or_insert(now) < SILENT);
            if state.viewers.is_empty() {
                state.sampler = None;
                return;
            }
        }
    }

    /// That viewer has taken all that it was sent. Whether it still has a place.
    fn has_taken(&self, viewer: u64) -> bool {
        self.state().viewers.get_mut(&viewer).map(|waits| *waits = None).is_some()
    }

    fn alerts(&self) -> Value {
        self.alerts.as_ref().map_or(Value::Array(Vec::new()), |alerts| alerts())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Sampler {
    before: Option<Snapshot>,
    /// Where the latest seconds begin, and where they will begin next.
    base: Option<(Snapshot, Snapshot)>,
}

impl Sampler {
    /// A frame as a server-sent event, and its point for the charts.
    fn read(&mut self, feed: &Feed) -> (Vec<u8>, Option<Vec<u8>>) {
        let now = feed.registry.snapshot();
        let since = self.before.as_ref().map(|before| now.since(before));
        let recent = self.base.as_ref().map(|(base, _)| now.since(base));
        let slow_calls = feed.registry.slow_calls(SLOW_CALLS);
        let point = since.as_ref().map(|since| json(&Point::of(since)));
        let mut event = b"data: ".to_vec();
        event.append(&mut json(&Frame {
            now: &now,
            since: since.as_ref().map(Point::of),
            recent: recent.as_ref().map(|it| Recent { seconds: it.seconds, calls: &it.calls }),
            slow_calls: &slow_calls,
            alerts: &feed.alerts(),
            every: feed.every.as_secs_f64(),
            control: feed.control,
        }));
        event.extend_from_slice(b"\n\n");
        let (base, next) = self.base.take().unwrap_or_else(|| (now.clone(), now.clone()));
        let is_due = now.seconds - next.seconds >= RECENT.as_secs_f64();
        self.base = Some(if is_due { (next, now.clone()) } else { (base, next) });
        self.before = Some(now);
        (event, point)
    }
}

/// Someone who looks.
pub(super) struct Viewer {
    id: u64,
    first: Option<Bytes>,
    frames: watch::Receiver<Sent>,
    feed: Arc<Feed>,
}

impl Viewer {
    /// The history, then the latest frame each time that it is asked for.
    pub(super) fn events(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
        stream::unfold(self, |mut viewer| async move {
            if !viewer.feed.has_taken(viewer.id) {
                return None;
            }
            if let Some(first) = viewer.first.take() {
                return Some((Ok(first), viewer));
            }
            loop {
                viewer.frames.changed().await.ok()?;
                let sent = viewer.frames.borrow_and_update().clone();
                match sent {
                    Sent::Nothing => {}
                    Sent::Frame(frame) => return Some((Ok(frame), viewer)),
                    Sent::Closed => return None,
                }
            }
        })
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut state = self.feed.state();
        let had_place = state.viewers.remove(&self.id).is_some();
        let ended = if had_place && state.viewers.is_empty() { state.sampler.take() } else { None };
        if let Some(sampler) = ended {
            sampler.abort();
        }
    }
}

/// Our own types always have a JSON; anything else would be a defect here, and `null` shows it.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}
