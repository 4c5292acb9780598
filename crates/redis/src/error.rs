use std::{error::Error as StdError, fmt};

use buttress_core::{Rejectable, Rejected};
use fred::error::{Error as DriverError, ErrorKind};

/// Why a command has no answer, or one that says no.
///
/// It never shows the arguments of a command, neither by `Display` nor by `Debug`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// A layer, or this client (command timeout, deadline, full queue, closed), refused or gave up the command.
    Rejected(Rejected),
    /// The connection was lost, or could not be made. The command may have been carried out.
    Connection(&'static str),
    /// The server's answer is an error.
    Server(ServerError),
    /// The server's answer is not of the type that was asked for.
    Decode(&'static str),
    /// This command must not run on a connection that all callers share: it changes the connection, or waits on it.
    Unshareable(&'static str),
    /// The command's name is empty, or is not one word of printable ASCII. It was not sent.
    InvalidName,
}

/// An error that the server answered with.
///
/// Neither `Display` nor `Debug` shows more than its code: the text may quote the command's arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError {
    text: Box<str>,
}

impl ServerError {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// Its first word, such as `WRONGTYPE`, `OOM`, `LOADING`; `ERR` where it has none.
    #[must_use]
    pub fn code(&self) -> &str {
        code(&self.text).unwrap_or("ERR")
    }

    /// The whole text, which may quote arguments.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The word in capitals that every error of a server begins with.
fn code(text: &str) -> Option<&str> {
    let word = text.split_ascii_whitespace().next()?;
    let capitals =
        word.len() > 1 && word.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
    (capitals && word.len() <= 32).then_some(word)
}

/// Whether it is the text of an error that a server answered with.
pub(crate) fn has_code(text: &str) -> bool {
    code(text).is_some()
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError").field("code", &self.code()).finish_non_exhaustive()
    }
}

impl Error {
    /// Whether the command may have reached the server. Where it is `false`, sending it again cannot do anything twice.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Rejected(rejected) => rejected.sent(),
            Self::Unshareable(_) | Self::InvalidName => false,
            Self::Connection(_) | Self::Server(_) | Self::Decode(_) => true,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Connection(what) => write!(f, "redis: {what}; the command may have been carried out"),
            Self::Server(error) => write!(f, "redis: the server answered {}", error.code()),
            Self::Decode(what) => write!(f, "redis: {what}; convert the answer to another type"),
            Self::Unshareable(command) => write!(
                f,
                "redis: {command} would change or hold up the connection that all callers share; use a client of \
                 your own for it"
            ),
            Self::InvalidName => f.write_str(
                "redis: a command's name is one word of printable ASCII; a subcommand is its first argument",
            ),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Error {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }

    fn sent(&self) -> bool {
        self.sent()
    }
}

/// Of [`Value::convert`](fred::types::Value::convert), and of whoever uses the driver by itself. The driver's text is
/// dropped, since it may quote values.
impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        match error.kind() {
            ErrorKind::Parse | ErrorKind::InvalidArgument if code(error.details()).is_none() => {
                Self::Decode("the answer is not of the type asked for")
            }
            ErrorKind::NotFound => Self::Decode("the answer is nil, which the type asked for cannot be"),
            ErrorKind::IO => Self::Connection("the connection was lost"),
            ErrorKind::Timeout => Self::Connection("no answer came in time"),
            ErrorKind::Canceled => Self::Connection("the client was closed"),
            ErrorKind::Config | ErrorKind::Url => Self::Connection("the client's configuration is wrong"),
            _ if code(error.details()).is_some() => Self::Server(ServerError::new(error.details())),
            ErrorKind::Auth => Self::Connection("the server does not accept the credentials"),
            ErrorKind::Routing | ErrorKind::Cluster => Self::Connection("no node of the cluster takes it"),
            ErrorKind::Sentinel => Self::Connection("no sentinel names a server"),
            ErrorKind::Protocol => Self::Connection("what the server sent is not its protocol"),
            ErrorKind::Backpressure => Self::Connection("too many commands are waiting"),
            _ => Self::Connection("there is no connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_is_shown_to_those_who_ask_for_it_only() {
        let error = ServerError::new("ERR unknown command 'FOO', with args beginning with: 'hunter2'");
        assert_eq!(error.code(), "ERR");
        assert!(error.text().contains("hunter2"));
        let error = Error::Server(error);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        for odd in ["", "hunter2 is wrong", "Hunter2"] {
            assert_eq!(ServerError::new(odd).code(), "ERR");
        }
    }

    #[test]
    fn the_drivers_text_is_never_shown() {
        for kind in
            [ErrorKind::Parse, ErrorKind::IO, ErrorKind::Unknown, ErrorKind::Protocol, ErrorKind::Auth]
        {
            let error = Error::from(DriverError::new(kind, "hunter2"));
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let error =
            Error::from(DriverError::new(ErrorKind::InvalidArgument, "WRONGTYPE Operation against a key"));
        assert!(matches!(error, Error::Server(error) if error.code() == "WRONGTYPE"));
    }
}
