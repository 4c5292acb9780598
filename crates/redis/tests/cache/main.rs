//! The store of caches, on a real server.
#![cfg(feature = "cache")]

mod coherence;
mod hostile;
mod lease;
mod outage;
mod pressure;
mod processes;
mod round_trip;
mod setback;
mod support;
