//! The server behind the script.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::reply::Ending;
use super::{Recorded, Reply, Script};

#[derive(Debug, Default)]
pub(super) struct State(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    scripts: HashMap<String, Script>,
    requests: Vec<Recorded>,
    connections: usize,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn set(&self, path: &str, script: Script) {
        self.lock().scripts.insert(path.to_owned(), script);
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Records the request and picks its reply in one step, so that both are in the same order.
    fn take(&self, path: &str, request: Recorded) -> Reply {
        let mut inner = self.lock();
        inner.requests.push(request);
        match inner.scripts.get_mut(path) {
            Some(script) => script.next(),
            None => Reply::status(404).body(format!("no script for {path}")),
        }
    }
}

/// Serves until it is dropped, and all its connections with it.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                state.lock().connections += 1;
                let state = Arc::clone(&state);
                let service = service_fn(move |request| answer(request, Arc::clone(&state)));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // Its error is a scripted cut, or a client that left.
                connections.spawn(async move { drop(connection.await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> io::Result<Response<ScriptedBody>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let recorded = Recorded { method: head.method, path, headers: head.headers, body };
    let reply = state.take(head.uri.path(), recorded);
    tokio::time::sleep(reply.latency).await;
    match reply.ending {
        Ending::NoHead => return Err(io::ErrorKind::ConnectionAborted.into()),
        Ending::Never => pending().await,
        Ending::Complete | Ending::Cut(_) | Ending::Stall(_) => {}
    }
    let mut response = Response::new(ScriptedBody::new(reply.body, reply.ending));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

/// A body that announces its whole length and may not keep the promise.
struct ScriptedBody {
    announced: u64,
    rest: Bytes,
    ending: Ending,
    flushed: bool,
}

impl ScriptedBody {
    fn new(body: Bytes, ending: Ending) -> Self {
        let announced = body.len() as u64;
        let rest = match ending {
            Ending::Cut(bytes) | Ending::Stall(bytes) => body.slice(..bytes),
            _ => body,
        };
        Self { announced, rest, ending, flushed: false }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        }
        match self.ending {
            Ending::Stall(_) => Poll::Pending,
            Ending::Cut(_) if self.flushed => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            // An error throws away what is buffered, whereas a body that is not ready has it flushed.
            Ending::Cut(_) => {
                self.flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ending == Ending::Complete && self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
