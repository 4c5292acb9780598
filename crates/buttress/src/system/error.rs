use std::{error::Error as StdError, fmt};

use buttress_core::{BoxError, Rejectable, Rejected};
use buttress_http::ApiError;
use buttress_telemetry::RegisterError;

use crate::{ConfigError, config::Wrong};

/// What a call of a [`System`](crate::System) ends with: the client's own error, or a layer's.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A layer refused the call or gave it up.
    Rejected(Rejected),
    /// The database, or what was asked of it.
    Database(buttress_postgres::Error),
    /// Redis, or what was asked of it.
    Redis(buttress_redis::Error),
    /// An HTTP API, or what was asked of it.
    Http(ApiError),
    /// The cache's store.
    Cache(BoxError),
    /// A value that JSON has no form for.
    Unfit(serde_json::Error),
    /// The configuration has no such part.
    NotConfigured(NotConfigured),
}

/// A part that the configuration does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotConfigured {
    /// The table that is missing, such as `http.stock`.
    pub(super) table: String,
    /// Those beside it that are there.
    pub(super) others: Vec<String>,
}

impl fmt::Display for NotConfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, others } = self;
        write!(f, "the configuration has no table `[{table}]`: add it")?;
        if !others.is_empty() {
            write!(f, ", or ask for one of those that are there: {}", others.join(", "))?;
        }
        Ok(())
    }
}

impl StdError for NotConfigured {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Redis(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::Cache(error) => write!(f, "the cache's store: {error}"),
            Self::Unfit(error) => write!(f, "a value for the cache cannot be written as JSON: {error}"),
            Self::NotConfigured(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // What `Display` shows is the error inside, so its source is the next.
        match self {
            Self::Rejected(rejected) => rejected.source(),
            Self::Database(error) => error.source(),
            Self::Redis(error) => error.source(),
            Self::Http(error) => error.source(),
            Self::Cache(error) => Some(&**error),
            Self::Unfit(error) => Some(error),
            Self::NotConfigured(_) => None,
        }
    }
}

impl Rejectable for Error {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Database(error) => error.rejected(),
            Self::Redis(error) => error.rejected(),
            Self::Http(error) => error.rejected(),
            Self::Cache(error) => Rejected::in_error(&**error),
            Self::Unfit(_) | Self::NotConfigured(_) => None,
        }
    }

    fn sent(&self) -> bool {
        match self {
            Self::Rejected(rejected) => rejected.sent(),
            Self::Database(error) => error.sent(),
            Self::Redis(error) => Rejectable::sent(error),
            Self::Http(error) => error.sent(),
            Self::Cache(_) => true,
            Self::Unfit(_) | Self::NotConfigured(_) => false,
        }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<buttress_postgres::Error> for Error {
    fn from(error: buttress_postgres::Error) -> Self {
        error.rejected().copied().map_or_else(|| Self::Database(error), Self::Rejected)
    }
}

impl From<buttress_redis::Error> for Error {
    fn from(error: buttress_redis::Error) -> Self {
        error.rejected().copied().map_or_else(|| Self::Redis(error), Self::Rejected)
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        error.rejected().copied().map_or_else(|| Self::Http(error), Self::Rejected)
    }
}

impl From<NotConfigured> for Error {
    fn from(error: NotConfigured) -> Self {
        Self::NotConfigured(error)
    }
}

/// Why a [`System`](crate::System) was not started: one line. Whatever of it had been started was ended again.
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// A part could not be started: a server is away or refuses the credentials, an address is in use.
    Part {
        /// Its table.
        table: String,
        /// What happened.
        cause: BoxError,
    },
    /// Two parts bear one name.
    Register(RegisterError),
}

impl StartError {
    pub(super) fn part(table: &str, cause: impl Into<BoxError>) -> Self {
        Self::Part { table: table.to_owned(), cause: cause.into() }
    }

    /// What a check of the configuration did not find.
    pub(super) fn wrong(table: &str, wrong: &Wrong) -> Self {
        Self::part(table, format!("{}: {}", wrong.key, wrong.fix))
    }
}

/// The same line as `Display`, since it is what `main` prints.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StartError({self})")
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Part { table, cause } => write!(f, "{table}: {cause}"),
            Self::Register(error) => error.fmt(f),
        }
    }
}

impl StdError for StartError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Part { cause, .. } => cause.source(),
            Self::Register(error) => error.source(),
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<RegisterError> for StartError {
    fn from(error: RegisterError) -> Self {
        Self::Register(error)
    }
}

/// Why a [`System`](crate::System) goes on by its old configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new configuration is wrong.
    Config(ConfigError),
    /// These keys are read at the start alone; the others were not changed either.
    NeedsRestart(Vec<String>),
    /// A new part could not be made.
    Start(StartError),
    /// The system has been shut down.
    Closed,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::NeedsRestart(keys) => write!(
                f,
                "nothing was changed: restart, or leave as they were what only a start reads: {}",
                keys.join(", ")
            ),
            Self::Start(error) => write!(f, "nothing was changed: {error}"),
            Self::Closed => f.write_str("the system has been shut down"),
        }
    }
}

impl StdError for ReloadError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Start(error) => error.source(),
            Self::NeedsRestart(_) | Self::Closed => None,
        }
    }
}

impl From<ConfigError> for ReloadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
