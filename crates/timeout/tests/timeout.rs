//! What a timeout owes to its caller, in virtual time.

use std::{
    future::{Future, pending, poll_fn, ready},
    io,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{BoxError, Deadline, Metric, Observe, Origin, Reason, Rejectable, Rejected, Value};
use buttress_timeout::TimeoutLayer;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn rejection(result: Result<u32, io::Error>) -> Rejected {
    *result.expect_err("no answer can have come").rejected().expect("the layer speaks for itself")
}

/// Answers with the request after that many milliseconds.
async fn slow(delay: u32) -> io::Result<u32> {
    sleep(delay * MS).await;
    Ok(delay)
}

#[tokio::test(start_paused = true)]
async fn gives_up_when_the_limit_is_up() {
    let service = TimeoutLayer::new(100 * MS).name("gives_up").layer(service_fn(slow));
    let start = Instant::now();
    assert_eq!(service.oneshot(99).await.unwrap(), 99);
    assert_eq!(start.elapsed(), 99 * MS);

    let start = Instant::now();
    let rejected = rejection(service.oneshot(101).await);
    assert_eq!(start.elapsed(), 100 * MS);
    assert_eq!((rejected.layer(), rejected.name()), ("timeout", "gives_up"));
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::TimedOut, true));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_wins() {
    let service = TimeoutLayer::new(100 * MS).layer(service_fn(slow));
    assert_eq!(service.oneshot(100).await.unwrap(), 100);
    // Even one that has been there for long while nobody looked.
    let call = service.oneshot(50);
    let mut call = pin!(call);
    assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    advance(500 * MS).await;
    assert_eq!(call.await.unwrap(), 50);
}

#[tokio::test(start_paused = true)]
async fn the_surrounding_deadline_cuts_off_too() {
    let service = TimeoutLayer::new(100 * MS).layer(service_fn(slow));
    let start = Instant::now();
    let rejected = rejection(Deadline::after(30 * MS).scope(service.oneshot(60)).await);
    assert_eq!(start.elapsed(), 30 * MS);
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::DeadlineExceeded, true));

    let rejected = rejection(Deadline::after(300 * MS).scope(service.oneshot(160)).await);
    assert_eq!(rejected.reason(), Reason::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn of_two_layers_the_shorter_one_is_the_reason() {
    let named = |name, limit| TimeoutLayer::new(limit * MS).name(name);
    for (outer, inner, whose) in [(300, 100, "inner"), (100, 300, "outer"), (0, 300, "outer")] {
        let service = named("outer", outer).layer(named("inner", inner).layer(service_fn(slow)));
        let start = Instant::now();
        let rejected = rejection(service.oneshot(1000).await);
        assert_eq!(start.elapsed(), outer.min(inner) * MS);
        assert_eq!((rejected.name(), rejected.reason()), (whose, Reason::TimedOut), "{outer} around {inner}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_comes_too_late_is_refused_and_not_made() {
    let calls = AtomicUsize::new(0);
    let mut service = TimeoutLayer::new(100 * MS).layer(service_fn(|_: u32| {
        calls.fetch_add(1, Relaxed);
        ready(Ok::<u32, io::Error>(1))
    }));
    let deadline = Deadline::after(10 * MS);
    advance(10 * MS).await;
    let rejected = rejection(deadline.scope(async { service.ready().await?.call(1).await }).await);
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::DeadlineExceeded, false));
    assert_eq!(calls.load(Relaxed), 0);

    assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn those_inside_see_the_deadline() {
    let service = TimeoutLayer::new(100 * MS).layer(service_fn(|()| {
        // Asked in `call` already, where it begins to run.
        let in_call = Deadline::current();
        async move {
            sleep(40 * MS).await;
            Ok::<_, io::Error>((in_call, Deadline::current()))
        }
    }));
    let start = Instant::now();
    let (in_call, in_poll) = service.oneshot(()).await.unwrap();
    assert_eq!(in_call, Some(Deadline::at(start + 100 * MS)));
    assert_eq!(in_poll, in_call);
    assert_eq!(Deadline::current(), None);
}

#[tokio::test(start_paused = true)]
async fn the_limit_runs_from_the_first_wait() {
    let service = TimeoutLayer::new(100 * MS).layer(service_fn(slow));
    let call = service.oneshot(90);
    advance(50 * MS).await;
    assert_eq!(call.await.unwrap(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_call_moved_under_an_earlier_deadline_keeps_that() {
    let service = TimeoutLayer::new(100 * MS).layer(service_fn(slow));
    let mut call = Box::pin(service.oneshot(90));
    assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
    let start = Instant::now();
    let rejected = rejection(Deadline::after(20 * MS).scope(call).await);
    assert_eq!((rejected.reason(), start.elapsed()), (Reason::DeadlineExceeded, 20 * MS));
}

#[tokio::test(start_paused = true)]
async fn the_call_is_dropped_before_the_error_is_given() {
    struct SetOnDrop(Arc<AtomicBool>);
    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let mut service = TimeoutLayer::new(MS).layer(service_fn(|dropped| async {
        let _held = SetOnDrop(dropped);
        pending::<io::Result<u32>>().await
    }));
    let mut call = pin!(service.call(Arc::clone(&dropped)));
    assert_eq!(rejection(call.as_mut().await).reason(), Reason::TimedOut);
    assert!(dropped.load(Relaxed), "the future still lives, but the call inside must not");
}

#[tokio::test(start_paused = true)]
async fn a_zero_limit_lets_through_what_is_ready_at_once() {
    // Between two ticks of the timer.
    advance(MS / 3).await;
    let start = Instant::now();
    let service = TimeoutLayer::new(Duration::ZERO).layer(service_fn(|n: u32| async move {
        if n == 0 {
            return Ok(0);
        }
        slow(n).await
    }));
    assert_eq!(service.oneshot(0).await.unwrap(), 0);
    assert_eq!(rejection(service.oneshot(1).await).reason(), Reason::TimedOut);
    assert_eq!(start.elapsed(), Duration::ZERO, "nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn the_longest_limit_is_no_trouble() {
    let service = TimeoutLayer::new(Duration::MAX).layer(service_fn(slow));
    assert_eq!(service.oneshot(86_400_000).await.unwrap(), 86_400_000);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "polled after it was done")]
async fn polling_after_the_rejection_panics() {
    let mut service = TimeoutLayer::new(MS).layer(service_fn(slow));
    let mut call = pin!(service.call(10));
    let _rejected = rejection(call.as_mut().await);
    let _ = call.await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_uses_up_the_cooperative_budget_is_cut_off_as_well() {
    let service = TimeoutLayer::new(5 * MS).layer(service_fn(async |()| {
        // Ends at some time, so that this test can fail and not only hang.
        for _ in 0..1_000_000 {
            consume_budget().await;
        }
        Ok::<_, io::Error>(0)
    }));
    // The runtime is never idle, so its clock has to be moved by hand.
    tokio::spawn(advance(5 * MS));
    assert_eq!(rejection(service.oneshot(()).await).reason(), Reason::TimedOut);
}

#[test]
fn no_runtime_is_needed_where_nothing_waits() {
    let mut service = TimeoutLayer::new(MS).layer(service_fn(|n: u32| ready(Ok::<_, io::Error>(n))));
    let mut cx = Context::from_waker(Waker::noop());
    let call = pin!(service.call(3));
    assert!(matches!(call.poll(&mut cx), Poll::Ready(Ok(3))));
}

/// Neither cloned nor sent: what the pattern does not need it does not ask for.
#[tokio::test(start_paused = true)]
async fn asks_for_neither_clone_nor_send_nor_static() {
    struct Lonely(Rc<String>);
    impl<'a> Service<&'a str> for Lonely {
        type Response = (Rc<String>, &'a str);
        type Error = Rejected;
        type Future = std::future::Ready<Result<Self::Response, Rejected>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: &'a str) -> Self::Future {
            ready(Ok((Rc::clone(&self.0), request)))
        }
    }
    let request = String::from("not 'static");
    let mut service = TimeoutLayer::new(MS).layer(Lonely(Rc::default()));
    let answer = service.ready().await.unwrap().call(&request).await.unwrap();
    assert_eq!(answer, (Rc::default(), &*request));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the backend's own panic")]
async fn regression_19_a_panic_goes_on_as_a_panic() {
    let service = TimeoutLayer::new(100 * MS).layer(service_fn(|()| async {
        sleep(10 * MS).await;
        if Deadline::current().is_some() {
            panic!("the backend's own panic");
        }
        Ok::<_, BoxError>(())
    }));
    let _ = service.oneshot(()).await;
}

#[tokio::test(start_paused = true)]
async fn the_layer_reports_its_rejections() {
    let layer = TimeoutLayer::new(10 * MS).name("the_layer_reports");
    let service = layer.layer(service_fn(slow));
    let _timed_out = rejection(service.oneshot(20).await);
    let _cut_off = rejection(Deadline::after(MS).scope(service.oneshot(20)).await);
    let mut seen = Vec::new();
    layer.observe(&mut |metric| seen.push(metric));
    let once = |reason| Metric::new("rejections", Value::Counter(1)).with_label("reason", reason);
    assert_eq!(seen, [once("timed_out"), once("deadline_exceeded")]);
    assert_eq!(layer.origin().name(), "the_layer_reports");
}

/// As an adapter does: it honours the deadline itself, so it notices first.
async fn gives_up_at_the_deadline(sent: bool) -> io::Result<u32> {
    sleep(Deadline::current().unwrap().remaining()).await;
    let rejected = Origin::new("adapter", "gives_up_at_the_deadline").reject(Reason::DeadlineExceeded);
    Err(if sent { rejected.after_sending() } else { rejected }.into())
}

#[tokio::test(start_paused = true)]
async fn its_own_limit_is_its_own_whoever_notices_first() {
    let service = TimeoutLayer::new(100 * MS).name("own").layer(service_fn(gives_up_at_the_deadline));
    for sent in [true, false] {
        let rejected = rejection(service.oneshot(sent).await);
        assert_eq!((rejected.name(), rejected.reason(), rejected.sent()), ("own", Reason::TimedOut, sent));
        // The caller's own deadline is not.
        let rejected = rejection(Deadline::after(50 * MS).scope(service.oneshot(sent)).await);
        assert_eq!(
            (rejected.layer(), rejected.reason(), rejected.sent()),
            ("adapter", Reason::DeadlineExceeded, sent)
        );
    }
    let total = TimeoutLayer::new(100 * MS).name("whole");
    let stack =
        total.layer(TimeoutLayer::new(300 * MS).name("part").layer(service_fn(gives_up_at_the_deadline)));
    let rejected = rejection(stack.oneshot(true).await);
    assert_eq!((rejected.name(), rejected.reason()), ("whole", Reason::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_before_stays_what_it_is() {
    let refuses = service_fn(async |(): ()| {
        let rejected = Origin::new("limiter", "an_error_of_before").reject(Reason::DeadlineExceeded);
        Err::<u32, _>(io::Error::from(rejected))
    });
    let rejected = rejection(TimeoutLayer::new(100 * MS).layer(refuses).oneshot(()).await);
    assert_eq!((rejected.layer(), rejected.reason()), ("limiter", Reason::DeadlineExceeded));
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Also where the timer, which counts milliseconds, cannot tell them apart.
#[tokio::test(start_paused = true)]
async fn the_earlier_deadline_is_the_reason_however_near_the_other_is() {
    for (own, surrounding, reason) in [
        (us(500), us(1400), Reason::TimedOut),
        (us(1000), us(1001), Reason::TimedOut),
        (us(1001), us(1000), Reason::DeadlineExceeded),
        (us(1000), us(1000), Reason::DeadlineExceeded),
    ] {
        let service = TimeoutLayer::new(own).layer(service_fn(slow));
        let rejected = rejection(Deadline::after(surrounding).scope(service.oneshot(9000)).await);
        assert_eq!(rejected.reason(), reason, "{own:?} under {surrounding:?}");

        let outer = TimeoutLayer::new(surrounding).name("outer");
        let service = outer.layer(TimeoutLayer::new(own).name("inner").layer(service_fn(slow)));
        let rejected = rejection(service.oneshot(9000).await);
        let expected = if reason == Reason::TimedOut { "inner" } else { "outer" };
        assert_eq!((rejected.name(), rejected.reason()), (expected, Reason::TimedOut));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_moved_out_of_a_deadline_keeps_it_and_its_reason() {
    let polled_under = async |limit: u32, adapter: bool| {
        let slow_or_adapter = service_fn(move |()| async move {
            if adapter { gives_up_at_the_deadline(true).await } else { slow(9000).await }
        });
        let service = TimeoutLayer::new(1000 * MS).layer(slow_or_adapter);
        let mut call = Box::pin(service.oneshot(()));
        let start = Instant::now();
        let once = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending()));
        assert!(Deadline::after(limit * MS).scope(once).await);
        let rejected = rejection(call.await);
        (rejected.reason(), start.elapsed().as_millis())
    };
    for adapter in [false, true] {
        assert_eq!(polled_under(100, adapter).await, (Reason::DeadlineExceeded, 100));
        assert_eq!(polled_under(1500, adapter).await, (Reason::TimedOut, 1000));
    }
}
