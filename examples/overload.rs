//! A bulkhead with priorities and a breaker for each host, in front of an upstream that gets slow, hangs and comes back:
//! `cargo run --example overload`
//!
//! The server answers `GET /HOST/...` by asking that host. Its bulkhead admits 16 requests at once, lets 16 more wait, and
//! sheds what matters least; the breaker of a host that fails cuts it off, and leaves the other alone. A fault proxy
//! stands in front of one of the two hosts, and clients of two kinds ask for more than there is room for.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    response::Response,
    routing::get,
};
use buttress_bulkhead::{BulkheadLayer, Criticality, Limit, Queue};
use buttress_circuit_breaker::{Breakers, CircuitBreakerLayer, Probes, Ramp, Trip, Window};
use buttress_core::{Backoff, Rejectable, Respond, problem};
use buttress_http::{HttpClient, StatusClassifier};
use buttress_testkit::{Fault, FaultProxy, Reply, Upstream};
use buttress_timeout::TimeoutLayer;
use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

const MS: Duration = Duration::from_millis(1);

type Get = http::Request<Full<Bytes>>;
type Client = BoxCloneSyncService<Get, http::Response<buttress_http::ResponseBody>, buttress_http::Error>;

/// Where the server finds its hosts, and how it asks them.
#[derive(Clone)]
struct Upstreams {
    addresses: Arc<HashMap<&'static str, SocketAddr>>,
    client: Client,
}

fn client() -> Result<(Client, Breakers<String>), BoxError> {
    let breakers = CircuitBreakerLayer::builder("upstreams")
        .trip(Trip::failure_rate(0.5, Window::time(2_000 * MS)?)?)
        .open_for(Backoff::constant(500 * MS))
        .probes(Probes::try_new(2, 500 * MS)?)
        .ramp(Ramp::over(500 * MS)?)
        .classify(StatusClassifier)
        .keyed(|request: &Get| request.uri().authority().map(ToString::to_string).unwrap_or_default());
    let handle = breakers.breakers();
    let stack = ServiceBuilder::new()
        .layer(breakers)
        .layer(TimeoutLayer::new(250 * MS).name("upstream attempt"))
        .service(HttpClient::builder().name("upstreams").build()?);
    Ok((BoxCloneSyncService::new(stack), handle))
}

async fn ask(State(upstreams): State<Upstreams>, Path((host, path)): Path<(String, String)>) -> Response {
    let Some(address) = upstreams.addresses.get(host.as_str()) else {
        return status(StatusCode::NOT_FOUND);
    };
    let Ok(uri) = format!("http://{address}/{path}").parse::<Uri>() else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut request = Get::default();
    *request.uri_mut() = uri;
    match upstreams.client.oneshot(request).await {
        Ok(answer) => answer.map(Body::new),
        // 503 where the circuit is open, 504 where the host was too slow.
        Err(error) => error.rejected().map_or_else(|| status(StatusCode::BAD_GATEWAY), |why| problem(*why)),
    }
}

fn status(code: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = code;
    response
}

/// Inside of a company a header may say how much a request matters; from outside it would be for the server to know.
fn criticality(request: &Request) -> Option<Criticality> {
    match request.headers().get("criticality")?.as_bytes() {
        b"sheddable" => Some(Criticality::Sheddable),
        b"critical" => Some(Criticality::Critical),
        _ => None,
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Two hosts; what is asked of `quotes` passes the fault proxy.
    let (quotes, news) = (Upstream::start().await, Upstream::start().await);
    for host in [&quotes, &news] {
        host.on("/latest", Reply::ok("fresh").after(20 * MS));
    }
    let proxy = FaultProxy::start(quotes.addr()).await;

    let (client, breakers) = client()?;
    let bulkhead = BulkheadLayer::builder("server", Limit::fixed(16)?)
        .queue(Queue::try_new(16, 100 * MS)?)
        .criticality(criticality)
        .build();
    let limiter = bulkhead.limiter();
    let addresses = Arc::new(HashMap::from([("quotes", proxy.addr()), ("news", news.addr())]));
    let app = Router::new()
        .route("/{host}/{*path}", get(ask))
        .layer(Respond::with(bulkhead, problem))
        .with_state(Upstreams { addresses, client });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });

    let clients = Clients::start(server)?;
    let phases: [(&str, Fault); 4] = [
        ("more callers than places", Fault::Pass),
        ("quotes takes 150 ms longer", Fault::Latency(150 * MS)),
        ("quotes hangs", Fault::BlackHole),
        ("quotes is back", Fault::Pass),
    ];
    for (name, fault) in phases {
        proxy.set(fault);
        println!("\n{name}");
        let (refused, shed) = (rejections(&limiter), limiter.snapshot().shed);
        for _ in 0..3 {
            tokio::time::sleep(1_000 * MS).await;
            let states = [("quotes", proxy.addr()), ("news", news.addr())].map(|(host, address)| {
                let state = breakers.get(&address.to_string()).map_or("unused", |b| b.state().as_str());
                format!("{host} {state}")
            });
            let now = limiter.snapshot();
            println!(
                "  {} in flight, {} waiting; breakers: {}",
                now.in_flight,
                now.waiting,
                states.join(", ")
            );
        }
        let (refused, shed) = (rejections(&limiter) - refused, limiter.snapshot().shed - shed);
        println!("  the bulkhead refused {refused}, {shed} of them for others that mattered more");
        clients.report();
    }
    clients.stop().await;
    serving.abort();
    Ok(())
}

fn rejections(limiter: &buttress_bulkhead::Limiter) -> u64 {
    use buttress_core::{Observe, Reason};
    limiter.origin().rejections(Reason::Overloaded)
}

/// Callers who ask again as soon as they have an answer: many who could do without, and a few who could not.
struct Clients {
    running: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<(&'static str, &'static str), Seen>>>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    by_status: BTreeMap<u16, u32>,
    longest: Duration,
}

impl Clients {
    fn start(server: SocketAddr) -> Result<Self, BoxError> {
        let (running, seen) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let mut tasks = JoinSet::new();
        let client = HttpClient::builder().name("clients").build()?;
        for (level, host, callers) in [
            ("sheddable", "quotes", 24),
            ("critical", "quotes", 4),
            ("sheddable", "news", 12),
            ("critical", "news", 4),
        ] {
            for _ in 0..callers {
                let (client, running, seen) = (client.clone(), Arc::clone(&running), Arc::clone(&seen));
                tasks.spawn(caller(client, server, level, host, running, seen));
            }
        }
        Ok(Self { running, seen, tasks })
    }

    fn report(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for ((host, level), Seen { by_status, longest }) in std::mem::take(&mut *seen) {
            let counts: Vec<_> = by_status.iter().map(|(status, n)| format!("{status}: {n}")).collect();
            println!("  {host:6} {level:9} | {} | longest {} ms", counts.join(", "), longest.as_millis());
        }
    }

    async fn stop(mut self) {
        self.running.store(false, Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn caller(
    client: HttpClient<Full<Bytes>>,
    server: SocketAddr,
    level: &'static str,
    host: &'static str,
    running: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeMap<(&'static str, &'static str), Seen>>>,
) {
    while running.load(Relaxed) {
        let mut request = Get::default();
        *request.uri_mut() = format!("http://{server}/{host}/latest").parse().expect("it is a URL");
        request.headers_mut().insert("criticality", http::HeaderValue::from_static(level));
        let start = Instant::now();
        let status = match client.clone().oneshot(request).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let _body = answer.into_body().collect().await;
                status
            }
            Err(error) => {
                eprintln!("the server itself failed: {error}");
                return;
            }
        };
        {
            let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let seen = seen.entry((host, level)).or_default();
            *seen.by_status.entry(status).or_default() += 1;
            seen.longest = seen.longest.max(start.elapsed());
        }
        // Who was refused waits a moment, as he should.
        tokio::time::sleep(if status == 200 { MS } else { 20 * MS }).await;
    }
}
