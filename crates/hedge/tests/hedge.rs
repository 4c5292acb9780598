//! When attempts start, and when not, in virtual time.

mod script;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{ByError, Deadline};
use buttress_hedge::{Budget, HedgeLayer, ReplayRequest};
use script::{End, Failure, MS, SECOND, Script, figure, judge, layer, refused};
use tokio::time::{Instant, Sleep, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use End::{Answers, Broken};

#[tokio::test(start_paused = true)]
async fn a_late_call_is_hedged_and_the_first_answer_counts() {
    let (script, start) = (Script::of([(1000, Answers), (50, Answers)]), Instant::now());
    let layer = layer("late", 100);
    assert_eq!(layer.layer(script.clone()).oneshot(()).await.unwrap(), 1);
    assert_eq!((script.started(), start.elapsed()), (vec![0, 100], 150 * MS));
    let figures = ["calls", "hedges", "hedge_wins", "delay"].map(|name| figure(&layer.hedger(), name));
    assert_eq!(figures, [1.0, 1.0, 1.0, 0.1]);
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_may_still_win() {
    let (script, start) = (Script::of([(120, Answers), (50, Answers)]), Instant::now());
    let layer = layer("first_wins", 100);
    assert_eq!(layer.layer(script.clone()).oneshot(()).await.unwrap(), 0);
    assert_eq!((script.started(), start.elapsed()), (vec![0, 100], 120 * MS));
    assert_eq!(["hedges", "hedge_wins"].map(|name| figure(&layer.hedger(), name)), [1.0, 0.0]);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_is_not() {
    for after in [0, 1, 99] {
        let script = Script::of([(after, Answers)]);
        let layer = layer("in_time", 100);
        assert_eq!(layer.layer(script.clone()).oneshot(()).await.unwrap(), 0);
        assert_eq!(script.started(), [0]);
        assert_eq!(["calls", "hedges"].map(|name| figure(&layer.hedger(), name)), [1.0, 0.0]);
    }
}

/// Although the future itself lives on.
#[tokio::test(start_paused = true)]
async fn losers_are_dropped_at_once() {
    for (attempts, winner) in [([(1000, Answers), (50, Answers)], 1), ([(150, Answers), (1000, Answers)], 0)]
    {
        let script = Script::of(attempts);
        let mut call = Box::pin(layer("losers", 100).layer(script.clone()).call(()));
        let both = async {
            sleep(120 * MS).await;
            script.running()
        };
        let (result, during) = tokio::join!(call.as_mut(), both);
        assert_eq!((result.unwrap(), during, script.running()), (winner, 2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_as_many_as_allowed() {
    for (most, expected) in [(0, vec![0]), (1, vec![0]), (2, vec![0, 100]), (4, vec![0, 100, 200, 300])] {
        let script = Script::of([(1000, Answers); 4]);
        let layer = layer("attempts", 100).attempts(most);
        assert_eq!(layer.layer(script.clone()).oneshot(()).await.unwrap(), 0);
        assert_eq!(script.started(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_the_second_follows_the_first() {
    let script = Script::of([(20, Answers), (10, Answers)]);
    assert_eq!(layer("at_once", 0).layer(script.clone()).oneshot(()).await.unwrap(), 1);
    assert_eq!(script.started(), [0, 0]);

    let script = Script::of([(0, Answers)]);
    assert_eq!(layer("at_once", 0).layer(script.clone()).oneshot(()).await.unwrap(), 0);
}

#[test]
fn without_a_delay_there_is_no_timer() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let calls = AtomicUsize::new(0);
    let inner = service_fn(|()| {
        let number = calls.fetch_add(1, Relaxed);
        async move {
            if number == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>(number)
        }
    });
    assert_eq!(runtime.block_on(layer("no_timer", 0).layer(inner).oneshot(())), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_done_twice_is_hedged() {
    let even = |request: &u32| request.is_multiple_of(2).then_some(*request);
    let layer = HedgeLayer::new("even", even).delay(100 * MS);
    for (request, expected) in [(1, vec![0]), (2, vec![0, 100])] {
        let script = Script::of([(1000, Answers); 2]);
        layer.layer(script.clone()).oneshot(request).await.unwrap();
        assert_eq!(script.started(), expected);
    }
    assert_eq!(figure(&layer.hedger(), "calls"), 2.0);
}

/// As a body that turned out to be too long to be kept.
#[derive(Clone)]
struct TooLong;

impl ReplayRequest<()> for TooLong {
    fn replay(&self, (): &()) -> Option<()> {
        Some(())
    }

    fn can_replay(&self, (): &()) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_kept_is_not_hedged_and_costs_no_budget() {
    let budget = Budget::try_new(0.0, 1, SECOND).unwrap();
    let layer = HedgeLayer::new("too_long", TooLong).delay(100 * MS).budget(budget.clone());
    let script = Script::of([(1000, Answers)]);
    layer.layer(script.clone()).oneshot(()).await.unwrap();
    assert_eq!(budget.available(Instant::now()), Some(1));
}

#[tokio::test(start_paused = true)]
async fn no_hedge_starts_that_could_not_end_in_time() {
    for (limit, expected) in [(100, vec![0]), (99, vec![0]), (101, vec![0, 100])] {
        let script = Script::of([(1000, Answers); 2]);
        let call = layer("deadline", 100).layer(script.clone()).oneshot(());
        Deadline::after(limit * MS).scope(call).await.unwrap();
        assert_eq!(script.started(), expected, "within {limit} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_sees_the_deadline_of_the_caller() {
    let deadline = Deadline::after(SECOND);
    let seen = AtomicUsize::new(0);
    let inner = service_fn(|()| async {
        assert_eq!(Deadline::current(), Some(deadline));
        sleep(150 * MS).await;
        assert_eq!(Deadline::current(), Some(deadline));
        seen.fetch_add(1, Relaxed);
        sleep(200 * MS).await;
        Ok::<_, Failure>(0)
    });
    let layer = layer("ambient", 100);
    deadline.scope(layer.layer(inner).oneshot(())).await.unwrap();
    assert_eq!(seen.load(Relaxed), 2);
}

/// As where a busy runtime looks at its timer late.
#[tokio::test(start_paused = true)]
async fn a_timer_that_comes_after_the_deadline_costs_no_budget() {
    let budget = Budget::try_new(0.0, 1, SECOND).unwrap();
    let script = Script::of([(1000, Answers)]);
    let mut service = layer("late_timer", 100).budget(budget.clone()).layer(script);
    let mut call = pin!(Deadline::after(200 * MS).scope(service.call(())));
    assert!(poll_once(call.as_mut()).await.is_pending());
    advance(300 * MS).await;
    assert!(poll_once(call.as_mut()).await.is_pending());
    assert_eq!(budget.available(Instant::now()), Some(1));
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Clones take their time to be ready, or cannot be.
struct Slow {
    script: Script,
    ready_in: u32,
    fails: bool,
    is_clone: bool,
    waits: Option<Pin<Box<Sleep>>>,
    readied: Arc<AtomicBool>,
}

impl Slow {
    fn new(script: &Script, ready_in: u32, fails: bool) -> Self {
        let (script, readied) = (script.clone(), Arc::default());
        Self { script, ready_in, fails, is_clone: false, waits: None, readied }
    }
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        let (script, readied) = (self.script.clone(), Arc::clone(&self.readied));
        Self { script, waits: None, is_clone: true, readied, ..*self }
    }
}

impl Service<()> for Slow {
    type Response = usize;
    type Error = Failure;
    type Future = <Script as Service<()>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if !self.is_clone {
            return Poll::Ready(Ok(()));
        }
        self.readied.store(true, Relaxed);
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(self.ready_in * MS)));
        waits.as_mut().poll(cx).map(|()| if self.fails { Err(refused()) } else { Ok(()) })
    }

    fn call(&mut self, request: ()) -> Self::Future {
        self.script.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_not_ready_delays_the_hedge_alone() {
    let (script, start) = (Script::of([(1000, Answers), (10, Answers)]), Instant::now());
    let service = layer("not_ready", 100).layer(Slow::new(&script, 300, false));
    assert_eq!(service.oneshot(()).await.unwrap(), 1);
    assert_eq!((script.started(), start.elapsed()), (vec![0, 400], 410 * MS));

    let (script, start) = (Script::of([(200, Answers)]), Instant::now());
    let service = layer("not_ready", 100).layer(Slow::new(&script, 300, false));
    assert_eq!(service.oneshot(()).await.unwrap(), 0);
    assert_eq!((script.started(), start.elapsed()), (vec![0], 200 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_ready_too_late_is_not_called() {
    let script = Script::of([(1000, Answers)]);
    let service = layer("ready_too_late", 100).layer(Slow::new(&script, 300, false));
    let call = Deadline::after(300 * MS).scope(service.oneshot(()));
    assert_eq!(call.await.unwrap(), 0);
    assert_eq!(script.started(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_fails_to_be_ready_ends_the_hedge_alone() {
    let script = Script::of([(1000, Answers)]);
    let slow = Slow::new(&script, 10, true);
    let readied = Arc::clone(&slow.readied);
    let layer = layer("unready", 100).attempts(3);
    assert_eq!(layer.layer(slow).oneshot(()).await.unwrap(), 0);
    assert!(readied.load(Relaxed), "it was asked");
    assert_eq!((script.started(), figure(&layer.hedger(), "hedges")), (vec![0], 0.0));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_all_attempts() {
    let script = Script::of([(1000, Answers), (1000, Answers)]);
    let call = layer("dropped", 100).layer(script.clone()).oneshot(());
    assert!(tokio::time::timeout(150 * MS, call).await.is_err());
    assert_eq!((script.started(), script.running()), (vec![0, 100], 0));
    sleep(SECOND).await;
    assert_eq!(script.started(), [0, 100]);
}

/// It may hold a connection, or a place in a queue.
#[tokio::test(start_paused = true)]
async fn a_clone_that_is_needed_no_more_is_dropped() {
    let script = Script::of([(1000, Answers), (1000, Answers)]);
    let slow = Slow::new(&script, 0, false);
    let readied = Arc::clone(&slow.readied);
    let mut service = layer("spare", 100).layer(slow);
    let mut call = pin!(service.call(()));
    assert_eq!(Arc::strong_count(&readied), 3);
    assert!(tokio::time::timeout(150 * MS, call.as_mut()).await.is_err());
    assert_eq!((script.started().len(), Arc::strong_count(&readied)), (2, 2));
}

/// It may have a long body.
#[tokio::test(start_paused = true)]
async fn a_copy_of_the_request_that_is_needed_no_more_is_dropped() {
    let request = Arc::new(());
    let spent = Budget::try_new(0.0, 1, SECOND).unwrap();
    assert!(spent.withdraw(Instant::now()));
    let mut service = layer("copy", 100).budget(spent).layer(Script::of([(1000, Answers)]));
    let mut call = pin!(service.call(Arc::clone(&request)));
    assert_eq!(Arc::strong_count(&request), 2);
    assert!(tokio::time::timeout(150 * MS, call.as_mut()).await.is_err());
    assert_eq!(Arc::strong_count(&request), 1);
}

/// Nothing is told to the one who started something else in the meantime: a setter makes another layer.
#[tokio::test(start_paused = true)]
async fn a_setter_leaves_the_clones_of_before_alone() {
    let first = layer("setters", 100);
    let second = first.clone().delay(200 * MS);
    for (layer, expected) in [(&first, vec![0, 100]), (&second, vec![0, 200])] {
        let script = Script::of([(1000, Answers); 2]);
        layer.layer(script.clone()).oneshot(()).await.unwrap();
        assert_eq!(script.started(), expected);
        assert_eq!(figure(&layer.hedger(), "calls"), 1.0);
    }
    assert_eq!(figure(&first.clone().classify(ByError).hedger(), "calls"), 0.0);
    let spent = Budget::try_new(0.0, 1, SECOND).unwrap();
    assert!(spent.withdraw(Instant::now()));
    let script = Script::of([(1000, Answers)]);
    first.clone().budget(spent).layer(script.clone()).oneshot(()).await.unwrap();
    assert_eq!(script.started(), [0]);
}

/// A future that is polled for no reason of its own, as `select!` and `join!` do.
#[tokio::test(start_paused = true)]
async fn being_polled_too_often_changes_nothing() {
    let (script, start) = (Script::of([(1000, Answers), (200, Broken), (50, Answers)]), Instant::now());
    let mut call = Box::pin(layer("often", 100).attempts(3).layer(script.clone()).call(()));
    let mut tick = Box::pin(sleep(MS));
    let result = poll_fn(|cx| {
        while tick.as_mut().poll(cx).is_ready() {
            tick.as_mut().reset(Instant::now() + MS);
        }
        call.as_mut().poll(cx)
    });
    assert_eq!(result.await.unwrap(), 2);
    assert_eq!((script.started(), start.elapsed()), (vec![0, 100, 200], 250 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_delay_without_end_never_hedges() {
    let script = Script::of([(1000, Answers)]);
    let layer = HedgeLayer::new("endless", buttress_hedge::CloneRequest).delay(Duration::MAX);
    layer.layer(script.clone()).oneshot(()).await.unwrap();
    assert_eq!(script.started(), [0]);
}

#[tokio::test(start_paused = true)]
async fn can_be_spawned() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let script = Script::of([(1000, Answers), (50, Answers)]);
    let mut service = layer("spawned", 100).layer(script);
    assert_eq!(tokio::spawn(is_send(service.call(()))).await.unwrap().unwrap(), 1);
    assert_eq!(judge(&Ok(1)), buttress_core::Classify::classify(&ByError, &Ok::<_, Failure>(1)));
}
