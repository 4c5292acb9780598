#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod charge;
mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
mod future;
#[cfg(feature = "http")]
pub mod http;
mod inner;
mod layer;
mod limit;
mod limiter;
mod machine;
mod meter;
mod places;
mod quota;
mod rate;
mod service;
mod sync;
mod table;
mod ticket;
mod when_limited;

pub use self::{
    charge::{ByKey, Everybody, Keyed, One, Weigh},
    future::ResponseFuture,
    layer::{Builder, KeyedBuilder, KeyedLayer, PerService, RateLimitLayer},
    limit::{Algorithm, InvalidLimit, InvalidLimits, Limit},
    limiter::{KeyedRateLimiter, RateLimiter},
    quota::Quota,
    rate::{InvalidRate, Rate},
    service::RateLimit,
    when_limited::{Reject, Wait, Waiting, WhenLimited},
};
