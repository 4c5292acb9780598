#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "cache")]
mod cache;
mod classify;
mod condition;
mod config;
mod connection;
mod connector;
mod error;
mod lease;
mod lexer;
mod named;
mod observe;
mod postgres;
mod query;
mod query_error;
mod recent;
mod refill;
mod repeatable;
mod rows;
mod said;
mod statements;
mod transaction;
mod url;
mod within;

pub use tokio_postgres;

#[cfg(feature = "cache")]
pub use self::cache::{CachedQueries, QueryCache, QueryCacheFuture, QueryKey, Table};
pub use self::{
    classify::SqlStateClassifier,
    config::PostgresConfig,
    error::{ConnectError, Error},
    postgres::Postgres,
    query::Query,
    query_error::QueryError,
    rows::{Row, Rows},
    transaction::Transaction,
    url::InvalidConfig,
};
