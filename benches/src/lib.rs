#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod allocations;
mod args;
mod backend;
mod body;
mod calls;
mod clean;
mod groups;
mod instructions;
mod one_thread;
mod report;
mod row;
mod servers;
mod switches;
mod two_threads;
mod verdict;

pub use self::{
    allocations::{Counted, count_allocations},
    calls::calls,
    instructions::instructions,
    servers::servers,
};
