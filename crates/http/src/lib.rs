#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod body;
mod builder;
mod classify;
mod client;
mod connect;
mod connecting;
mod error;
mod future;
mod peer;
mod retry_after;
mod tls;

pub use rustls;

pub use self::{
    body::ResponseBody,
    builder::{Builder, InvalidConfig},
    classify::{StatusClassifier, is_idempotent},
    client::{Connections, HttpClient},
    error::{Error, Invalid},
    future::ResponseFuture,
    peer::Peer,
    retry_after::retry_after,
};
