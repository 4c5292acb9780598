#![doc = include_str!("../README.md")]

mod batch;
mod carry;
mod flight;
mod future;
mod gather;
mod inner;
mod layer;
mod outcome;
mod process;
mod rules;
mod seats;
mod service;
mod shared;
mod split;
mod stats;
mod sync;
mod worker;

pub use batch::Batch;
pub use future::ResponseFuture;
pub use layer::BatchLayer;
pub use process::Process;
pub use service::Batched;
pub use stats::Stats;
