//! The server's layers stand around all of its methods. What they refuse is answered as a gRPC status: a head with
//! `grpc-status` and no message, which every client understands, and not a stream that breaks off.

use std::{
    error::Error,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_core::{Deadline, Observe, Rejected, Respond};
use buttress_rate_limit::{Rate, RateLimitLayer};
use buttress_telemetry::{Registry, TelemetryLayer};
use buttress_timeout::TimeoutLayer;
use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::sleep};
use tonic::{
    Request, Response, Status,
    body::Body,
    transport::{Server, server::TcpIncoming},
};
use tower::ServiceBuilder;

use super::{
    deadline::CallersDeadline,
    proto::{
        GreetManyRequest, GreetReply, GreetRequest,
        greeter_server::{Greeter, GreeterServer},
    },
    status::{ByAnswer, ServerCalls},
};

const METHODS: &[&str] = &["greeter.Greeter/Greet", "greeter.Greeter/GreetMany"];
const MOST_GREETINGS: u32 = 1_000;

/// What the server takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Calls a second.
    pub(crate) rate: u32,
    /// Calls in flight, a stream until it begins.
    pub(crate) at_once: u32,
    /// For an answer; for a stream, until it begins.
    pub(crate) longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rate: 100, at_once: 64, longest: Duration::from_secs(10) }
    }
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    /// Serves on that listener.
    pub(crate) fn start(
        listener: TcpListener,
        hall: Arc<Hall>,
        limits: Limits,
        registry: &Registry,
    ) -> Result<Self, Box<dyn Error>> {
        let address = listener.local_addr()?;
        let seen = TelemetryLayer::builder("greeter server", registry)
            .convention(ServerCalls(METHODS))
            .classify(ByAnswer)
            .build()?;
        let rate = RateLimitLayer::new("greeter server", Rate::try_new(limits.rate, Duration::from_secs(1))?);
        let bulkhead = BulkheadLayer::new("greeter server", Limit::fixed(limits.at_once)?);
        let timeout = TimeoutLayer::new(limits.longest).name("greeter server");
        let layers: [&dyn Observe; 4] = [&seen, &rate.limiter(), &bulkhead.limiter(), &timeout];
        layers
            .iter()
            .fold(registry.stack("greeter server"), |stack, layer| stack.layer(*layer))
            .register()?;

        let inside = ServiceBuilder::new().layer(CallersDeadline).layer(rate).layer(bulkhead).layer(timeout);
        let server = Server::builder()
            .layer(seen)
            .layer(Respond::with(inside, refused))
            .add_service(GreeterServer::from_arc(hall));
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let ended = tokio::spawn(server.serve_with_incoming_shutdown(incoming, async {
            // Without its sender nobody wants the server any more.
            let _ = stopped.await;
        }));
        Ok(Self { address, stop, ended })
    }

    /// Lets what is on its way finish, and ends.
    #[allow(dead_code, reason = "a test stops it in its own way")]
    pub(crate) async fn stop(self) -> Result<(), Box<dyn Error>> {
        let _ = self.stop.send(());
        Ok(self.ended.await??)
    }
}

/// The caller learns why, and when to come back, but not how the server is built.
fn refused(rejected: Rejected) -> http::Response<Body> {
    Status::from(rejected).into_http()
}

/// The one who greets, and how he feels today.
#[derive(Debug, Default)]
pub(crate) struct Hall {
    /// So many of the next calls are answered with `UNAVAILABLE`.
    pub(crate) unavailable: AtomicU32,
    /// How long a greeting takes, in milliseconds.
    pub(crate) takes_millis: AtomicU32,
    /// How many calls have come as far as here.
    pub(crate) calls: AtomicU32,
}

impl Hall {
    fn enter(&self, name: &str) -> Result<Duration, Status> {
        self.calls.fetch_add(1, Relaxed);
        if self.unavailable.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("not yet"));
        }
        if name.is_empty() || name.len() > 100 {
            return Err(Status::invalid_argument("a name has 1 to 100 bytes"));
        }
        Ok(Duration::from_millis(self.takes_millis.load(Relaxed).into()))
    }
}

type Greetings = Pin<Box<dyn Stream<Item = Result<GreetReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Hall {
    type GreetManyStream = Greetings;

    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        let name = request.into_inner().name;
        let takes = self.enter(&name)?;
        let left = Deadline::current().map(Deadline::remaining);
        // What nobody will wait for is not begun.
        if let Some(left) = left.filter(|left| *left < takes) {
            return Err(Status::deadline_exceeded(format!(
                "a greeting takes {takes:?}, and you wait for {} ms",
                left.as_millis()
            )));
        }
        sleep(takes).await;
        Ok(Response::new(GreetReply { text: format!("Hello, {name}!") }))
    }

    async fn greet_many(&self, request: Request<GreetManyRequest>) -> Result<Response<Greetings>, Status> {
        let GreetManyRequest { name, times } = request.into_inner();
        let takes = self.enter(&name)?;
        if times > MOST_GREETINGS {
            return Err(Status::invalid_argument(format!("at most {MOST_GREETINGS} greetings")));
        }
        let greetings = stream::iter(1..=times).then(move |number| {
            let text = format!("Hello, {name}, for the {number}. time!");
            async move {
                sleep(takes).await;
                Ok(GreetReply { text })
            }
        });
        Ok(Response::new(greetings.boxed()))
    }
}
