#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(feature = "peers"),
    allow(dead_code, reason = "the gate takes a part of what rows are made of")
)]

mod backend;
mod body;
mod callers;
mod callgrind;
mod exit;
mod gate;
mod ours;
mod row;
mod verdict;

#[cfg(feature = "peers")]
mod allocations;
#[cfg(feature = "peers")]
mod args;
#[cfg(feature = "peers")]
mod calls;
#[cfg(feature = "peers")]
mod clean;
#[cfg(feature = "peers")]
mod groups;
#[cfg(feature = "peers")]
mod instructions;
#[cfg(feature = "peers")]
mod one_thread;
#[cfg(feature = "peers")]
mod report;
#[cfg(feature = "peers")]
mod servers;
#[cfg(feature = "peers")]
mod switches;
#[cfg(feature = "peers")]
mod table;
#[cfg(feature = "peers")]
mod two_threads;

pub use self::gate::gate;
#[cfg(feature = "peers")]
pub use self::{
    allocations::{Counted, count_allocations},
    calls::calls,
    instructions::instructions,
    servers::servers,
    table::table,
};
