//! The example `greeter`: layers on both sides of a gRPC call, over a real socket.

#[path = "../examples/greeter/app/mod.rs"]
mod app;
#[path = "greeter/killable.rs"]
mod killable;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use buttress_circuit_breaker::State;
use buttress_core::{Deadline, Reason, Rejectable};
use buttress_testkit::{Fault, FaultProxy};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use self::{
    app::{Client, Limits, Patience},
    killable::Killable,
};

const LONG: Duration = Duration::from_secs(10);

/// Enough for a loaded machine, where a test is not about time.
fn patient() -> Patience {
    Patience { total: 2 * LONG, attempt: LONG, ..Patience::default() }
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = timeout(LONG, async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn greets_and_is_seen_on_both_sides() {
    let server = Killable::start(Limits::default()).await;
    let client = server.client(patient());
    assert_eq!(client.greet("Ada").await.unwrap(), "Hello, Ada!");
    let calls = |name| {
        let stats = server.registry.snapshot().performance_stats();
        stats.calls.iter().find(|calls| calls.name == name).map(|calls| calls.calls)
    };
    assert_eq!(calls("greeter.Greeter/Greet"), Some(1));
    until("the server's count", async || calls("greeter server") == Some(1)).await;
}

#[tokio::test]
async fn what_is_unavailable_is_asked_again_and_what_is_wrong_is_not() {
    let server = Killable::start(Limits::default()).await;
    let client = server.client(patient());
    server.hall.unavailable.store(2, Relaxed);
    assert_eq!(client.greet("Grace").await.unwrap(), "Hello, Grace!");
    assert_eq!(server.calls(), 3);

    let wrong = client.greet("").await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert_eq!(server.calls(), 4);

    server.hall.unavailable.store(u32::MAX, Relaxed);
    assert_eq!(client.greet("Grace").await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.calls(), 7, "three attempts are all");
}

#[tokio::test]
async fn a_stream_is_asked_for_again_until_it_begins() {
    let server = Killable::start(Limits::default()).await;
    server.hall.unavailable.store(1, Relaxed);
    let mut greetings = server.client(patient()).greet_many("Barbara", 1).await.unwrap();
    assert!(greetings.message().await.unwrap().is_some());
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn the_deadline_arrives_at_the_server() {
    let server = Killable::start(Limits::default()).await;
    let client = server.client(patient());
    // Less than the server's own limit would let it.
    server.hall.takes_millis.store(8_000, Relaxed);
    let begun = Instant::now();
    let late = Deadline::after(LONG / 2).scope(client.greet("Edsger")).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(late.message().starts_with("a greeting takes 8s, and you wait for "), "{late}");
    assert!(begun.elapsed() < LONG / 2, "the server does not begin what nobody waits for");
    assert_eq!(server.calls(), 1, "another attempt would have less time");
}

#[tokio::test]
async fn a_server_that_is_silent_costs_no_more_than_the_deadline() {
    let server = Killable::start(Limits::default()).await;
    let proxy = FaultProxy::start(server.address).await;
    let client = Client::new(proxy.addr(), patient(), &server.registry).unwrap();
    client.greet("Edsger").await.unwrap();
    proxy.set(Fault::BlackHole);
    let begun = Instant::now();
    let late = Deadline::after(Duration::from_millis(200)).scope(client.greet("Edsger")).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(
        late.rejected().map(|rejected| (rejected.reason(), rejected.sent())),
        Some((Reason::DeadlineExceeded, true))
    );
    assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < LONG / 2);
}

#[tokio::test]
async fn an_attempt_that_hangs_is_given_up_and_repeated() {
    let server = Killable::start(Limits::default()).await;
    let proxy = FaultProxy::start(server.address).await;
    let patience = Patience { total: LONG, attempt: Duration::from_millis(200), at_once: 1 };
    let client = Client::new(proxy.addr(), patience, &server.registry).unwrap();
    client.greet("Edsger").await.unwrap();
    proxy.set(Fault::BlackHole);
    let late = client.greet("Edsger").await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    let rejected = late.rejected().unwrap();
    assert_eq!((rejected.name(), rejected.reason()), ("greeter attempt", Reason::TimedOut));
    assert_eq!(client.breaker().snapshot().consecutive_failures, 3, "each attempt is seen");
    assert_eq!(client.limiter().snapshot().in_flight, 0);
}

#[tokio::test]
async fn the_server_s_own_limit_is_a_status_too() {
    let server = Killable::start(Limits { longest: Duration::from_millis(100), ..Limits::default() }).await;
    server.hall.takes_millis.store(60_000, Relaxed);
    // The handler hears of the limit as of a deadline; a stream begins at once, and goes on for longer.
    let refused = server.client(patient()).greet("Donald").await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert!(refused.message().starts_with("a greeting takes 60s, and you wait for "), "{refused}");
}

#[tokio::test]
async fn a_refusal_of_the_rate_limit_is_a_status_that_says_when_to_come_back() {
    let server = Killable::start(Limits { rate: 2, ..Limits::default() }).await;
    let client = server.client(patient());
    let begun = Instant::now();
    client.greet("Alan").await.unwrap();
    client.greet("Alan").await.unwrap();
    let refused = client.greet("Alan").await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "too slow a machine for this test");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.rejected().is_none(), "it comes from the server");
    let after = refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap();
    sleep(Duration::from_millis(after.parse().unwrap())).await;
    client.greet("Alan").await.unwrap();
}

#[tokio::test]
async fn a_full_server_is_unavailable() {
    let server = Killable::start(Limits { at_once: 1, ..Limits::default() }).await;
    let client = server.client(patient());
    server.hall.takes_millis.store(5_000, Relaxed);
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.greet("Alonzo").await }
    });
    until("the first call", async || server.calls() == 1).await;
    let refused = client.greet("Alonzo").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "too many calls are in flight"));
    assert_eq!(server.calls(), 1);
    held.abort();
    server.hall.takes_millis.store(0, Relaxed);
    until("the place of who went away", async || client.greet("Alonzo").await.is_ok()).await;
}

#[tokio::test]
async fn the_breaker_opens_when_the_server_is_killed_and_closes_when_it_is_back() {
    let server = Killable::start(Limits::default()).await;
    let (address, client) = (server.address, server.client(patient()));
    client.greet("Linus").await.unwrap();
    drop(server);
    until("the breaker opens", async || {
        let error = client.greet("Linus").await.unwrap_err();
        error.rejected().is_some_and(|rejected| rejected.reason() == Reason::CircuitOpen)
    })
    .await;
    assert_eq!(client.greet("Linus").await.unwrap_err().code(), Code::Unavailable);

    let server = Killable::start_at(address, Limits::default()).await;
    until("the breaker closes", async || {
        client.greet("Linus").await.is_ok() && client.breaker().state() == State::Closed
    })
    .await;
    assert!(server.calls() > 0);
}

#[tokio::test]
async fn a_stream_that_has_begun_is_not_cut_off() {
    let server = Killable::start(Limits { longest: Duration::from_millis(300), ..Limits::default() }).await;
    let patience =
        Patience { total: Duration::from_millis(300), attempt: Duration::from_millis(300), at_once: 1 };
    let client = server.client(patience);
    server.hall.takes_millis.store(150, Relaxed);
    let begun = Instant::now();
    let mut greetings = client.greet_many("Barbara", 5).await.unwrap();
    assert_eq!(client.limiter().snapshot().in_flight, 0, "its place is free when it has begun");
    let mut texts = Vec::new();
    while let Some(greeting) = greetings.message().await.unwrap() {
        texts.push(greeting.text);
    }
    assert_eq!(texts.len(), 5);
    assert_eq!(texts[4], "Hello, Barbara, for the 5. time!");
    assert!(begun.elapsed() >= Duration::from_millis(5 * 150), "longer than any limit");
    assert_eq!(client.greet_many("Barbara", 1_001).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_place_back() {
    let server = Killable::start(Limits { at_once: 1, ..Limits::default() }).await;
    let client = server.client(Patience { at_once: 1, ..patient() });
    server.hall.takes_millis.store(5_000, Relaxed);
    {
        let mut dropped = std::pin::pin!(client.greet("Alan"));
        assert!(timeout(Duration::from_millis(1), &mut dropped).await.is_err());
        tokio::select! {
            _ = &mut dropped => panic!("it takes longer"),
            () = until("the call", async || server.calls() == 1) => {}
        }
        assert_eq!(client.limiter().snapshot().in_flight, 1);
        let refused = client.greet("Alan").await.unwrap_err();
        assert_eq!(refused.rejected().map(|rejected| rejected.reason()), Some(Reason::Overloaded));
    }
    assert_eq!(client.limiter().snapshot().in_flight, 0);
    server.hall.takes_millis.store(0, Relaxed);
    until("the server's place", async || client.greet("Alan").await.is_ok()).await;
}
