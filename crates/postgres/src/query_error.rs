use std::{error::Error, fmt};

/// What is wrong with a [`Query`](crate::Query) itself. Nothing of it was carried out.
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
                "{keyword} would change the session for others: use what ends with a `transaction()`, such as SET \
                 LOCAL or a cursor without HOLD, or the URL's `options`"
            ),
            Self::Copy => f.write_str("COPY cannot be run as a query: use the driver for it"),
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
