//! What a panic leaves behind.

mod script;

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use script::{Failure, MS, SECOND, layer};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_hedge_goes_on_to_the_caller() {
    let calls = Arc::new(AtomicUsize::new(0));
    let inner = {
        let calls = Arc::clone(&calls);
        service_fn(move |()| {
            let number = calls.fetch_add(1, Relaxed);
            async move {
                sleep(10 * MS).await;
                assert_ne!(number, 1, "the hedge panics");
                sleep(SECOND).await;
                Ok::<_, Failure>(number)
            }
        })
    };
    let service = layer("panic", 100).layer(inner);
    let caught = tokio::spawn(service.clone().oneshot(())).await.unwrap_err();
    let message = *caught.into_panic().downcast::<String>().unwrap();
    assert!(message.contains("the hedge panics"), "{message}");
    assert_eq!(service.oneshot(()).await.unwrap(), 2);
}

/// Fails the test rather than to go round for ever.
#[derive(Clone)]
struct Panics {
    polls: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Service<()> for Panics {
    type Response = usize;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<usize, Failure>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        assert!(self.polls.fetch_add(1, Relaxed) < 10, "asked again and again");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert_eq!(self.calls.fetch_add(1, Relaxed), 0, "the hedge panics");
        Box::pin(async {
            sleep(200 * MS).await;
            Ok(0)
        })
    }
}

/// Whoever catches the panic may go on with the call.
#[tokio::test(start_paused = true)]
async fn a_panic_while_a_hedge_starts_leaves_the_first_attempt_as_it_was() {
    let service = Panics { polls: Arc::default(), calls: Arc::default() };
    let mut call = Box::pin(layer("panic_at_start", 100).attempts(3).layer(service).call(()));
    let caught = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    });
    let message = *caught.await.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("the hedge panics"), "{message}");
    assert_eq!(call.await, Ok(0));
}
