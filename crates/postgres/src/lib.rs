#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod age;
mod attempts;
#[cfg(feature = "cache")]
mod cache;
mod cancel;
mod classify;
mod condition;
mod config;
mod connection;
mod connector;
mod departures;
mod error;
mod explain;
mod from_row;
#[cfg(feature = "_fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod identifier;
mod insert;
mod lease;
mod lexer;
mod life;
mod listener;
mod lookup;
mod named;
mod observe;
mod on_connection;
mod overflow;
mod pipeline;
mod pool_knobs;
mod postgres;
mod progress;
mod query;
mod query_error;
mod reaper;
mod recent;
mod refill;
mod repeatable;
mod resize;
mod rows;
mod said;
mod savepoint;
mod sent;
mod session;
mod statements;
mod statistics;
mod stream;
mod sync;
mod table;
mod tls;
mod transaction;
mod transaction_options;
mod turn;
mod unnamed;
mod url;
mod within;

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
pub use rustls;
pub use tokio_postgres;

#[cfg(feature = "derive")]
pub use buttress_postgres_derive::FromRow;

#[cfg(feature = "cache")]
pub use self::cache::{CachedQueries, QueryCache, QueryCacheFuture, QueryKey};
pub use self::{
    classify::SqlStateClassifier,
    config::PostgresConfig,
    error::{ConnectError, Error},
    explain::Explained,
    from_row::FromRow,
    insert::{InsertBatch, InsertBatchBuilder, Inserted},
    listener::{Channels, Heard, Listener, Notification},
    lookup::{Found, LookupBatch},
    pipeline::Pipelined,
    postgres::Postgres,
    query::Query,
    query_error::QueryError,
    rows::{Row, Rows},
    statistics::{SlowQuery, StatementStats},
    stream::RowStream,
    table::Table,
    transaction::Transaction,
    transaction_options::{Isolation, TransactionOptions},
    unnamed::StatementMode,
    url::InvalidConfig,
};
