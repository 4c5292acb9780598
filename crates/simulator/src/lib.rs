#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod agenda;
mod arrivals;
mod backend;
mod call;
mod callers;
mod driver;
mod durations;
mod error;
mod event;
mod nanos;
mod recorder;
mod report;
mod seed;
mod simulation;
mod sketch;
mod slab;
mod state;
mod world;

pub use self::{
    arrivals::Arrivals,
    backend::{Answer, Answering, Backend, BackendService, Load, WhenCallerLeaves},
    call::Call,
    callers::Callers,
    durations::Durations,
    error::{BackendError, Stalled},
    event::{Event, What},
    report::{BackendFigures, Period, Report, Sample},
    seed::for_seeds,
    simulation::Simulation,
    world::World,
};
