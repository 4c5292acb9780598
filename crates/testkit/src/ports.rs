//! TCP ports that stay one's own while nothing listens on them.
//!
//! A server that is killed and restarted, or a proxy that refuses for a while, needs its port back. A port
//! of the ephemeral range could go to any outgoing connection meanwhile (and a connect to one's own closed
//! ephemeral port may even reach itself), so ports are taken below that range, and a lock file keeps other
//! test processes away until this one lets go or dies.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

use crate::workspace;

/// Linux hands out ephemeral ports from 32768 upwards.
const RANGE: Range<u16> = 20_000..32_000;

/// A reserved port of the loopback interface; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: Flock<File>,
}

impl Port {
    /// Reserves a port that nobody uses.
    pub(crate) fn reserve() -> io::Result<Self> {
        // Processes start at different places, so that they seldom meet.
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let width = u32::from(RANGE.end - RANGE.start);
        let start = std::process::id().wrapping_mul(97);
        let dir = workspace::base()?.join("ports");
        fs::create_dir_all(&dir)?;
        for _ in 0..width {
            let offset = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % width;
            let number = RANGE.start + offset as u16;
            let file = File::create(dir.join(number.to_string()))?;
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "every port of the test range is taken"))
    }

    /// Reserves one for what listens on it.
    ///
    /// A child that was forked while the port was tried out may still hold that socket, until it runs its own program: then
    /// the next port does.
    pub(crate) fn reserve_for<T>(listen: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<(Self, T)> {
        for _ in 0..20 {
            let port = Self::reserve()?;
            match listen(port.addr()) {
                Ok(listening) => return Ok((port, listening)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "twenty reserved ports were taken in the meantime"))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Within a runtime.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    // Connections of before may still linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_never_given_twice() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let held = Port::reserve().unwrap();
        let _listener = TcpListener::bind(held.addr()).unwrap();
        let lock_file = workspace::base().unwrap().join("ports").join(held.number().to_string());
        let again = File::create(lock_file).unwrap();
        assert!(Flock::lock(again, FlockArg::LockExclusiveNonblock).is_err());
    }
}
