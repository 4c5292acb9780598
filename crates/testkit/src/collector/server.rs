//! The gRPC server behind a collector.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::{Answer, Collector};

#[derive(Debug)]
pub(super) struct State {
    kept: Mutex<Kept>,
    answer: Mutex<Answer>,
    /// Moves on with every arrival and every export that is kept.
    arrivals: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) attempts: usize,
    pub(super) metadata: Option<MetadataMap>,
    pub(super) metrics: VecDeque<ExportMetricsServiceRequest>,
    pub(super) traces: VecDeque<ExportTraceServiceRequest>,
}

impl State {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), answer: Mutex::new(Answer::Ok), arrivals: watch::Sender::new(()) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<()> {
        self.arrivals.subscribe()
    }

    /// Does as it was told. The message is kept if this returns: how much of it could not be used.
    async fn receive(&self, metadata: &MetadataMap) -> Result<i64, Status> {
        {
            let mut kept = self.lock();
            kept.attempts += 1;
            kept.metadata = Some(metadata.clone());
        }
        self.arrivals.send_replace(());
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match answer {
            Answer::Ok => Ok(0),
            Answer::After(delay) => {
                tokio::time::sleep(delay).await;
                Ok(0)
            }
            Answer::Never => pending().await,
            // What a terminal would obey, and long: whoever shows it is found out.
            Answer::Status(code) => Err(Status::new(code, "\u{1b}[31mas it was told\n".repeat(50))),
            Answer::Partial(rejected) => Ok(rejected),
        }
    }
}

fn keep<T>(list: &mut VecDeque<T>, message: T) {
    if list.len() == Collector::MAX_KEPT {
        list.pop_front();
    }
    list.push_back(message);
}

#[derive(Debug)]
struct Receiver(Arc<State>);

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let rejected = self.0.receive(request.metadata()).await?;
        keep(&mut self.0.lock().metrics, request.into_inner());
        self.0.arrivals.send_replace(());
        let partial_success = (rejected > 0).then(|| ExportMetricsPartialSuccess {
            rejected_data_points: rejected,
            error_message: "as it was told".into(),
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let rejected = self.0.receive(request.metadata()).await?;
        keep(&mut self.0.lock().traces, request.into_inner());
        self.0.arrivals.send_replace(());
        let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "as it was told".into(),
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// Serves until it is dropped, and all its connections with it.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    let routes = Routes::new(MetricsServiceServer::new(Receiver(Arc::clone(&state))))
        .add_service(TraceServiceServer::new(Receiver(state)))
        .prepare();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let service = TowerToHyperService::new(routes.clone());
                let connection =
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                // Its error is a client that left.
                connections.spawn(async move { drop(connection.await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
