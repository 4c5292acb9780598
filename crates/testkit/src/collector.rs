//! A receiver of OpenTelemetry's protocol.

mod received;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;

pub use self::received::ReceivedMetric;
use self::server::State;
use crate::background::{self, Task};
use crate::ports::Port;

/// A collector of metrics and traces: a gRPC server of OTLP on a port of 127.0.0.1 that keeps what it is sent.
///
/// It keeps the latest [`MAX_KEPT`](Self::MAX_KEPT) exports of each kind, and takes messages of up to 4 MiB, as real ones do.
/// It runs on a thread of its own and in real time. Dropped, it closes its port and every connection before the
/// drop returns.
///
/// ```
/// # use std::time::Duration;
/// # use buttress_testkit::{Answer, Collector};
/// # async fn example() {
/// let collector = Collector::start().await;
/// // ... something exports to collector.url() ...
/// let metric = collector.metric("http.client.request.duration", Duration::from_secs(5)).await;
/// assert_eq!(metric.metric.unit, "s");
///
/// collector.answer(Answer::Never);
/// collector.stop().await;
/// collector.restart().await; // the same port
/// # }
/// ```
#[derive(Debug)]
pub struct Collector {
    port: Port,
    state: Arc<State>,
    task: Mutex<Option<Task>>,
}

/// How a [`Collector`] answers from now on.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answer {
    /// At once. This is how it starts.
    Ok,
    /// So much later. An export whose client leaves before is not kept.
    After(Duration),
    /// Never.
    Never,
    /// It refuses, and keeps nothing.
    Status(tonic::Code),
    /// It says that it could not use so many data points or spans, and keeps the rest.
    Partial(i64),
}

impl Collector {
    /// Older exports are forgotten.
    pub const MAX_KEPT: usize = 1000;

    /// Starts it.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        background::run(async {
            let state = Arc::new(State::new());
            let (port, task) = Port::reserve_for(|address| serve(address, &state))?;
            Ok::<_, io::Error>(Self { port, state, task: Mutex::new(Some(task)) })
        })
        .await
        .unwrap_or_else(|error| panic!("no port for a collector: {error}"))
    }

    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// How exports that arrive from now on are answered.
    pub fn answer(&self, answer: Answer) {
        self.state.set_answer(answer);
    }

    /// Closes the port and every connection. What was received stays.
    pub async fn stop(&self) {
        let task = self.task().take();
        // On a thread where waiting is allowed.
        background::run(async move { drop(tokio::task::spawn_blocking(|| drop(task)).await) }).await;
    }

    /// Listens again, on the same port. Nothing happens when it does already.
    ///
    /// # Panics
    /// When the port cannot be had.
    pub async fn restart(&self) {
        if self.task().is_some() {
            return;
        }
        let (addr, state) = (self.addr(), Arc::clone(&self.state));
        let task = background::run(async move { serve(addr, &state) }).await;
        *self.task() = Some(task.unwrap_or_else(|error| panic!("the collector's port {addr}: {error}")));
    }

    /// How many exports have arrived, whatever became of them.
    pub fn attempts(&self) -> usize {
        self.state.lock().attempts
    }

    /// The metadata of the export that arrived last.
    pub fn metadata(&self) -> Option<MetadataMap> {
        self.state.lock().metadata.clone()
    }

    /// The metrics that it kept, the oldest first.
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.state.lock().metrics.iter().cloned().collect()
    }

    /// The traces that it kept, the oldest first.
    pub fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        self.state.lock().traces.iter().cloned().collect()
    }

    /// Every span that it kept, in the order in which they arrived.
    pub fn spans(&self) -> Vec<Span> {
        received::spans(&self.traces())
    }

    /// The names of all metrics that it kept, sorted.
    pub fn metric_names(&self) -> Vec<String> {
        received::names(&self.metrics())
    }

    /// Forgets what it kept.
    pub fn clear(&self) {
        let mut kept = self.state.lock();
        kept.metrics.clear();
        kept.traces.clear();
    }

    /// The metric of that name as the latest export has it, waiting for it if need be.
    ///
    /// # Panics
    /// When it has not come in that (real) time.
    pub async fn metric(&self, name: &str, within: Duration) -> ReceivedMetric {
        self.wait(within, || received::latest(&self.metrics(), name)).await.unwrap_or_else(|| {
            panic!("no metric {name} within {within:?}; there are {:?}", self.metric_names())
        })
    }

    /// The first span of that name, waiting for it if need be.
    ///
    /// # Panics
    /// When it has not come in that (real) time.
    pub async fn span(&self, name: &str, within: Duration) -> Span {
        let find = || self.spans().into_iter().find(|span| span.name == name);
        self.wait(within, find).await.unwrap_or_else(|| {
            let names: Vec<_> = self.spans().into_iter().map(|span| span.name).collect();
            panic!("no span {name} within {within:?}; there are {names:?}")
        })
    }

    /// Asks `find` now and whenever another export has arrived, until it finds something or that (real) time is over.
    pub async fn wait<T>(&self, within: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
        // The clock of the test may stand still; that of the background thread does not.
        let deadline = background::run(async move { Instant::now() + within }).await;
        let mut arrivals = self.state.arrivals();
        loop {
            arrivals.mark_unchanged();
            if let Some(found) = find() {
                return Some(found);
            }
            let (receiver, in_time) = background::run(async move {
                let in_time = timeout_at(deadline, arrivals.changed()).await.is_ok();
                (arrivals, in_time)
            })
            .await;
            arrivals = receiver;
            if !in_time {
                return find();
            }
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(addr: SocketAddr, state: &Arc<State>) -> io::Result<Task> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before may still linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(Task::spawn(server::accept(socket.listen(1024)?, Arc::clone(state))))
}
