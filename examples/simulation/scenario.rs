//! A backend, a normal load, ten times its capacity for a minute, and the normal load again.

use std::{future::Ready, time::Duration};

use buttress_bulkhead::{Adaptive, BulkheadLayer, Limit};
use buttress_circuit_breaker::{CircuitBreakerLayer, State};
use buttress_retry::RetryLayer;
use buttress_simulator::{
    Answer, Arrivals, Backend, BackendError, Call, Callers, Durations, Report, Simulation, World,
};
use buttress_timeout::TimeoutLayer;
use tower::{BoxError, Service, ServiceBuilder, retry::Policy};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Four fifths of what the backend can do.
pub(crate) const NORMAL: f64 = 80.0;
pub(crate) const OVERLOAD: f64 = 1000.0;
pub(crate) const BEGINS: Duration = Duration::from_secs(30);
pub(crate) const ENDS: Duration = Duration::from_secs(90);
pub(crate) const OVER: Duration = Duration::from_secs(150);

/// Ten workers, a hundred calls a second. Its queue is deep, what waits in it makes everything slower (twice as slow when
/// it is full), and it works for callers that have left as for any other: as servers do.
pub(crate) fn backend() -> Backend {
    Backend::workers(10)
        .service_time(Durations::lognormal(80 * MS, 400 * MS))
        .queue(10_000)
        .slowdown(|load| 1.0 + load.queued as f64 / 10_000.0)
}

pub(crate) fn simulation(seed: u64) -> Simulation {
    let arrivals = Arrivals::poisson(NORMAL)
        .lasting(BEGINS)
        .then(Arrivals::poisson(OVERLOAD).lasting(ENDS - BEGINS))
        .then(Arrivals::poisson(NORMAL));
    Simulation::new(OVER).seed(seed).callers(Callers::arriving(arrivals).patient_for(5 * SECOND))
}

/// A timeout per attempt, and three retries at once.
pub(crate) fn naive(seed: u64) -> Report {
    let stack = |world: &World| {
        ServiceBuilder::new().retry(ThreeTimes(3)).timeout(SECOND).service(world.backend(backend()))
    };
    simulation(seed).run(stack).expect("every call ends")
}

#[derive(Clone)]
struct ThreeTimes(u32);

impl Policy<Call, Answer, BoxError> for ThreeTimes {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Call, result: &mut Result<Answer, BoxError>) -> Option<Ready<()>> {
        self.0 = result.is_err().then(|| self.0.checked_sub(1))??;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, call: &Call) -> Option<Call> {
        Some(*call)
    }
}

/// The same limits, with the layers of Buttress at their defaults.
pub(crate) fn protected(seed: u64) -> Report {
    simulation(seed).run(|world| protect(world, backend())).expect("every call ends")
}

pub(crate) fn protect(
    world: &World,
    backend: Backend,
) -> impl Service<Call, Response = Answer, Error = BackendError, Future: Send> + Clone + Send + use<> {
    let breaker = CircuitBreakerLayer::new("backend");
    let bulkhead = BulkheadLayer::new("backend", Limit::adaptive(Adaptive::gradient2()));
    let (state, limit) = (breaker.breaker(), bulkhead.limiter());
    world.gauge("open", move || if state.state() == State::Open { 1.0 } else { 0.0 });
    world.gauge("limit", move || limit.limit() as f64);
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(4 * SECOND).name("total"))
        .layer(RetryLayer::new("backend"))
        .layer(breaker)
        .layer(TimeoutLayer::new(SECOND).name("attempt"))
        .layer(bulkhead)
        .service(world.backend(backend))
}
