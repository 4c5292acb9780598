//! The upstream of the profiles: an HTTP server that counts how it is treated.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::configuration::{ATTEMPT_MS, BULKHEAD_WAIT_MS, RATE_PERIOD_MS};

/// A request that has been here for longer may have been given up by the gateway, whose word of that is still on its way. The
/// time limit of an attempt begins before it waits for the bulkhead.
const YOUNG: Duration = Duration::from_millis(ATTEMPT_MS - BULKHEAD_WAIT_MS - 50);
/// A little less than the rate limit's period: two requests that left the gateway further apart may arrive a little closer
/// together.
pub(crate) const WINDOW: Duration = Duration::from_millis(RATE_PERIOD_MS - RATE_PERIOD_MS / 10);

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// So much later.
    Slow(Duration),
    /// With 503.
    Failing,
    /// Never.
    Frozen,
}

/// What it counted. The gateway's rate limit stands before its retries, so both are counted apart: while the upstream is well,
/// nothing is repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    /// The most at once while it was well, of those that cannot have been given up.
    pub(crate) most_at_once: usize,
    /// The most at once in its faults: who repeats what was cut off cannot know that it is still here.
    pub(crate) most_at_once_in_faults: usize,
    /// The most in any [`WINDOW`] in which it was well all the time.
    pub(crate) most_in_window: usize,
    /// The most in any other.
    pub(crate) most_in_window_in_faults: usize,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    /// Whether something is, or has just been, wrong on the way.
    troubled: bool,
    here: HashMap<u64, Instant>,
    arrivals: VecDeque<Instant>,
    counted: Counted,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepts: AbortHandle,
}

impl Upstream {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Well,
            troubled: false,
            here: HashMap::new(),
            arrivals: VecDeque::new(),
            counted: Counted::default(),
        }));
        let accepts = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { address, state, accepts })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mood: Mood) {
        lock(&self.state).mood = mood;
    }

    /// Says that something is wrong on the way, or that all is well again.
    pub(crate) fn set_troubled(&self, troubled: bool) {
        let mut state = lock(&self.state);
        state.troubled = troubled;
        state.arrivals.clear();
    }

    pub(crate) fn counted(&self) -> Counted {
        lock(&self.state).counted
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, most likely: they come back.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(request, Arc::clone(&state)));
            // That a client leaves in the middle is what this is all about.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// Counts a request for as long as it is here. A connection that ends drops it.
struct Here {
    state: Arc<Mutex<State>>,
    number: u64,
}

impl Here {
    fn arrive(state: Arc<Mutex<State>>) -> (Self, Mood) {
        let mut it = lock(&state);
        let now = Instant::now();
        let number = it.counted.requests;
        it.counted.requests += 1;
        it.here.insert(number, now);
        let at_once = it.here.values().filter(|&&arrived| now - arrived < YOUNG).count();
        it.arrivals.push_back(now);
        while it.arrivals.front().is_some_and(|&first| now - first >= WINDOW) {
            it.arrivals.pop_front();
        }
        let (in_window, troubled) = (it.arrivals.len(), it.troubled);
        let counted = &mut it.counted;
        let (most_at_once, most_in_window) = if troubled {
            (&mut counted.most_at_once_in_faults, &mut counted.most_in_window_in_faults)
        } else {
            (&mut counted.most_at_once, &mut counted.most_in_window)
        };
        *most_at_once = at_once.max(*most_at_once);
        *most_in_window = in_window.max(*most_in_window);
        let mood = it.mood;
        drop(it);
        (Self { state, number }, mood)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        lock(&self.state).here.remove(&self.number);
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (here, mood) = Here::arrive(state);
    // As a real one does. It differs from request to request, so that they overlap.
    sleep(Duration::from_millis(4 + here.number % 7)).await;
    match mood {
        Mood::Well | Mood::Failing => {}
        Mood::Slow(delay) => sleep(delay).await,
        Mood::Frozen => std::future::pending().await,
    }
    let id = request.uri().path().rsplit('/').next().unwrap_or_default();
    let mut response = Response::new(Full::from(format!(r#"{{"bio":"of user {id}"}}"#)));
    if mood == Mood::Failing {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    drop(here);
    Ok(response)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_counts_who_is_here_at_once_and_in_a_window() {
        let upstream = Upstream::start().await.unwrap();
        let arrive = || Here::arrive(Arc::clone(&upstream.state)).0;
        let first = [arrive(), arrive(), arrive()];
        assert_eq!(upstream.counted().most_at_once, 3);
        drop(first);
        tokio::time::advance(WINDOW / 2).await;
        let _second = [arrive(), arrive()];
        assert_eq!((upstream.counted().most_at_once, upstream.counted().most_in_window), (3, 5));
        tokio::time::advance(WINDOW / 2).await;
        upstream.set_troubled(true);
        // The second ones may have been given up, and do not count any more.
        let _third = [arrive(), arrive(), arrive(), arrive(), arrive(), arrive()];
        let expected = Counted {
            requests: 11,
            most_at_once: 3,
            most_at_once_in_faults: 6,
            most_in_window: 5,
            most_in_window_in_faults: 6,
        };
        assert_eq!(upstream.counted(), expected);
    }
}
