//! The greeter: what both sides speak, the client's layers and the server's.

mod client;
mod deadline;
mod server;
mod status;

/// Made from `greeter.proto`, and left as it was made.
#[rustfmt::skip]
#[allow(clippy::all, unreachable_pub, unused_qualifications)]
#[path = "../proto/greeter.rs"]
mod proto;

pub(crate) use self::{
    client::{Client, Patience},
    server::{Hall, Limits, Running},
};
