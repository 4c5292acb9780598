#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(any(feature = "keyed", all(test, buttress_loom)))]
mod agreed;
mod breaker;
mod cell;
mod future;
mod handle;
mod inner;
#[cfg(feature = "keyed")]
mod keyed;
mod knobs;
mod layer;
mod loan;
mod meter;
mod permit;
mod probes;
mod probing;
mod published;
mod ramp;
mod service;
mod settings;
mod shadow;
mod shared;
mod state;
mod sync;
mod throttle;
mod trip;
mod window;

#[cfg(feature = "keyed")]
pub use self::keyed::{Breakers, Key, KeyedCircuitBreaker, KeyedLayer};
pub use self::{
    future::ResponseFuture,
    handle::{Breaker, Permit, Snapshot},
    layer::{Builder, CircuitBreakerLayer, PerService},
    probes::{InvalidProbes, Probes},
    ramp::{InvalidRamp, Ramp},
    service::CircuitBreaker,
    settings::Settings,
    shadow::Shadow,
    state::{State, Transition},
    throttle::{InvalidThrottle, Throttle},
    trip::{InvalidTrip, Trip, Window},
};
