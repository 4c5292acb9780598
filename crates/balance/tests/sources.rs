//! Where endpoints come from: what becomes of them when their source fails, panics, ends, says too much, or is never asked
//! to stop.

use std::{
    convert::Infallible,
    fmt::{self, Write as _},
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_balance::{Balance, Change, Endpoint};
use buttress_core::{BoxError, Rejectable};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};
use tracing::{Event, Metadata, Subscriber, field, span};

/// Answers with its own number.
#[derive(Debug, Clone)]
struct Numbered(u32);

impl Service<()> for Numbered {
    type Response = u32;
    type Error = BoxError;
    type Future = Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

type Step = Result<Change<u32, Numbered>, io::Error>;

fn insert(key: u32) -> Step {
    Ok(Change::Insert(key, Endpoint::new(Numbered(key))))
}

/// `name` is that of the balancer, by which its events are found.
fn discover<D, E>(name: &str, source: D) -> Balance<u32, Numbered>
where
    D: Stream<Item = Result<Change<u32, Numbered>, E>> + Send + 'static,
    E: fmt::Display + Send + 'static,
{
    LazyLock::force(&HEARD);
    Balance::builder(name).discover(source)
}

/// A source whose drop is seen, as the strong count of this.
struct Held<D>(D, #[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);

impl<D: Stream + Unpin> Stream for Held<D> {
    type Item = D::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<D::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// Lets the tasks that are ready run.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn changes_are_followed_and_a_source_that_ends_leaves_its_endpoints() {
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    let source = stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
    let balance = discover("changes_are_followed_and_a_source_that_ends_leaves_its_endpoints", source);
    let waiting = tokio::spawn(balance.clone().oneshot(()));
    settle().await;
    assert!(!waiting.is_finished(), "it waits for the first endpoint");
    send.send(insert(1)).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);

    send.send(insert(2)).unwrap();
    send.send(Ok(Change::Remove(1))).unwrap();
    settle().await;
    assert_eq!(balance.clone().oneshot(()).await.unwrap(), 2);
    drop(send);
    settle().await;
    assert_eq!(balance.members().len(), 1);
    assert_eq!(balance.oneshot(()).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_source_is_dropped_with_the_last_clone() {
    let held = Arc::new(());
    let balance = discover(
        "the_source_is_dropped_with_the_last_clone",
        Held(stream::iter([insert(1)]).chain(stream::pending()), Arc::clone(&held)),
    );
    let (clone, members) = (balance.clone(), balance.members());
    settle().await;
    drop(balance);
    settle().await;
    assert_eq!(Arc::strong_count(&held), 2);
    assert_eq!(clone.clone().oneshot(()).await.unwrap(), 1);
    drop(clone);
    settle().await;
    assert_eq!(Arc::strong_count(&held), 1);
    drop(members);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_keeps_the_source_and_so_gets_its_endpoint() {
    let held = Arc::new(());
    let late = stream::once(async {
        sleep(Duration::from_secs(1)).await;
        insert(7)
    });
    let balance = discover(
        "a_call_that_waits_keeps_the_source_and_so_gets_its_endpoint",
        Held(late.chain(stream::pending()).boxed(), Arc::clone(&held)),
    );
    // `oneshot` drops the balancer as soon as the call has begun.
    assert_eq!(timeout(Duration::from_secs(2), balance.oneshot(())).await.unwrap().unwrap(), 7);
    settle().await;
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_changes_nothing_and_is_asked_again() {
    let source = stream::iter([insert(1), Err(io::Error::other("no route")), insert(2)]);
    let balance =
        discover("a_source_that_fails_changes_nothing_and_is_asked_again", source.chain(stream::pending()));
    settle().await;
    let told = told("a_source_that_fails_changes_nothing_and_is_asked_again");
    assert!(told.len() == 1 && told[0].starts_with("WARN") && told[0].contains("no route"), "{told:?}");
    assert_eq!(balance.clone().oneshot(()).await.unwrap(), 1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(balance.members().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_fails_is_not_asked_all_the_time() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let source = stream::poll_fn(move |_| {
        // Time would stand still while it is asked all the time.
        assert!(counted.fetch_add(1, Relaxed) < 10_000);
        Poll::Ready(Some(Err::<Change<u32, Numbered>, _>(io::Error::other("no route"))))
    });
    let balance = discover("a_source_that_always_fails_is_not_asked_all_the_time", source);
    // Nobody waits for an endpoint longer than for the news that there is none.
    let refused = timeout(Duration::from_secs(1), balance.clone().oneshot(())).await.unwrap().unwrap_err();
    assert!(refused.rejected().is_some_and(|rejected| !rejected.sent()), "{refused}");
    sleep(Duration::from_secs(600)).await;
    // Delays of 5 s in the mean.
    assert!((60..300).contains(&polls.load(Relaxed)), "{}", polls.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_has_a_change_leaves_time_for_others() {
    let source = stream::iter((0..).map(|n: u32| insert(n % 2)));
    let balance = discover("a_source_that_always_has_a_change_leaves_time_for_others", source);
    timeout(Duration::from_secs(5), tokio::task::yield_now()).await.unwrap();
    assert!(balance.clone().oneshot(()).await.unwrap() < 2);
    // It can be stopped.
    drop(balance);
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_leaves_its_endpoints_and_nobody_waits_for_more() {
    let held = Arc::new(());
    let source =
        stream::iter([1, 2]).map(|n| if n == 1 { insert(n) } else { panic!("a source that panics") });
    let balance = discover(
        "a_source_that_panics_leaves_its_endpoints_and_nobody_waits_for_more",
        Held(source, Arc::clone(&held)),
    );
    settle().await;
    assert_eq!(balance.clone().oneshot(()).await.unwrap(), 1);
    assert_eq!(Arc::strong_count(&held), 1, "the source is over");
    let told = told("a_source_that_panics_leaves_its_endpoints_and_nobody_waits_for_more");
    assert!(told.len() == 1 && told[0].starts_with("ERROR") && told[0].contains("panicked"), "{told:?}");

    let at_once = discover(
        "a_source_that_panics_leaves_its_endpoints_and_nobody_waits_for_more",
        stream::poll_fn(|_| -> Poll<Option<Step>> { panic!("a source that panics") }),
    );
    let refused = timeout(Duration::from_secs(1), at_once.clone().oneshot(())).await.unwrap().unwrap_err();
    assert!(refused.rejected().is_some_and(|rejected| !rejected.sent()), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_without_an_endpoint_lets_nobody_wait() {
    let balance =
        discover("a_source_that_ends_without_an_endpoint_lets_nobody_wait", stream::empty::<Step>());
    let refused = timeout(Duration::from_secs(1), balance.clone().oneshot(())).await.unwrap().unwrap_err();
    assert!(refused.rejected().is_some_and(|rejected| !rejected.sent()), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn more_endpoints_than_may_be_are_left_out_and_told_once() {
    let all = || stream::iter((0..3_000).map(insert)).chain(stream::pending());
    let balance = discover("more_endpoints_than_may_be_are_left_out_and_told_once", all());
    settle().await;
    assert_eq!(balance.members().len(), 1_000);
    let told = told("more_endpoints_than_may_be_are_left_out_and_told_once");
    assert!(told.len() == 1 && told[0].contains("limit=1000"), "{told:?}");

    let few = Balance::builder("few").max_endpoints(3).unwrap().discover(all());
    settle().await;
    for _ in 0..100 {
        assert!(few.clone().oneshot(()).await.unwrap() < 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_discover_of_towers_is_a_source() {
    use tower::discover::{Change as Towers, ServiceList};

    let discover_of_tower = ServiceList::new([Numbered(5), Numbered(6)]);
    let source = discover_of_tower.map_ok(|change| match change {
        Towers::Insert(key, service) => Change::Insert(key, Endpoint::new(service)),
        Towers::Remove(key) => Change::Remove(key),
    });
    let balance: Balance<usize, Numbered> =
        Balance::builder("tower").discover(source.map_err(|error: Infallible| error));
    settle().await;
    assert_eq!(balance.members().len(), 2);
    assert!(balance.oneshot(()).await.unwrap() >= 5);
}

/// Every event of this process. For all of it, since what is heard on one thread alone is lost now and then where other
/// threads meet the same event for the first time.
static HEARD: LazyLock<Lines> = LazyLock::new(|| {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("nobody else listens");
    lines
});

/// The events of a balancer, but for those that only tell of its life.
fn told(name: &str) -> Vec<String> {
    let balance = format!("balance={name:?}");
    let lines = HEARD.0.lock().unwrap();
    lines.iter().filter(|line| line.contains(&balance) && !line.starts_with("DEBUG")).cloned().collect()
}

/// Keeps every event as a line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
