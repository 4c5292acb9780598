#![doc = include_str!("../README.md")]

mod answer;
mod body;
mod budget;
mod builder;
mod cache;
mod changes;
mod error;
mod exchange;
mod flight;
mod future;
mod growing;
mod key;
mod layer;
mod pass;
mod refresh;
pub mod rules;
mod service;
mod settle;
mod shelf;
mod stats;
mod sync;

pub use body::ResponseBody;
pub use builder::HttpCacheBuilder;
pub use cache::HttpCache;
pub use error::BodyError;
pub use future::ResponseFuture;
pub use layer::HttpCacheLayer;
pub use rules::Kind;
pub use service::HttpCached;
pub use stats::Stats;
