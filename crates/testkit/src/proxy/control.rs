//! Accepts connections and carries out orders.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc as orders, watch};
use tokio::task::JoinSet;

use super::link::Link;
use super::{Fault, Target};
use crate::ports;

#[derive(Debug)]
pub(super) enum Order {
    Set(Fault),
    Cut,
}

/// What every connection watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) fault: Fault,
    /// Counts the cuts: a connection ends when it moves on from what it was at the start.
    pub(super) cuts: u64,
}

pub(super) struct Control {
    addr: SocketAddr,
    target: Target,
    listener: Option<TcpListener>,
    accepted: Arc<AtomicUsize>,
    state: watch::Sender<State>,
    links: JoinSet<()>,
}

impl Control {
    pub(super) fn new(addr: SocketAddr, target: Target, accepted: Arc<AtomicUsize>) -> io::Result<Self> {
        let listener = Some(ports::listen(addr)?);
        let state = watch::Sender::new(State { fault: Fault::Pass, cuts: 0 });
        Ok(Self { addr, target, listener, accepted, state, links: JoinSet::new() })
    }

    pub(super) async fn run(mut self, mut inbox: orders::UnboundedReceiver<(Order, mpsc::Sender<()>)>) {
        loop {
            tokio::select! {
                order = inbox.recv() => {
                    let Some((order, done)) = order else { return };
                    match order {
                        Order::Set(fault) => self.set(fault).await,
                        Order::Cut => self.cut().await,
                    }
                    // Whoever gave the order may have died with its test.
                    let _ = done.send(());
                }
                stream = accept(self.listener.as_ref()) => self.admit(stream),
                Some(_) = self.links.join_next() => {}
            }
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if self.state.borrow().fault == Fault::Reset {
            reset(stream);
            return;
        }
        let link = Link::new(self.target.clone(), self.state.subscribe());
        self.links.spawn(link.run(stream));
    }

    async fn set(&mut self, fault: Fault) {
        self.state.send_modify(|state| state.fault = fault);
        if fault == Fault::Refuse {
            self.listener = None;
        } else if self.listener.is_none() {
            self.listener = Some(ports::listen(self.addr).expect("the port is reserved"));
        }
        if fault == Fault::Reset {
            self.cut().await;
        }
    }

    async fn cut(&mut self) {
        // Connections that the kernel has accepted and we have not yet. The reactor gets a turn first,
        // because it is the one who tells of them.
        tokio::task::yield_now().await;
        if let Some(listener) = &self.listener {
            while let Poll::Ready(Ok((stream, _))) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
            {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                reset(stream);
            }
        }
        self.state.send_modify(|state| state.cuts += 1);
        while self.links.join_next().await.is_some() {}
    }
}

/// The next connection; never, while nobody listens.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => loop {
            // An error concerns the one connection that went away before it was taken.
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
        },
        None => std::future::pending().await,
    }
}

/// Closes with RST instead of FIN.
pub(super) fn reset(stream: TcpStream) {
    // It fails only for a connection that is gone already.
    let _ = stream.set_zero_linger();
}
