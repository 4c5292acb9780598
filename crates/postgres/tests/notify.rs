//! A listener on a real server: what it hears, in what order, and what it does when it has no reader or too many wishes.

mod support;

use std::{
    future::Future,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Wake, Waker},
    time::Duration,
};

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{Error, Heard, Listener, Query, QueryError};
use buttress_testkit::TestDatabase;
use futures_util::StreamExt;
use support::{
    figure,
    notify::{LISTENER, config, notified, notify, quiet, reconnected},
    postgres, spy, until_backends,
};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep, timeout},
};

#[tokio::test]
async fn what_one_connection_notifies_comes_in_its_order() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["orders", "users"]).await.unwrap();
    assert!(listener.is_connected());
    let pid: i32 = spy.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    // More than are kept for the reader.
    for n in 0..1_000 {
        let channel = if n % 3 == 0 { "users" } else { "orders" };
        notify(&spy, channel, &n.to_string()).await;
    }
    for n in 0..1_000 {
        let Some(Heard::Notification(told)) = listener.next().await else { panic!("{n}") };
        assert_eq!(told.channel(), if n % 3 == 0 { "users" } else { "orders" });
        assert_eq!((told.payload(), told.process_id()), (&*n.to_string(), pid));
    }
    assert_eq!(figure(&listener, "notifications"), 1_000.0);
    assert_eq!(figure(&listener, "reconnects"), 0.0);
    assert_eq!(figure(&listener, "connected"), 1.0);
}

#[tokio::test]
async fn only_what_is_committed_is_heard_and_by_a_pool_as_well() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    spy.batch_execute("begin; notify orders, 'rolled back'; rollback").await.unwrap();
    spy.batch_execute(
        "begin; notify orders, 'a'; savepoint s; notify orders, 'no'; rollback to s; notify orders; commit",
    )
    .await
    .unwrap();
    let db = postgres(&test.url(), 2);
    let query =
        Query::new("select pg_notify(:channel, :payload)").bind("channel", "orders").bind("payload", "b");
    db.query(query.clone()).await.unwrap();
    let failed = db.transaction(async |tx| {
        tx.query(query.clone().bind("payload", "c")).await?;
        Ok::<_, Error>(())
    });
    assert!(failed.await.is_err());
    notify(&spy, "orders", "end").await;
    for payload in ["a", "", "b", "end"] {
        assert_eq!(notified(&mut listener).await, ("orders".to_owned(), payload.to_owned()));
    }
}

#[tokio::test]
async fn any_name_and_any_payload_comes_as_it_is() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let long = "é".repeat(31) + "x";
    let names =
        ["orders", "Orders", "a \"b\"", "it's", "größe 東京", "x; drop table y --", "select", ":a $1", &long];
    let mut listener = Listener::connect(&config(&test.url()), names).await.unwrap();
    let longest = "é".repeat(3_999) + "x";
    for name in names {
        for payload in ["", "a\n\"'\\\u{1}", &longest] {
            notify(&spy, name, payload).await;
            assert_eq!(notified(&mut listener).await, (name.to_owned(), payload.to_owned()));
        }
    }
    // Another one, in spite of its likeness.
    notify(&spy, "ORDERS", "").await;
    quiet(&mut listener, &spy, "orders").await;
}

#[tokio::test]
async fn a_name_that_cannot_be_is_refused_before_anything_is_sent() {
    let nobody = config("postgres://postgres@127.0.0.1:1/none");
    let test = TestDatabase::new().await;
    let listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    for name in ["", &"x".repeat(64), &"é".repeat(32), "a\0b"] {
        for error in [
            Listener::connect(&nobody, ["orders", name]).await.unwrap_err(),
            listener.listen(name).await.unwrap_err(),
            listener.unlisten(name).await.unwrap_err(),
        ] {
            assert!(
                matches!(&error, Error::Query { cause: QueryError::Channel { bytes, .. }, .. } if *bytes == name.len())
            );
            assert!(error.to_string().contains("a name has 1 to 63 bytes") && !error.sent(), "{error}");
        }
    }
    let error = Listener::connect(&nobody, ["orders"]).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn channels_come_and_go_while_it_runs() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["marker"]).await.unwrap();
    let channels = listener.channels();
    notify(&spy, "orders", "too early").await;
    channels.listen("orders").await.unwrap();
    channels.listen("orders").await.unwrap();
    notify(&spy, "orders", "1").await;
    assert_eq!(notified(&mut listener).await.1, "1");

    notify(&spy, "orders", "unread").await;
    notify(&spy, "marker", "before").await;
    while figure(&channels, "unread") < 2.0 {
        sleep(Duration::from_millis(1)).await;
    }
    listener.unlisten("orders").await.unwrap();
    listener.unlisten("orders").await.unwrap();
    notify(&spy, "orders", "too late").await;
    assert_eq!(notified(&mut listener).await.1, "before");
    quiet(&mut listener, &spy, "marker").await;

    // Of many at once on one channel, what the last one wants holds.
    for _ in 0..20 {
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..20 {
            let channels = channels.clone();
            callers.spawn(async move {
                if n % 2 == 0 { channels.listen("orders").await } else { channels.unlisten("orders").await }
            });
        }
        callers.join_all().await.into_iter().for_each(|done| done.unwrap());
        channels.listen("orders").await.unwrap();
        notify(&spy, "orders", "heard").await;
        assert_eq!(notified(&mut listener).await.1, "heard");
    }
}

#[tokio::test]
async fn it_is_a_stream_and_a_next_that_is_dropped_loses_nothing() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    let notifier = async {
        for n in 0..500 {
            notify(&spy, "orders", &n.to_string()).await;
        }
    };
    let reader = async {
        let mut payloads = Vec::new();
        while payloads.len() < 500 {
            // Dropped at whatever point it has come to.
            if let Ok(Some(Heard::Notification(told))) =
                timeout(Duration::from_micros(200), listener.next()).await
            {
                payloads.push(told.payload().to_owned());
            }
        }
        payloads
    };
    let ((), payloads) = tokio::join!(notifier, reader);
    assert_eq!(payloads, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());

    notify(&spy, "orders", "hunter2").await;
    let told = StreamExt::next(&mut listener).await.unwrap();
    let shown = format!("{told:?} {listener:?} {:?}", listener.channels());
    assert!(shown.contains("orders") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn dropped_its_connection_ends_and_its_handles_say_so() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    until_backends(&spy, LISTENER, 1).await;
    let channels = listener.channels();
    drop(listener);
    until_backends(&spy, LISTENER, 0).await;
    assert!(!channels.is_connected());
    for error in [channels.listen("users").await.unwrap_err(), channels.unlisten("orders").await.unwrap_err()]
    {
        assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::Closed));
    }
    // Nor does one stay that was being made.
    let connecting = config(&test.url());
    for micros in [50, 500, 2_000, 5_000] {
        let _late = timeout(Duration::from_micros(micros), Listener::connect(&connecting, ["orders"])).await;
    }
    until_backends(&spy, LISTENER, 0).await;
}

#[test]
fn where_the_runtime_ends_it_is_over() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let test = first.block_on(TestDatabase::new());
    let mut listener = first.block_on(Listener::connect(&config(&test.url()), ["orders"])).unwrap();
    first.block_on(async { notify(&spy(test.config()).await, "orders", "heard").await });
    second.block_on(async {
        assert_eq!(notified(&mut listener).await.1, "heard");
        let waits = async {
            first.shutdown_background();
            listener.next().await
        };
        assert!(timeout(Duration::from_secs(5), waits).await.unwrap().is_none());
        assert!(!listener.is_connected());
    });
}

#[tokio::test]
async fn a_deadline_is_for_connecting_and_asking_but_not_for_waiting() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let passed = Deadline::after(Duration::ZERO);
    let reason = |error: Error| error.rejected().map(|rejected| rejected.reason());
    let error = passed.scope(Listener::connect(&config(&test.url()), ["orders"])).await.unwrap_err();
    assert_eq!(reason(error), Some(Reason::DeadlineExceeded));
    let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    let error = passed.scope(listener.listen("users")).await.unwrap_err();
    assert_eq!(reason(error), Some(Reason::DeadlineExceeded));
    notify(&spy, "users", "").await;

    let start = Instant::now();
    let (heard, ()) =
        tokio::join!(Deadline::after(Duration::from_millis(20)).scope(listener.next()), async {
            sleep(Duration::from_millis(200)).await;
            notify(&spy, "orders", "late").await;
        });
    assert!(matches!(heard, Some(Heard::Notification(told)) if told.payload() == "late"));
    assert!(start.elapsed() >= Duration::from_millis(200));
}

/// Each of them takes 4 KB.
async fn flood(spy: &buttress_postgres::tokio_postgres::Client, notifications: i32) {
    let sql = "select pg_notify('orders', lpad(n::text, 4000, '0')) from generate_series(1, $1) n";
    spy.execute(sql, &[&notifications]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_a_slow_reader_the_server_waits() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    flood(&spy, 6_000).await;
    // Longer than a check and its limit take.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(figure(&listener, "unread"), 256.0);
    for n in 1..=6_000 {
        assert_eq!(notified(&mut listener).await.1.parse(), Ok(n));
        if n == 3_000 {
            sleep(Duration::from_secs(3)).await;
        }
        assert!(figure(&listener, "unread") <= 256.0);
    }
    assert_eq!(figure(&listener, "reconnects"), 0.0);
}

#[tokio::test]
async fn a_reader_that_is_stuck_does_not_fill_the_servers_queue() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    flood(&spy, 6_000).await;
    while figure(&listener, "unread") < 256.0 {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(500)).await;
    until_backends(&spy, LISTENER, 1).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    until_backends(&spy, LISTENER, 0).await;
    let usage = "select pg_notification_queue_usage()";
    while spy.query_one(usage, &[]).await.unwrap().get::<_, f64>(0) > 0.0 {
        spy.batch_execute("notify others").await.unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    assert!(!listener.is_connected());
    assert_eq!(figure(&listener, "unread"), 256.0);
    // As soon as there is a reader, it goes on.
    for n in 1..=256 {
        assert_eq!(notified(&mut listener).await.1.parse(), Ok(n));
    }
    reconnected(&mut listener).await;
    quiet(&mut listener, &spy, "orders").await;
}

#[tokio::test]
async fn a_reader_who_asks_for_a_channel_does_not_wait_for_himself() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
    flood(&spy, 6_000).await;
    while figure(&listener, "unread") < 256.0 {
        sleep(Duration::from_millis(1)).await;
    }
    let start = Instant::now();
    listener.listen("users").await.unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    // What is notified from now on comes, or that it was lost does.
    notify(&spy, "users", "missed").await;
    for n in 1..=256 {
        assert_eq!(notified(&mut listener).await.1.parse(), Ok(n));
    }
    reconnected(&mut listener).await;
    notify(&spy, "users", "heard").await;
    assert_eq!(notified(&mut listener).await, ("users".to_owned(), "heard".to_owned()));
}

#[test]
fn a_waker_that_owns_another_call_may_be_the_last() {
    struct Owner(#[expect(dead_code, reason = "it is dropped")] Mutex<Box<dyn Send>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    // On a thread of its own: that one waits for itself where it fails.
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let test = TestDatabase::new().await;
            let mut noop = Context::from_waker(Waker::noop());
            for moved in [true, false] {
                let mut listener = Listener::connect(&config(&test.url()), ["orders"]).await.unwrap();
                let channels = listener.channels();
                let mut owned = Box::pin(async move { channels.listen("users").await });
                assert!(owned.as_mut().poll(&mut noop).is_pending());
                let owner = Waker::from(Arc::new(Owner(Mutex::new(Box::new(owned)))));
                assert!(listener.poll_next_unpin(&mut Context::from_waker(&owner)).is_pending());
                drop(owner);
                // The call is gone with its last waker: when another task polls, or when it is woken.
                if moved {
                    assert!(listener.poll_next_unpin(&mut noop).is_pending());
                }
                quiet(&mut listener, &spy(test.config()).await, "orders").await;
            }
            send.send(()).unwrap();
        });
    });
    assert_eq!(receive.recv_timeout(Duration::from_secs(20)), Ok(()));
}
