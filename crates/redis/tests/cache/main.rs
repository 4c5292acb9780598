//! The store of caches, on a real server.
#![cfg(feature = "cache")]

mod coherence;
mod hostile;
mod lease;
mod outage;
mod processes;
mod round_trip;
mod support;
