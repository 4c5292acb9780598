//! A choice among three endpoints that all answer at once.

use std::{fmt::Debug, time::Duration};

use buttress_balance::{Balance, Endpoint};
use tower::{
    BoxError, Service,
    balance::p2c::Balance as TowerBalance,
    discover::ServiceList,
    load::{CompleteOnResponse, Load, PeakEwma, PendingRequests},
};

use crate::{
    backend::HEALTHY,
    body::{Body, shared, single},
    ours::{self, ENDPOINTS},
    row::{Expected, Row},
    verdict::Verdict,
};

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("balance", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("buttress sticky", |_| {
            let endpoints = (0..ENDPOINTS).map(|number| (number, Endpoint::new(HEALTHY)));
            shared(Balance::builder("sticky").sticky(|request: &u64| Some(*request)).build(endpoints))
        }),
        row("tower ewma", |_| {
            let nanos = Duration::from_secs(10).as_nanos() as f64;
            tower(|| PeakEwma::new(HEALTHY, Duration::from_millis(30), nanos, CompleteOnResponse::default()))
        }),
        row("tower pending", |_| tower(|| PendingRequests::new(HEALTHY, CompleteOnResponse::default()))),
    ];
    [ours::rows_of("balance"), others].concat()
}

fn tower<S>(endpoint: impl Fn() -> S) -> Box<dyn Body>
where
    S: Service<u64, Response = u64, Error: Into<BoxError>, Future: Send>
        + Load<Metric: Debug>
        + Send
        + 'static,
{
    let endpoints: Vec<S> = (0..ENDPOINTS).map(|_| endpoint()).collect();
    single(TowerBalance::new(ServiceList::new::<u64>(endpoints)))
}
