//! How a command is handed to the driver.
//!
//! The driver gathers commands that wait one behind another, and writes them to its socket together. Custom commands it does
//! not gather: it flushes after each, which is a system call for each, here and on the server. Measured with 64 callers, a
//! command took more than twice as long so. Hence the commonest go by the driver's own functions, which send the same bytes.
//!
//! Not in a cluster: where the last command that waits is not written, for example since it has timed out, the driver flushes
//! the connection to that one's node alone. What it has gathered for other nodes would wait for somebody's next command.

use std::sync::Arc;

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::{Error as DriverError, ErrorKind},
    interfaces::{ClientLike, HashesInterface, KeysInterface},
    types::{ClusterHash, CustomCommand, Expiration, Key, Resp3Frame, Value},
};

use crate::{
    error::{Error, ServerError, has_code},
    ticket::Ticket,
};

/// A function of the driver's that sends just this command with just these arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Get,
    MGet,
    Set,
    /// In milliseconds.
    SetFor(i64),
    Del,
    Incr,
    HGet,
}

impl Own {
    fn of(name: &str, args: &[Value]) -> Option<Self> {
        if !args.iter().all(|arg| matches!(arg, Value::Bytes(_))) {
            return None;
        }
        match (name, args) {
            ("GET", [_]) => Some(Self::Get),
            ("MGET", [_, ..]) => Some(Self::MGet),
            ("SET", [_, _]) => Some(Self::Set),
            ("SET", [_, _, Value::Bytes(px), Value::Bytes(ttl)]) if px == "PX" => {
                let ttl = str::from_utf8(ttl).ok()?;
                let millis: i64 = ttl.parse().ok()?;
                (millis.to_string() == ttl).then_some(Self::SetFor(millis))
            }
            ("DEL", [_, ..]) => Some(Self::Del),
            ("INCR", [_]) => Some(Self::Incr),
            ("HGET", [_, _]) => Some(Self::HGet),
            _ => None,
        }
    }
}

/// Sends a command, and says what the server answered; or, as the outer error, what kept the driver from an answer. As long as
/// the driver holds the command, it holds the ticket.
pub(crate) async fn send(
    client: &WithOptions<Client>,
    clustered: bool,
    ticket: Arc<Ticket>,
    key: ClusterHash,
    args: Vec<Value>,
) -> Result<Result<Value, Error>, DriverError> {
    let Some(own) = Own::of(ticket.name(), &args).filter(|_| !clustered) else {
        let command = CustomCommand::new(ticket.into_name(), key, false);
        return client.custom_raw(command, args).await.map(answer);
    };
    let mut ticket = Some(ticket);
    let mut args = args.into_iter().filter_map(|arg| {
        let Value::Bytes(arg) = arg else { return None };
        // The first one holds the ticket.
        Some(Key::from(match ticket.take() {
            Some(ticket) => ticket.into_key(arg),
            None => arg,
        }))
    });
    let mut arg = || args.next().unwrap_or_else(|| Key::from(Bytes::new()));
    let sent = match own {
        Own::Get => client.get(arg()).await,
        Own::Incr => client.incr(arg()).await,
        Own::HGet => client.hget(arg(), arg()).await,
        Own::Set => client.set(arg(), Value::from(arg()), None, None, false).await,
        Own::SetFor(millis) => {
            client.set(arg(), Value::from(arg()), Some(Expiration::PX(millis)), None, false).await
        }
        Own::MGet => client.mget(args.collect::<Vec<_>>()).await,
        Own::Del => client.del(args.collect::<Vec<_>>()).await,
    };
    match sent {
        // The driver makes its own error of one that the server answered with.
        Err(error) if !is_the_drivers(&error) => Ok(Err(Error::Server(ServerError::new(error.details())))),
        sent => sent.map(Ok),
    }
}

/// An error of a server begins with a code, but for those of some proxies, such as `upstream failure`. The driver's own are
/// sentences, but for that of a command that it dropped.
fn is_the_drivers(error: &DriverError) -> bool {
    let text = error.details();
    let is_codeless = text.starts_with(|first: char| first.is_ascii_lowercase()) && text != "channel closed";
    let is_codeless = is_codeless && *error.kind() == ErrorKind::Unknown;
    let of_its_kind = matches!(
        error.kind(),
        ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Routing
            | ErrorKind::Protocol
            | ErrorKind::Url
            | ErrorKind::Sentinel
            | ErrorKind::Parse
            | ErrorKind::NotFound
    );
    of_its_kind || !(has_code(text) || is_codeless)
}

fn answer(frame: Resp3Frame) -> Result<Value, Error> {
    match frame {
        Resp3Frame::SimpleError { data, .. } => Err(Error::Server(ServerError::new(&data))),
        Resp3Frame::BlobError { data, .. } => {
            Err(Error::Server(ServerError::new(&String::from_utf8_lossy(&data))))
        }
        frame => Ok(Value::try_from(frame)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(line: &str) -> Option<Own> {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let args: Vec<_> = words.map(|arg| Value::Bytes(Bytes::copy_from_slice(arg.as_bytes()))).collect();
        Own::of(name, &args)
    }

    #[test]
    fn only_what_the_driver_sends_alike_goes_by_its_own_functions() {
        assert_eq!(own("GET k"), Some(Own::Get));
        assert_eq!(own("SET k v PX 1500"), Some(Own::SetFor(1_500)));
        assert_eq!(own("MGET a b c"), Some(Own::MGet));
        for other in [
            "GET",
            "GET a b",
            "SET k",
            "SET k v NX",
            "SET k v PX 01",
            "SET k v px 1",
            "SET k v EX 1",
            "DEL",
            "INCR",
            "LPUSH a b",
        ] {
            assert_eq!(own(other), None, "{other}");
        }
    }

    #[test]
    fn the_drivers_own_errors_are_told_from_those_of_a_server() {
        let drivers = |kind, text: &'static str| is_the_drivers(&DriverError::new(kind, text));
        for (kind, text) in [
            (ErrorKind::Unknown, "ERR value is not an integer or out of range"),
            (ErrorKind::InvalidArgument, "WRONGTYPE Operation against a key holding the wrong kind of value"),
            (ErrorKind::Unknown, "no upstream host"),
        ] {
            assert!(!drivers(kind, text), "{text}");
        }
        for (kind, text) in [
            (ErrorKind::Unknown, "channel closed"),
            (ErrorKind::Unknown, "Client is not initialized."),
            (ErrorKind::Unknown, "Failed to send command to router."),
            (ErrorKind::Cluster, "Failed connecting to any cluster node."),
            (ErrorKind::IO, "Os { code: 104, kind: ConnectionReset }"),
            (ErrorKind::Canceled, "Canceled."),
        ] {
            assert!(drivers(kind, text), "{text}");
        }
    }
}
