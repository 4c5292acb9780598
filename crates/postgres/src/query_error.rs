use std::{error::Error, fmt};

/// What is wrong with a [`Query`](crate::Query) itself. Nothing of it was carried out, but for [`NotAsked`](Self::NotAsked).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryError {
    /// This name is in the text but has no value.
    Missing(Box<str>),
    /// This name has a value but is not in the text.
    Unknown(Box<str>),
    /// This name was given a value twice.
    Twice(Box<str>),
    /// The text has a positional parameter, such as `$1`.
    Positional(Box<str>),
    /// The value does not fit the type that the server wants.
    Unfit {
        /// The parameter's name.
        name: Box<str>,
        /// Why, without the value.
        reason: Box<str>,
    },
    /// Something is opened in the text but never closed.
    Unterminated(&'static str),
    /// The text has this many names, and a statement can have 65,535 parameters.
    TooManyNames(usize),
    /// The text has a NUL character, which the protocol cannot carry.
    Nul,
    /// The server finds another number of parameters in the text than there are names.
    Mismatch {
        /// How many the server finds.
        server: usize,
        /// How many names there are.
        names: usize,
    },
    /// The statement would begin or end a transaction on a pooled connection.
    TransactionControl(&'static str),
    /// The statement would change the session for the next borrower of the connection.
    SessionState(&'static str),
    /// `COPY` has a protocol of its own.
    Copy,
    /// The values are too many bytes for one statement.
    TooLarge {
        /// How many.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
    /// This column is an array or of a composite type, so that several rows cannot be sent as arrays of its values.
    ArrayColumn(Box<str>),
    /// A row has a key that was not asked for. The query was carried out.
    NotAsked(Box<str>),
    /// A transaction inside of this one is open, or was dropped unfinished: the statement would be carried out there.
    InnerTransaction,
    /// A transaction cannot begin inside of this one while one of its statements is unfinished.
    StatementRunning,
    /// A [`RowStream`](crate::RowStream) of a transaction was not read to its end, or it began while another statement ran:
    /// one of the two would wait for the other.
    NotAlone,
    /// It cannot be explained, for this reason.
    NotExplained(&'static str),
    /// There can be no channel of this name: it has 1 to 63 bytes, none of them NUL.
    Channel {
        /// The name, or its beginning.
        name: Box<str>,
        /// How many bytes it has.
        bytes: usize,
    },
    /// It is marked both as cached and as one that writes.
    #[cfg(feature = "cache")]
    CachedAndWrites,
    /// It is marked as cached, but its text may write or lock: answered from the cache, it would do neither.
    #[cfg(feature = "cache")]
    CachedWriter,
    /// There is no such table to listen to.
    #[cfg(feature = "cache")]
    NoTable(Box<str>),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "`:{name}` is in the text but was given no value: bind it"),
            Self::Unknown(name) => {
                write!(f, "a value was bound to `{name}`, but the text has no parameter `:{name}`")
            }
            Self::Twice(name) => write!(f, "`:{name}` was bound twice"),
            Self::Positional(position) => write!(f, "`{position}` is positional: write `:name` instead"),
            Self::Unfit { name, reason } => write!(f, "`:{name}`: {reason}"),
            Self::Unterminated(what) => write!(f, "the text opens a {what} that it never closes"),
            Self::TooManyNames(names) => {
                write!(f, "the text has {names} names, and a statement can have 65,535: bind arrays instead")
            }
            Self::Nul => f.write_str("the text has a NUL character"),
            Self::Mismatch { server, names } => write!(
                f,
                "the server finds {server} parameters where the text has {names} names: is \
                 `standard_conforming_strings` off?"
            ),
            Self::TransactionControl(keyword) => {
                write!(f, "{keyword} would leave its mark on a shared connection: use `transaction()`")
            }
            Self::SessionState(keyword) => write!(
                f,
                "{keyword} would change the session for others: LISTEN is what a `Listener` does; for others use what ends with a `transaction()`, such as SET \
                 LOCAL or a cursor without HOLD, or the URL's `options`"
            ),
            Self::Channel { name, bytes } => write!(
                f,
                "there can be no channel `{name}` of {bytes} bytes: a name has 1 to 63 bytes, none of them NUL"
            ),
            Self::Copy => f.write_str("COPY cannot be run as a query: use the driver for it"),
            Self::TooLarge { bytes, most } => {
                write!(f, "the values are {bytes} bytes, and one statement may have {most}")
            }
            Self::ArrayColumn(column) => write!(
                f,
                "the column `{column}` is an array or composite: such rows are sent by COPY alone, which settles no conflict and \
                 brings nothing back; send them by `pipelined` instead"
            ),
            Self::NotAsked(column) => {
                write!(f, "a row came back whose `{column}` is none of the keys that were asked for")
            }
            Self::InnerTransaction => f.write_str(
                "a transaction inside of this one is open, or was dropped unfinished: use the inner `tx`, one at a time",
            ),
            Self::StatementRunning => f.write_str(
                "a statement of this transaction is unfinished: await it before a transaction begins inside",
            ),
            Self::NotAlone => f.write_str(
                "a stream of rows has its transaction to itself: nothing else runs until it was read to its end",
            ),
            Self::NotExplained(reason) => write!(f, "it cannot be explained: {reason}"),
            #[cfg(feature = "cache")]
            Self::CachedAndWrites => f.write_str("the query is marked by `cached` and by `writes`: it is one of them"),
            #[cfg(feature = "cache")]
            Self::CachedWriter => f.write_str(
                "the query is marked by `cached`, but its text may write or lock (a column by such a name, as `update`, is \
                 written in quotes)",
            ),
            #[cfg(feature = "cache")]
            Self::NoTable(name) => {
                write!(
                    f,
                    "there is no table `{name}` to listen to: a name is written as the catalogue has it, without quotes, and \
                     of a view its tables are named"
                )
            }
        }
    }
}

impl Error for QueryError {}
