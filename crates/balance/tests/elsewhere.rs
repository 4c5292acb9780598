//! What an endpoint's own layers refuse is passed on with the word that there are others.

use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_balance::{Balance, Endpoint};
use buttress_core::{Origin, Reason, Rejected};
use buttress_retry::RetryLayer;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

/// Two endpoints of the same mind, or one.
async fn refused(endpoints: usize, rejected: Rejected) -> Rejected {
    let service = service_fn(move |(): ()| -> Ready<Result<(), Rejected>> { ready(Err(rejected)) });
    let balance =
        Balance::builder("elsewhere").build((0..endpoints).map(|key| (key, Endpoint::new(service))));
    balance.clone().oneshot(()).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_that_there_are_others_where_there_are() {
    let breaker = Origin::new("circuit-breaker", "elsewhere");
    let open = breaker.reject(Reason::CircuitOpen);
    assert_eq!(refused(2, open).await, open.by_one_of_several());
    assert_eq!(refused(1, open).await, open);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_or_has_no_time_left_is_passed_on_as_it_is() {
    let timeout = Origin::new("timeout", "elsewhere");
    let sent = timeout.reject(Reason::TimedOut).after_sending();
    assert_eq!(refused(2, sent).await, sent);
    let late = timeout.reject(Reason::DeadlineExceeded);
    assert_eq!(refused(2, late).await, late);
}

/// Where all breakers are open, a retry around must not make every call slow and take the budget for it.
#[tokio::test(start_paused = true)]
async fn where_all_have_refused_a_retry_does_not_go_on() {
    let calls = Arc::new(AtomicU32::new(0));
    let open = {
        let calls = Arc::clone(&calls);
        service_fn(move |(): ()| {
            calls.fetch_add(1, Relaxed);
            let refused = Origin::new("circuit-breaker", "all open").reject(Reason::CircuitOpen);
            ready(Err::<(), _>(io::Error::from(refused.with_retry_after(Duration::from_secs(60)))))
        })
    };
    let balance = Balance::builder("all open").build([0, 1, 2].map(|key| (key, Endpoint::new(open.clone()))));
    let service = RetryLayer::new("all open").layer(balance);
    // Until each of them has said so.
    service.clone().oneshot(()).await.unwrap_err();
    let (before, began) = (calls.load(Relaxed), Instant::now());
    for _ in 0..100 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        let rejected = Rejected::in_error(&error).expect("a breaker's");
        assert!(!rejected.is_by_one_of_several());
    }
    assert_eq!((calls.load(Relaxed) - before, began.elapsed()), (100, Duration::ZERO));
}

/// It refuses before it is called.
#[derive(Clone)]
struct NotReady(Rejected);

impl Service<()> for NotReady {
    type Response = ();
    type Error = Rejected;
    type Future = Ready<Result<(), Rejected>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        Poll::Ready(Err(self.0))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        unreachable!("it was not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_instead_of_readiness_says_so_too() {
    let open = Origin::new("circuit-breaker", "not ready").reject(Reason::CircuitOpen);
    for (endpoints, expected) in [(2, open.by_one_of_several()), (1, open)] {
        let endpoints = (0..endpoints).map(|key| (key, Endpoint::new(NotReady(open))));
        let balance = Balance::builder("not ready").build(endpoints);
        assert_eq!(balance.clone().oneshot(()).await.unwrap_err(), expected);
    }
}
