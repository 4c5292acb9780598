//! The client's layers stand around the typed call, one stack for each method, and not around the channel.
//!
//! Around the channel one stack would serve all methods, but it would see HTTP: bodies that are written while they are
//! sent and cannot be repeated; statuses in headers only where there was no message, else in trailers that come later; an
//! answer that is there when its head is, with the message still to come; and no word of which method may be repeated,
//! and which answers with a stream. Around the typed call all of that is plain: a message is `Clone`, the error is
//! [`Status`], which has room for a rejection; a unary call has ended when its answer is there; and a method that must
//! not be repeated gets a stack without a retry. What the methods share, they share by their layers: here it is one
//! breaker and one bulkhead for the server.
//!
//! Metadata for all calls, such as a token, belongs in an interceptor around the channel.

use std::{error::Error, net::SocketAddr, time::Duration};

use buttress_bulkhead::{BulkheadLayer, Limit, Limiter};
use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Probes, Ramp, Trip};
use buttress_core::{Backoff, Observe, Origin};
use buttress_retry::RetryLayer;
use buttress_telemetry::{RegisterError, Registry, TelemetryLayer};
use buttress_timeout::TimeoutLayer;
use tonic::{
    Response, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::{
    deadline::{missed, with_deadline},
    proto::{GreetManyRequest, GreetReply, GreetRequest, greeter_client::GreeterClient},
    status::{ByStatus, ClientCalls, WorthRepeating},
};

/// How long the client waits, and for how many calls at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For an answer, all attempts and waits together; for a stream, until it begins.
    pub(crate) total: Duration,
    /// For one attempt.
    pub(crate) attempt: Duration,
    /// Calls in flight, a stream until it begins; one more is refused.
    pub(crate) at_once: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { total: Duration::from_secs(2), attempt: Duration::from_millis(500), at_once: 64 }
    }
}

type Stack<Req, Res> = BoxCloneSyncService<Req, Res, Status>;

/// Asks one server for greetings.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    greet: Stack<GreetRequest, GreetReply>,
    greet_many: Stack<GreetManyRequest, Streaming<GreetReply>>,
    breaker: Breaker,
    limiter: Limiter,
}

impl Client {
    /// Connects when the first call is made, and again whenever the connection is lost.
    pub(crate) fn new(
        server: SocketAddr,
        patience: Patience,
        registry: &Registry,
    ) -> Result<Self, Box<dyn Error>> {
        let channel = Endpoint::from_shared(format!("http://{server}"))?.connect_lazy();
        let breaker = breaker().classify(ByStatus).build();
        let bulkhead = BulkheadLayer::new("greeter", Limit::fixed(patience.at_once)?);
        let limiter = bulkhead.limiter();
        let handle = breaker.breaker();
        let timeout = TimeoutLayer::new(patience.attempt).name("greeter attempt");
        let inside: [&dyn Observe; 3] = [&handle, &timeout, &limiter];

        let attempt = ServiceBuilder::new().layer(breaker).layer(timeout).layer(bulkhead);
        let greet = attempt.service(greet(channel.clone()));
        let greet_many = attempt.service(greet_many(channel));
        Ok(Self {
            greet: repeated("greeter.Greeter/Greet", patience, &inside, registry, greet)?,
            greet_many: repeated("greeter.Greeter/GreetMany", patience, &inside, registry, greet_many)?,
            breaker: handle,
            limiter,
        })
    }

    /// One greeting.
    pub(crate) async fn greet(&self, name: &str) -> Result<String, Status> {
        Ok(self.greet.clone().oneshot(GreetRequest { name: name.into() }).await?.text)
    }

    /// Several greetings, one after the other. The client's limits hold until the stream begins; from then on it is the
    /// caller's, who drops it when he has enough.
    pub(crate) async fn greet_many(&self, name: &str, times: u32) -> Result<Streaming<GreetReply>, Status> {
        self.greet_many.clone().oneshot(GreetManyRequest { name: name.into(), times }).await
    }

    /// The server's breaker.
    #[allow(dead_code, reason = "a test looks at it")]
    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The bulkhead's places.
    #[allow(dead_code, reason = "a test looks at them")]
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }
}

/// What is around the attempts of a method that may be repeated. One that may not is given the same without the retry.
fn repeated<S, Req, Res>(
    method: &'static str,
    patience: Patience,
    inside: &[&dyn Observe],
    registry: &Registry,
    attempt: S,
) -> Result<Stack<Req, Res>, RegisterError>
where
    S: Service<Req, Response = Res, Error = Status, Future: Send> + Clone + Send + Sync + 'static,
    Req: Clone + Send + Sync + 'static,
    Res: Send + 'static,
{
    let seen = TelemetryLayer::builder(method, registry)
        .convention(ClientCalls(method))
        .classify(ByStatus)
        .build()?;
    let total = TimeoutLayer::new(patience.total).name(method);
    let backoff =
        Backoff::exponential(Duration::from_millis(10), Duration::from_millis(100)).unwrap_or_default();
    let retry = RetryLayer::new(method).backoff(backoff).classify(WorthRepeating);
    let outside: [&dyn Observe; 3] = [&seen, &total, &retry.retrier()];
    let stack = outside.iter().chain(inside).fold(registry.stack(method), |stack, layer| stack.layer(*layer));
    stack.register()?;
    let stack = ServiceBuilder::new().layer(seen).layer(total).layer(retry).service(attempt);
    Ok(BoxCloneSyncService::new(stack))
}

/// Opens after five failures in a row, and asks again soon.
fn breaker() -> buttress_circuit_breaker::Builder {
    CircuitBreakerLayer::builder("greeter")
        .trip(Trip::default().with_consecutive(5).unwrap_or_default())
        .open_for(Backoff::constant(Duration::from_millis(250)))
        .probes(Probes::try_new(1, Duration::from_secs(1)).unwrap_or_default())
        .ramp(Ramp::over(Duration::from_millis(250)).unwrap_or_default())
}

/// The deadline that is sent is that of the attempt: the server need not work for longer than somebody waits.
fn greet(
    channel: Channel,
) -> impl Service<GreetRequest, Response = GreetReply, Error = Status, Future: Send> + Clone + Send + Sync {
    let client = GreeterClient::new(channel);
    let origin = Origin::new("grpc", "greeter");
    service_fn(move |message: GreetRequest| {
        let mut client = client.clone();
        async move {
            let answer = client.greet(with_deadline(message)).await;
            answer.map(Response::into_inner).map_err(|status| missed(origin, status))
        }
    })
}

/// No deadline is sent: `grpc-timeout` is for the whole of a stream, which may go on for as long as it likes.
fn greet_many(
    channel: Channel,
) -> impl Service<GreetManyRequest, Response = Streaming<GreetReply>, Error = Status, Future: Send>
+ Clone
+ Send
+ Sync {
    let client = GreeterClient::new(channel);
    service_fn(move |message: GreetManyRequest| {
        let mut client = client.clone();
        async move { client.greet_many(message).await.map(Response::into_inner) }
    })
}
