//! Real HTTP servers that are slow, fail, die and come back, and callers that never stop.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tower::{Service, ServiceExt};

pub(crate) type Body = Full<Bytes>;
pub(crate) type Client = buttress_http::HttpClient<Body>;
pub(crate) type Answer = Response<buttress_http::ResponseBody>;

/// An HTTP server of the test's own.
pub(crate) struct Replica {
    addr: SocketAddr,
    state: Arc<State>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    calls: AtomicU64,
    delay_us: AtomicU64,
    failing: AtomicBool,
}

impl Replica {
    /// Answers 200 after that time.
    pub(crate) async fn start(delay: Duration) -> Self {
        Self::start_on(&[Ipv4Addr::LOCALHOST.into()], delay).await.remove(0)
    }

    /// One on each address, all on the same port.
    pub(crate) async fn start_on(ips: &[IpAddr], delay: Duration) -> Vec<Self> {
        loop {
            // Below the ports of the test kit, and of what the kernel gives to those who connect: such a one could sit on
            // the port of a server that is down.
            let port = fastrand::u16(10_000..20_000);
            let listeners: io::Result<Vec<_>> =
                ips.iter().map(|ip| std::net::TcpListener::bind((*ip, port))).collect();
            let Ok(listeners) = listeners else { continue };
            drop(listeners);
            let mut replicas = Vec::new();
            for ip in ips {
                let state = Arc::new(State::default());
                state.delay_us.store(delay.as_micros().try_into().unwrap(), Relaxed);
                let replica = Self { addr: (*ip, port).into(), state, task: Mutex::new(None) };
                replica.restart().await;
                replicas.push(replica);
            }
            return replicas;
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests have come.
    pub(crate) fn calls(&self) -> u64 {
        self.state.calls.load(Relaxed)
    }

    /// From now on it answers 500 at once, or as before.
    pub(crate) fn fail(&self, failing: bool) {
        self.state.failing.store(failing, Relaxed);
    }

    /// Its connections are cut, and new ones refused, when this returns.
    pub(crate) async fn kill(&self) {
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again, on the same port.
    pub(crate) async fn restart(&self) {
        self.kill().await;
        let listener = TcpListener::bind(self.addr).await.expect("its own port");
        *self.task.lock().unwrap() = Some(tokio::spawn(serve(listener, Arc::clone(&self.state))));
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap().take() {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let answer = service_fn(|request| answer(request, Arc::clone(&state)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(_: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    state.calls.fetch_add(1, Relaxed);
    let mut response = Response::new(Full::from("ok"));
    if state.failing.load(Relaxed) {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    } else {
        sleep(Duration::from_micros(state.delay_us.load(Relaxed))).await;
    }
    Ok(response)
}

/// The client, with every request sent to that server.
pub(crate) fn at(client: &Client, addr: SocketAddr) -> buttress_http::HttpEndpoint<Client> {
    buttress_http::HttpEndpoint::try_new(client.clone(), &format!("http://{addr}")).expect("a URL")
}

pub(crate) fn client() -> Client {
    buttress_http::HttpClient::builder().connect_timeout(Duration::from_secs(1)).build().unwrap()
}

/// One GET, read to the end; what is not 200 is an error.
pub(crate) async fn get<S>(service: S) -> Result<(), String>
where
    S: Service<Request<Body>, Response = Answer>,
    S::Error: std::fmt::Display,
{
    let request = Request::get("/items/7").body(Body::default()).unwrap();
    let response = service.oneshot(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    response.into_body().collect().await.map_err(|error| error.to_string())?;
    if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
}

/// How a call went.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) took: Duration,
    pub(crate) result: Result<(), String>,
}

/// Callers, each of whom calls again as soon as the last call is over.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    callers: JoinSet<Vec<Call>>,
}

impl Load {
    pub(crate) fn start<F>(callers: usize, call: impl Fn() -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let over = Arc::new(AtomicBool::new(false));
        let mut all = JoinSet::new();
        for _ in 0..callers {
            let (over, call) = (Arc::clone(&over), call.clone());
            all.spawn(async move {
                let mut calls = Vec::new();
                while !over.load(Relaxed) {
                    let began = Instant::now();
                    let result = call().await;
                    calls.push(Call { took: began.elapsed(), result });
                    tokio::task::yield_now().await;
                }
                calls
            });
        }
        Self { over, callers: all }
    }

    /// All calls, those in flight included.
    pub(crate) async fn stop(self) -> Vec<Call> {
        self.over.store(true, Relaxed);
        self.callers.join_all().await.concat()
    }
}

/// Of the calls that were answered.
pub(crate) fn percentile(calls: &[Call], share: f64) -> Duration {
    let mut took: Vec<_> = calls.iter().map(|call| call.took).collect();
    took.sort_unstable();
    took[((took.len() as f64 * share) as usize).min(took.len() - 1)]
}

/// The errors, each with its count.
pub(crate) fn errors(calls: &[Call]) -> std::collections::BTreeMap<&str, usize> {
    let mut errors = std::collections::BTreeMap::new();
    for call in calls {
        if let Err(error) = &call.result {
            *errors.entry(error.as_str()).or_default() += 1;
        }
    }
    errors
}

/// Waits until it is so, for at most that time.
pub(crate) async fn until(within: Duration, what: &str, mut so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// What each has got since the last time that it was asked.
pub(crate) struct Shares<'a> {
    replicas: &'a [Replica],
    seen: Vec<u64>,
}

impl<'a> Shares<'a> {
    pub(crate) fn of(replicas: &'a [Replica]) -> Self {
        Self { replicas, seen: replicas.iter().map(Replica::calls).collect() }
    }

    /// Parts of 1.
    pub(crate) fn next(&mut self) -> Vec<f64> {
        let now: Vec<u64> = self.replicas.iter().map(Replica::calls).collect();
        let new: Vec<u64> = now.iter().zip(&self.seen).map(|(now, seen)| now - seen).collect();
        self.seen = now;
        let all = new.iter().sum::<u64>().max(1) as f64;
        new.iter().map(|new| *new as f64 / all).collect()
    }
}
