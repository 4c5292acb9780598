//! One connection through the proxy.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::control::{State, reset};
use super::{Fault, Target};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;
/// How much may be under way because of [`Fault::Latency`].
const UNDER_WAY: usize = 4 * 1024 * 1024;
/// A limited bandwidth is spent in so many portions a second.
const PORTIONS: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToTarget,
    ToClient,
}

pub(super) struct Link {
    target: Target,
    state: watch::Receiver<State>,
    /// Set once a byte was swallowed, and never taken back.
    dead: AtomicBool,
}

impl Link {
    pub(super) fn new(target: Target, state: watch::Receiver<State>) -> Self {
        Self { target, state, dead: AtomicBool::new(false) }
    }

    pub(super) async fn run(self, mut client: TcpStream) {
        let mut state = self.state.clone();
        let born = state.borrow().cuts;
        let orderly = tokio::select! {
            done = self.join(&mut client) => done.is_ok(),
            _ = state.wait_for(|state| state.cuts != born) => false,
        };
        if !orderly {
            reset(client);
        }
    }

    async fn join(&self, client: &mut TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        match &self.target {
            Target::Tcp(addr) => {
                let mut target = TcpStream::connect(addr).await?;
                target.set_nodelay(true)?;
                let (from_target, to_target) = target.split();
                self.both_ways(from_client, to_target, from_target, to_client).await
            }
            Target::Unix(path) => {
                let mut target = UnixStream::connect(path).await?;
                let (from_target, to_target) = target.split();
                self.both_ways(from_client, to_target, from_target, to_client).await
            }
        }
    }

    async fn both_ways(
        &self,
        from_client: impl AsyncRead + Unpin,
        to_target: impl AsyncWrite + Unpin,
        from_target: impl AsyncRead + Unpin,
        to_client: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let there = self.pump(Direction::ToTarget, from_client, to_target);
        let back = self.pump(Direction::ToClient, from_target, to_client);
        tokio::try_join!(there, back).map(drop)
    }

    async fn pump(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut queue = Queue::default();
        let mut closed = false;
        let mut state = self.state.clone();
        loop {
            if direction == Direction::ToClient && self.fault() == Fault::HalfClose && !closed {
                closed = true;
                to.shutdown().await?;
            }
            tokio::select! {
                biased;
                // Round again: what to read and what to do with it depends on the fault.
                changed = state.changed() => if changed.is_err() { return Ok(()) },
                () = queue.due() => match queue.pop() {
                    Some(bytes) if !closed => to.write_all(&bytes).await?,
                    Some(_) => {}
                    None if closed => return Ok(()),
                    None => return to.shutdown().await,
                },
                read = from.read(&mut buffer[..self.portion()]), if queue.has_room() => {
                    let bytes = &buffer[..read?];
                    if self.swallows() {
                        if bytes.is_empty() {
                            // The end is swallowed as well: only a cut is noticed now.
                            std::future::pending::<()>().await;
                        }
                        continue;
                    }
                    if bytes.is_empty() {
                        queue.end(self.latency(direction));
                    } else if closed {
                        continue;
                    } else if queue.is_empty() && self.latency(direction).is_zero() {
                        to.write_all(bytes).await?;
                    } else {
                        queue.push(bytes, self.latency(direction));
                    }
                    self.spend(bytes.len()).await;
                }
            }
        }
    }

    fn fault(&self) -> Fault {
        self.state.borrow().fault
    }

    fn swallows(&self) -> bool {
        if self.fault() == Fault::BlackHole {
            self.dead.store(true, Ordering::Relaxed);
        }
        self.dead.load(Ordering::Relaxed)
    }

    fn latency(&self, direction: Direction) -> Duration {
        match self.fault() {
            Fault::Latency(latency) if direction == Direction::ToClient => latency,
            _ => Duration::ZERO,
        }
    }

    /// How much to read next.
    fn portion(&self) -> usize {
        match self.fault() {
            Fault::Bandwidth(rate) => (rate / PORTIONS).clamp(1, CHUNK as u64) as usize,
            _ => CHUNK,
        }
    }

    async fn spend(&self, bytes: usize) {
        if let Fault::Bandwidth(rate) = self.fault() {
            sleep(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)).await;
        }
    }
}

/// Bytes under way, and the end of the stream behind them (`None`).
#[derive(Default)]
struct Queue {
    items: VecDeque<(Instant, Option<Vec<u8>>)>,
    bytes: usize,
    ended: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn has_room(&self) -> bool {
        !self.ended && self.bytes < UNDER_WAY
    }

    fn push(&mut self, bytes: &[u8], latency: Duration) {
        self.bytes += bytes.len();
        self.put(Some(bytes.to_vec()), latency);
    }

    fn end(&mut self, latency: Duration) {
        self.ended = true;
        self.put(None, latency);
    }

    fn put(&mut self, item: Option<Vec<u8>>, latency: Duration) {
        // What was sent later never arrives earlier, even when the latency has shrunk.
        let last = self.items.back().map(|(due, _)| *due);
        let due = Instant::now() + latency;
        self.items.push_back((last.map_or(due, |last| last.max(due)), item));
    }

    /// Returns when the first item has arrived; never, when nothing is under way.
    async fn due(&self) {
        match self.items.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    /// The first item: bytes, or the end.
    fn pop(&mut self) -> Option<Vec<u8>> {
        let item = self.items.pop_front().and_then(|(_, item)| item);
        self.bytes -= item.as_ref().map_or(0, Vec::len);
        item
    }
}
