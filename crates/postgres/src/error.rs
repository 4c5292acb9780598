use std::{error, fmt, sync::Arc, time::Duration};

use buttress_core::{Origin, Rejectable, Rejected};
use tokio_postgres::{
    error::{DbError, Severity, SqlState},
    types::{WasNull, WrongType},
};

use crate::{QueryError, query::Unfit, said::Said};

/// What can go wrong. Neither `Display` nor `Debug` shows a parameter's value, a password, or the server's `DETAIL`,
/// which may hold a row's data; nor the server's message where it may quote a value, but the SQLSTATE's name instead
/// ([`database`](Self::database) gives all).
///
/// A clone shares the driver's error: all callers of a batch or of a load that failed can have it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// A layer, or the pool's queue, or the deadline refused the call or gave it up.
    Rejected(Rejected),
    /// The query itself is wrong. Nothing was carried out, but for [`QueryError::NotAsked`].
    Query {
        /// Which instance.
        instance: Origin,
        /// What is wrong.
        cause: QueryError,
    },
    /// No connection could be made, so nothing was sent.
    Connect {
        /// Which instance.
        instance: Origin,
        /// Why.
        cause: ConnectError,
    },
    /// The server refused the statement or failed at it.
    Database {
        /// Which instance.
        instance: Origin,
        /// The driver's error. Printing it shows the message and `DETAIL`, values and all.
        cause: Arc<tokio_postgres::Error>,
        /// Whether the server had begun to run the statement; it was undone then, unless the server itself went down.
        sent: bool,
    },
    /// The connection broke.
    Lost {
        /// Which instance.
        instance: Origin,
        /// The driver's error.
        cause: Arc<tokio_postgres::Error>,
        /// Whether the statement may have been carried out.
        sent: bool,
    },
    /// The connection broke, or the deadline passed, between `COMMIT` and its answer: the transaction is either
    /// committed as a whole or not at all, and only the data can tell.
    CommitUncertain {
        /// Which instance.
        instance: Origin,
        /// The driver's error; none if it was the deadline.
        cause: Option<Arc<tokio_postgres::Error>>,
    },
    /// A statement of the transaction failed or was given up, and the closure returned `Ok` all the same. Postgres
    /// cannot commit then; everything was rolled back. Of a transaction inside of another, that one alone.
    RolledBack {
        /// Which instance.
        instance: Origin,
    },
    /// A batch was written, but its table changed keys or left out rows (by a trigger, say), so that it cannot be told which
    /// of them this is.
    Untold {
        /// Which instance.
        instance: Origin,
    },
    /// A column is not there or has another type.
    Decode {
        /// Which instance.
        instance: Origin,
        /// The column that was asked for.
        column: Box<str>,
        /// The driver's error.
        cause: Arc<tokio_postgres::Error>,
    },
    /// There is no row where one was expected.
    NotFound {
        /// Which instance.
        instance: Origin,
    },
    /// There are several rows where at most one was expected.
    TooMany {
        /// Which instance.
        instance: Origin,
        /// How many.
        rows: usize,
    },
}

/// Why no connection could be made.
#[derive(Clone)]
#[non_exhaustive]
pub enum ConnectError {
    /// It took longer than this: the create timeout, or what a deadline left when connecting began.
    TimedOut(Duration),
    /// The driver's error: the network, the server's refusal, authentication.
    Driver(Arc<tokio_postgres::Error>),
}

impl Error {
    /// Whether the statement may have been carried out. Where it is `false`, repeating it cannot do anything twice. It is `true`
    /// also where the server had begun, and undid it: a constraint's violation, say.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Rejected(rejected) => rejected.sent(),
            Self::Database { sent, .. } | Self::Lost { sent, .. } => *sent,
            Self::Query { cause: QueryError::NotAsked(_), .. } => true,
            Self::Query { .. } | Self::Connect { .. } | Self::RolledBack { .. } => false,
            Self::CommitUncertain { .. }
            | Self::Untold { .. }
            | Self::Decode { .. }
            | Self::NotFound { .. }
            | Self::TooMany { .. } => true,
        }
    }

    /// What the server said, with `DETAIL`, the constraint's name and so on.
    #[must_use]
    pub fn database(&self) -> Option<&DbError> {
        match self {
            Self::Database { cause, .. }
            | Self::Lost { cause, .. }
            | Self::Connect { cause: ConnectError::Driver(cause), .. }
            | Self::CommitUncertain { cause: Some(cause), .. } => cause.as_db_error(),
            _ => None,
        }
    }

    /// The server's SQLSTATE, if it said one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        self.database().map(DbError::code)
    }

    /// Whether the connection is of no more use.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            // Before it is sent, only the driver's own look-ups of types can miss what they prepared.
            Self::Database { sent, .. } => self.database().is_none_or(|said| {
                is_fatal(said) || (!sent && *said.code() == SqlState::INVALID_SQL_STATEMENT_NAME)
            }),
            Self::Query { .. } => false,
            _ => true,
        }
    }

    /// From an error that the driver gave for a statement.
    pub(crate) fn of_statement(instance: Origin, cause: tokio_postgres::Error, sent: bool) -> Self {
        let unfit = error::Error::source(&cause).and_then(|source| source.downcast_ref::<Unfit>());
        if let Some(Unfit { name, reason }) = unfit.cloned() {
            return Self::Query { instance, cause: QueryError::Unfit { name, reason } };
        }
        let cause = Arc::new(cause);
        if cause.as_db_error().is_some() {
            Self::Database { instance, cause, sent }
        } else {
            Self::Lost { instance, cause, sent }
        }
    }
}

/// The server ends a connection with such an error.
pub(crate) fn is_fatal(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = |sent: bool| {
            if sent { "the statement may have been carried out" } else { "the statement was not sent" }
        };
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Query { instance, cause: cause @ QueryError::NotAsked(_) } => {
                write!(f, "{instance:?}: {cause}; the query was carried out")
            }
            Self::Query { instance, cause } => write!(f, "{instance:?}: {cause}; nothing was carried out"),
            Self::Connect { instance, cause } => {
                write!(f, "{instance:?}: no connection: {cause}; nothing was sent")
            }
            Self::Database { instance, cause, sent } => {
                write!(f, "{instance:?}: {}", Said { cause, had_values: *sent })
            }
            Self::Lost { instance, cause, sent } => {
                let said = Said { cause, had_values: *sent };
                write!(f, "{instance:?}: the connection broke: {said}; {}", outcome(*sent))
            }
            Self::CommitUncertain { instance, cause } => {
                write!(f, "{instance:?}: no answer to COMMIT came")?;
                if let Some(cause) = cause {
                    write!(f, ": {}", Said { cause, had_values: true })?;
                }
                f.write_str(
                    "; the transaction is committed as a whole or not at all: look before repeating it",
                )
            }
            Self::RolledBack { instance } => write!(
                f,
                "{instance:?}: a statement of the transaction had failed, so it was rolled back although its closure \
                 returned Ok"
            ),
            Self::Untold { instance } => write!(
                f,
                "{instance:?}: the batch was written, but its table changed keys or left out rows, so that it cannot be \
                 told whether this row was"
            ),
            Self::Decode { instance, column, cause } => {
                write!(f, "{instance:?}: column `{column}`: ")?;
                // Other reasons are those of foreign types, which may quote the value.
                match error::Error::source(cause) {
                    Some(source) if source.is::<WrongType>() || source.is::<WasNull>() => {
                        write!(f, "{source}")
                    }
                    Some(_) => f.write_str("its value cannot be read as the type that was asked for"),
                    None => f.write_str("there is no such column"),
                }
            }
            Self::NotFound { instance } => write!(f, "{instance:?}: no row where one was expected"),
            Self::TooMany { instance, rows } => {
                write!(f, "{instance:?}: {rows} rows where at most one was expected")
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A derived one would print the server's DETAIL.
        let variant = match self {
            Self::Rejected(_) => "Rejected",
            Self::Query { .. } => "Query",
            Self::Connect { .. } => "Connect",
            Self::Database { .. } => "Database",
            Self::Lost { .. } => "Lost",
            Self::CommitUncertain { .. } => "CommitUncertain",
            Self::RolledBack { .. } => "RolledBack",
            Self::Untold { .. } => "Untold",
            Self::Decode { .. } => "Decode",
            Self::NotFound { .. } => "NotFound",
            Self::TooMany { .. } => "TooMany",
        };
        write!(f, "{variant}({self})")
    }
}

/// There is no source where `Display` says all: whoever prints the whole chain would print the server's `DETAIL`.
impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Query { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "none was made within {limit:?}"),
            Self::Driver(cause) => Said { cause, had_values: false }.fmt(f),
        }
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectError({self})")
    }
}

impl error::Error for ConnectError {}

#[cfg(test)]
mod tests {
    use buttress_core::Reason;

    use super::*;

    #[test]
    fn is_small() {
        assert!(size_of::<Error>() <= 56, "{}", size_of::<Error>());
    }

    #[test]
    fn says_who_and_what() {
        let instance = Origin::new("postgres", "says_who_and_what");
        let error = Error::Query { instance, cause: QueryError::Missing("id".into()) };
        assert_eq!(
            error.to_string(),
            "postgres `says_who_and_what`: `:id` is in the text but was given no value: bind it; nothing was carried out"
        );
        let error = Error::from(instance.reject(Reason::Overloaded));
        assert!(error.rejected().is_some() && !error.sent());
        assert!(format!("{error:?}").starts_with("Rejected(postgres `says_who_and_what`: "));
        let error = Error::Connect { instance, cause: ConnectError::TimedOut(Duration::from_secs(5)) };
        assert_eq!(
            error.to_string(),
            "postgres `says_who_and_what`: no connection: none was made within 5s; nothing was sent"
        );
    }
}
