//! A collector: what receives OTLP over gRPC, and does with it as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    Take,
    Refuse(Code),
    Never,
}

#[derive(Debug)]
struct State {
    answer: Answer,
    spans: Vec<Span>,
    resource: Vec<KeyValue>,
    headers: MetadataMap,
    requests: usize,
}

#[derive(Debug, Clone)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            answer: Answer::Take,
            spans: Vec::new(),
            resource: Vec::new(),
            headers: MetadataMap::new(),
            requests: 0,
        };
        let collector = Self { address, state: Arc::new(Mutex::new(state)) };
        let service = TraceServiceServer::new(collector.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        collector
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, answer: Answer) {
        self.state().answer = answer;
    }

    pub fn spans(&self) -> Vec<Span> {
        self.state().spans.clone()
    }

    pub fn named(&self, name: &str) -> Span {
        let spans = self.spans();
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no span {name} in {spans:#?}")).clone()
    }

    pub fn resource(&self, key: &str) -> Option<String> {
        text(&self.state().resource, key)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.state().headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    /// Waits until so many requests came.
    pub async fn requests(&self, count: usize) {
        self.until(|state| state.requests >= count).await;
    }

    /// Waits until so many spans came.
    pub async fn arrived(&self, count: usize) {
        self.until(|state| state.spans.len() >= count).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        for _ in 0..1000 {
            if is_so(&self.state()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come: {:#?}", self.state());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let answer = {
            let mut state = self.state();
            state.requests += 1;
            state.answer
        };
        match answer {
            Answer::Refuse(code) => return Err(Status::new(code, "\u{1b}[31mnot now\n".repeat(50))),
            Answer::Never => std::future::pending().await,
            Answer::Take => {}
        }
        let mut state = self.state();
        state.headers = request.metadata().clone();
        for resource in request.into_inner().resource_spans {
            state.resource = resource.resource.unwrap_or_default().attributes;
            state.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// An attribute, as text.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.clone()?.value?;
    assert!(found.next().is_none(), "{key} is there twice");
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        other => panic!("{other:?}"),
    })
}
