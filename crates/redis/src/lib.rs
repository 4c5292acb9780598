#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "cache")]
pub mod cache;
mod classify;
mod client;
mod command;
mod config;
mod connection;
mod error;
mod future;
#[cfg(feature = "_fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod outgoing;
#[cfg(feature = "rate-limit")]
pub mod rate_limit;
mod repeat;
mod shared;
mod silence;
mod sync;
mod ticket;

pub use fred::{
    self,
    types::{FromValue, Value},
};

pub use self::{
    classify::KindClassifier,
    client::Redis,
    command::{Arg, Command},
    config::{InvalidUrl, RedisConfig},
    error::{Error, ServerError},
    future::ResponseFuture,
};
