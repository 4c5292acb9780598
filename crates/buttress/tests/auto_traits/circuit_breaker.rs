use buttress_circuit_breaker::*;

use super::given::*;

check! {
    "circuit-breaker":
    values: [
        Breaker, Snapshot, Builder, CircuitBreakerLayer, PerService, Probes, Ramp, CircuitBreaker<Svc>, Settings,
        Shadow, State, Transition, Throttle, Trip, Window
    ];
    handles: [Breakers<u32>, KeyedCircuitBreaker<Svc, u32, OfRequest>, KeyedLayer<u32, OfRequest>];
    owned: [Permit];
    errors: [InvalidProbes, InvalidRamp, InvalidThrottle, InvalidTrip];
    futures: [ResponseFuture<Fut, ByError>];
    send_futures: [];
    send_only: [];
    traits: [Key];
}
