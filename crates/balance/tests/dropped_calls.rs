//! What a balancer learns from calls that nobody waits for any more.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_balance::{Balance, Change, Endpoint};
use buttress_core::BoxError;
use futures_util::future::join_all;
use tokio::time::sleep;
use tower::{Service, ServiceExt, service_fn};

/// A call that is dropped at once says nothing about its endpoint: not even that one which nobody has measured is fast.
#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_first_call_is_dropped_does_not_look_fast() {
    let calls: [Arc<AtomicU32>; 2] = Default::default();
    let endpoint = |key: usize| {
        let calls = Arc::clone(&calls[key]);
        let service = service_fn(move |(): ()| {
            calls.fetch_add(1, Relaxed);
            async {
                sleep(Duration::from_millis(10)).await;
                Ok::<_, BoxError>(())
            }
        });
        (key, Endpoint::new(service))
    };
    let balance = Balance::builder("dropped").slow_start(Duration::ZERO).build([endpoint(0)]);
    balance.clone().oneshot(()).await.unwrap();
    balance.members().apply(Change::Insert(1, endpoint(1).1));
    while calls[1].load(Relaxed) == 0 {
        let mut call = pin!(balance.clone().oneshot(()));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let before: Vec<_> = calls.iter().map(|calls| calls.load(Relaxed)).collect();
    for _ in 0..10 {
        join_all((0..32).map(|_| balance.clone().oneshot(()))).await;
    }
    let after: Vec<_> =
        calls.iter().zip(before).map(|(calls, before)| calls.load(Relaxed) - before).collect();
    assert!(after[1] < 200 && after[0] > 100, "{after:?}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Readiness,
    Call,
    Future,
}

#[derive(Debug, Clone, Copy)]
struct Panics(Option<Place>);

impl Panics {
    fn at(self, here: Place) {
        assert!(self.0 != Some(here), "on purpose");
    }
}

impl Service<()> for Panics {
    type Response = ();
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.at(Place::Readiness);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.at(Place::Call);
        let this = *self;
        Box::pin(async move {
            this.at(Place::Future);
            sleep(Duration::from_millis(10)).await;
            Ok(())
        })
    }
}

/// A panic is the endpoint's, and a failure of its: one that panics at once gets no more calls than one that fails at once.
#[tokio::test(start_paused = true)]
async fn an_endpoint_that_panics_does_not_look_fast_and_is_ejected() {
    for where_it_does in [Place::Readiness, Place::Call, Place::Future] {
        let balance = Balance::builder("panics")
            .build([(0, Endpoint::new(Panics(None))), (1, Endpoint::new(Panics(Some(where_it_does))))]);
        let call = || tokio::spawn(balance.clone().oneshot(()));
        for _ in 0..100 {
            for call in [call(), call(), call()] {
                _ = call.await;
            }
            sleep(Duration::from_secs(1)).await;
        }
        let snapshot = balance.balancer().snapshot();
        let [well, panics] = &snapshot.endpoints[..] else { unreachable!("two") };
        assert!(panics.failures >= 5 && panics.failures < well.successes / 10, "{snapshot:?}");
        assert_eq!((panics.ejections > 0, panics.pending), (true, 0), "{snapshot:?}");
    }
}
