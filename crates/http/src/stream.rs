use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection as Describe};

use crate::{
    connection::{Connection, Exchange},
    place::Place,
};

/// The stream of a connection: it holds the connection's place until it is dropped, counts the exchanges of HTTP/1.1, and
/// ends where the connection is [cut](Connection::cut), and where it was given up and the server takes nothing.
pub(crate) struct Stream<T> {
    io: T,
    connection: Arc<Connection>,
    /// Something was received since something was sent: what is sent next may be another request.
    heard: bool,
    /// Whom orders to the connection wake.
    waker: Option<Waker>,
    _place: Place,
}

impl<T> Stream<T> {
    pub(crate) const fn new(io: T, connection: Arc<Connection>, place: Place) -> Self {
        Self { io, connection, heard: true, waker: None, _place: place }
    }

    fn check(&self) -> io::Result<()> {
        if self.connection.is_cut() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client was closed"));
        }
        Ok(())
    }

    fn wait(&mut self, waker: &Waker) -> io::Result<()> {
        if self.connection.has_woken() || !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
            self.connection.wakes(waker);
            self.check()?;
        }
        Ok(())
    }

    /// The server takes nothing for now. A frozen one may never: its system keeps the connection alive.
    fn blocked<R>(&self, cx: &Context<'_>) -> Poll<io::Result<R>> {
        self.connection.wakes(cx.waker());
        self.check()?;
        if self.connection.is_given_up() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the call was given up",
            )));
        }
        Poll::Pending
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.heard) {
            self.connection.begin();
        }
    }
}

impl<T: Read + Unpin> Read for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_pending() {
            self.wait(cx.waker())?;
        } else {
            self.heard = true;
        }
        polled
    }
}

impl<T: Write + Unpin> Write for Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        self.begin();
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if polled.is_pending() { self.blocked(cx) } else { polled }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        self.begin();
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if polled.is_pending() { self.blocked(cx) } else { polled }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// It is called whenever the connection is polled, also where nobody reads the answer, so that hyper does not read
    /// from here either.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        if polled.is_pending() { self.blocked(cx) } else { polled }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        if polled.is_pending() { self.blocked(cx) } else { polled }
    }
}

impl<T: Describe> Describe for Stream<T> {
    /// Without the addresses that hyper would put into every answer.
    fn connected(&self) -> Connected {
        let below = self.io.connected();
        let connected =
            Connected::new().proxy(below.is_proxied()).extra(Exchange::of(Arc::clone(&self.connection)));
        if below.is_negotiated_h2() { connected.negotiated_h2() } else { connected }
    }
}
