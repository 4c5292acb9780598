//! What happens at the edges: while a configuration changes, while a system ends, and where a start fails half-way.
#![cfg(feature = "dashboard")]

mod edges {
    mod cache;
    mod config;
    mod reload;
    mod shutdown;
    mod start;
}
