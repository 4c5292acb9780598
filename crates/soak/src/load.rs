//! The load: requests at a steady pace, whether or not the ones before have their answers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout},
};

use crate::{
    ledger::Ledger,
    sample::{Class, Outcome, Sample},
};

/// Requests a second: much less than the gateway can do, so that a percentile tells of it and not of a queue before it.
const USERS: u64 = 80;
const PROFILES: u64 = 30;
const ORDERS: u64 = 12;
/// So many at once, now and then.
const BURST: usize = 70;
const BURST_EVERY: Duration = Duration::from_secs(10);
/// The first one, and the least between the last one and the end: what is held is measured without them.
const BURST_MARGIN: Duration = Duration::from_secs(5);
/// Users that are read.
const KNOWN: u64 = 500;
/// Then a request hangs, and no more is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two attempts at one order.
const AGAIN: Duration = Duration::from_millis(500);
/// The more there are, the more is kept of each.
const KEPT_WORDS: usize = 400;

/// The clients of one gateway. Clones are the same.
#[derive(Clone)]
pub(crate) struct Load {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: SocketAddr,
    begin: Instant,
    seed: u64,
    samples: Mutex<Vec<Sample>>,
    orders: Mutex<Ledger>,
    bursts: Mutex<Vec<Duration>>,
    /// What was said where it failed: how often, and when first and last.
    words: Mutex<BTreeMap<String, (usize, Duration, Duration)>>,
}

/// What an answer was.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Load {
    /// Against this gateway; time begins now.
    pub(crate) fn new(gateway: SocketAddr, seed: u64) -> Self {
        let client = Client::builder(TokioExecutor::new())
            // What a fault left open must not be taken for the gateway's.
            .pool_idle_timeout(Duration::from_secs(2))
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build_http();
        let shared = Shared {
            client,
            gateway,
            begin: Instant::now(),
            seed,
            samples: Mutex::default(),
            orders: Mutex::default(),
            bursts: Mutex::default(),
            words: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Since the load began.
    pub(crate) fn now(&self) -> Duration {
        self.shared.begin.elapsed()
    }

    pub(crate) fn begin(&self) -> Instant {
        self.shared.begin
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut samples = lock(&self.shared.samples).clone();
        samples.sort_by_key(Sample::end);
        samples
    }

    /// When each burst began.
    pub(crate) fn bursts(&self) -> Vec<Duration> {
        lock(&self.shared.bursts).clone()
    }

    pub(crate) fn words(&self) -> BTreeMap<String, (usize, Duration, Duration)> {
        lock(&self.shared.words).clone()
    }

    pub(crate) fn orders(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.shared.orders)
    }

    /// Makes the users that are read later on.
    ///
    /// # Errors
    /// The answer that was none.
    pub(crate) async fn prepare(&self) -> Result<(), String> {
        for number in 1..=KNOWN {
            let body = format!(r#"{{"name":"User {number}","email":"{number}@example.com"}}"#);
            let answer = self.ask(Method::POST, "/users", None, body).await?;
            if answer.status != StatusCode::CREATED {
                return Err(format!("a user could not be made: {}", answer.status));
            }
        }
        Ok(())
    }

    /// Sends until `stop`, and then waits for the answers. Orders that have none yet are sent again for a while.
    pub(crate) async fn run(self, lasts: Duration, stop: watch::Receiver<bool>) {
        let mut lanes = JoinSet::new();
        lanes.spawn(self.clone().lane(USERS, Class::User, stop.clone()));
        lanes.spawn(self.clone().lane(PROFILES, Class::Profile, stop.clone()));
        lanes.spawn(self.clone().lane(ORDERS, Class::Order, stop.clone()));
        lanes.spawn(self.burst_lane(lasts));
        lanes.join_all().await;
    }

    async fn lane(self, per_second: u64, class: Class, stop: watch::Receiver<bool>) {
        let mut ticks = interval(Duration::from_micros(1_000_000 / per_second));
        // What this machine missed is not made up for: that would be a burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut running, mut number) = (JoinSet::new(), 0);
        while !*stop.borrow() {
            ticks.tick().await;
            while let Some(done) = running.try_join_next() {
                done.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()));
            }
            number += 1;
            let load = self.clone();
            match class {
                Class::Order => running.spawn(async move { load.order(number).await }),
                _ => running.spawn(async move { load.read(class, number).await }),
            };
        }
        running.join_all().await;
    }

    async fn burst_lane(self, lasts: Duration) {
        let begin = self.shared.begin + BURST_MARGIN;
        let mut ticks = interval_at(begin, BURST_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut number = 0;
        loop {
            ticks.tick().await;
            if self.now() + 2 * BURST_MARGIN > lasts {
                return;
            }
            lock(&self.shared.bursts).push(self.now());
            let mut running = JoinSet::new();
            for _ in 0..BURST {
                number += 1;
                let load = self.clone();
                running.spawn(async move { load.read(Class::Burst, number).await });
            }
            running.join_all().await;
        }
    }

    async fn read(&self, class: Class, number: u64) {
        let id = Rng::with_seed(self.shared.seed ^ number).u64(1..=KNOWN);
        let path = match class {
            Class::User => format!("/users/{id}"),
            _ => format!("/users/{id}/profile"),
        };
        let is_right = |answer: &Answer| {
            let expected = format!(r#""name":"User {id}""#);
            let has_profile = contains(&answer.body, &format!("of user {id}\""));
            contains(&answer.body, &expected) && (class == Class::User || has_profile)
        };
        self.measured(class, Method::GET, &path, None, String::new(), is_right).await;
    }

    /// Sent until it is answered, always with the same key.
    async fn order(&self, number: u64) {
        let key = format!("{:x}-{number}", self.shared.seed);
        let body = format!(r#"{{"item":"thing {number}","quantity":{}}}"#, 1 + number % 9);
        lock(&self.shared.orders).sent(&key);
        // Longer than any fault lasts.
        for _ in 0..120 {
            let is_right = |answer: &Answer| contains(&answer.body, &format!(r#""item":"thing {number}""#));
            let answer = self
                .measured(Class::Order, Method::POST, "/orders", Some(&key), body.clone(), is_right)
                .await;
            if let Some(status) = answer {
                lock(&self.shared.orders).acknowledged(&key, status == StatusCode::CREATED);
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// Sends one and keeps what it came to. The status, if it was good.
    async fn measured(
        &self,
        class: Class,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: String,
        is_right: impl FnOnce(&Answer) -> bool,
    ) -> Option<StatusCode> {
        let at = self.now();
        let answer = timeout(PATIENCE, self.ask(method, path, key, body)).await;
        let took = self.now() - at;
        let (outcome, status) = match &answer {
            Err(_) => (Outcome::Hung, None),
            Ok(Err(_)) => (Outcome::Failed(0), None),
            Ok(Ok(answer)) if answer.status.is_success() && is_right(answer) => {
                (Outcome::Good, Some(answer.status))
            }
            Ok(Ok(answer)) if class != Class::User && class != Class::Order && is_limit(answer) => {
                (Outcome::Limited, None)
            }
            Ok(Ok(answer)) => (Outcome::Failed(answer.status.as_u16()), None),
        };
        lock(&self.shared.samples).push(Sample { at, took, class, outcome });
        let said = match (outcome, answer) {
            (Outcome::Failed(_), Ok(Ok(answer))) => {
                format!("{}: {} {}", class.name(), answer.status.as_u16(), short(&answer.body))
            }
            (Outcome::Failed(_), Ok(Err(error))) => format!("{}: {error}", class.name()),
            (Outcome::Hung, _) => format!("{}: no answer in {PATIENCE:?}", class.name()),
            _ => return status,
        };
        let mut words = lock(&self.shared.words);
        if words.len() < KEPT_WORDS || words.contains_key(&said) {
            let (times, _, last) = words.entry(said).or_insert((0, at, at));
            *times += 1;
            *last = at;
        }
        status
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: String,
    ) -> Result<Answer, String> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.shared.gateway));
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::from(body)).map_err(|error| error.to_string())?;
        let response = self.shared.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Answer { status, body })
    }
}

/// Whether it is a refusal of the rate limit's or the bulkhead's.
fn is_limit(answer: &Answer) -> bool {
    let says = |words| contains(&answer.body, words);
    match answer.status.as_u16() {
        429 => says("the rate limit is reached"),
        503 => says("too many calls are in flight"),
        _ => false,
    }
}

fn contains(body: &[u8], words: &str) -> bool {
    body.windows(words.len()).any(|part| part == words.as_bytes())
}

/// What is the same for many answers.
fn short(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(160).filter(|it| !it.is_control()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
