//! What a write does to answers that are kept, in one process, over a real server.

#![cfg(feature = "cache")]

mod support;

use std::{panic::AssertUnwindSafe, time::Duration};

use buttress_core::{BoxError, Deadline};
use buttress_postgres::{Error, Query, QueryCache};
use buttress_testkit::TestDatabase;
use futures_util::FutureExt;
use support::{
    SLEEPING,
    answers::{ask, cached, name, name_of, plain_with, rename, run, table},
    figure, postgres, spy, until_backends,
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};

#[tokio::test]
async fn what_a_write_changes_is_read_anew_and_nothing_else() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let other = || plain_with("select nextval('runs') as run").cached(["shop.orders"]);
    let (users, orders) = (ask(&cached, name_of(7)).await, ask(&cached, other()).await);
    cached.query(rename(7, "Ada")).await.unwrap();
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "Ada");
    assert_ne!(ask(&cached, name_of(7)).await, users);
    assert_eq!(ask(&cached, other()).await, orders);

    // In whatever way it is named.
    let before = ask(&cached, name_of(7)).await;
    cached
        .query(Query::new("update users set name = 'x'").writes(["public.users".to_owned()]))
        .await
        .unwrap();
    assert_ne!(ask(&cached, name_of(7)).await, before);
    let before = ask(&cached, name_of(7)).await;
    cached.cache().invalidate(["users"]);
    assert_ne!(ask(&cached, name_of(7)).await, before);
    cached.cache().clear();
    assert_ne!(ask(&cached, other()).await, orders);
    assert_eq!(cached.cache().stats().entries, 1);
}

#[tokio::test]
async fn a_write_that_the_server_refused_leaves_the_cache_usable() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let before = ask(&cached, name_of(7)).await;
    let twice = Query::new("insert into users values (7, 'again')").writes(["users"]);
    assert!(matches!(cached.query(twice).await, Err(Error::Database { sent: true, .. })));
    let after = ask(&cached, name_of(7)).await;
    assert_ne!(after, before);
    // Its end is known, so answers are kept for as long as ever.
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(ask(&cached, name_of(7)).await, after);

    // What never came to the server changes nothing.
    let wrong = rename(7, "x").bind("nobody", 1);
    assert!(matches!(cached.query(wrong).await, Err(Error::Query { .. })));
    let none = Deadline::after(Duration::ZERO).scope(cached.query(rename(7, "x"))).await.unwrap_err();
    assert!(!none.sent());
    assert_eq!(ask(&cached, name_of(7)).await, after);
}

#[tokio::test]
async fn a_load_that_began_before_a_write_is_neither_kept_nor_waited_for() {
    let test = TestDatabase::new().await;
    let (cached, spy) = (cached(&test).await, spy(test.config()).await);
    let slow = || plain_with("select name, pg_sleep(0.5) from users where id = 7");
    let early = tokio::spawn({
        let cached = cached.clone();
        async move { name(cached.query(slow()).await.unwrap()) }
    });
    until_backends(&spy, SLEEPING, 1).await;
    cached.query(rename(7, "Ada")).await.unwrap();
    // Whoever asks now gets what was written, though the other load is still under way.
    assert!(!early.is_finished());
    assert_eq!(name(cached.query(slow()).await.unwrap()), "Ada");
    assert_eq!(early.await.unwrap(), "user 7");
    assert_eq!(name(cached.query(slow()).await.unwrap()), "Ada");
    assert_eq!(cached.cache().stats().loads, 2);
}

#[tokio::test]
async fn a_dropped_write_may_have_been_carried_out() {
    let test = TestDatabase::new().await;
    let (cached, spy) = (cached(&test).await, spy(test.config()).await);
    let before = ask(&cached, name_of(7)).await;
    // Not begun.
    drop(cached.query(rename(7, "x")));
    drop(cached.clone().call(rename(7, "x")));
    assert_eq!(ask(&cached, name_of(7)).await, before);

    let slow = Query::new("update users set name = 'Ada' from pg_sleep(30) where id = 7").writes(["users"]);
    let writer = tokio::spawn(cached.clone().oneshot(slow));
    until_backends(&spy, SLEEPING, 1).await;
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    // What is read now may be from before it: it is not kept for long.
    let after = ask(&cached, name_of(7)).await;
    assert_ne!(after, before);
    sleep(Duration::from_millis(1_100)).await;
    let later = ask(&cached, name_of(7)).await;
    assert_ne!(later, after);
    // After five seconds that is over.
    sleep(Duration::from_millis(4_000)).await;
    let kept = ask(&cached, name_of(7)).await;
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(ask(&cached, name_of(7)).await, kept);
}

#[tokio::test]
async fn a_transaction_is_followed_by_its_tables() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let db = postgres(&test.url(), 1);
    let cache = cached.cache();
    let before = ask(&cached, name_of(7)).await;
    let work = db.transaction(async |tx| {
        // In a transaction the marks do nothing.
        let first = run(&tx.query(name_of(7)).await?.one()?);
        let second = run(&tx.query(name_of(7)).await?.one()?);
        assert_ne!(first, second);
        tx.query(rename(7, "Ada")).await
    });
    cache.writing(["users"], work).await.unwrap();
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "Ada");

    // Rolled back: the error of the closure's own tells nothing, so it counts as one whose end is not known.
    let before = (before, ask(&cached, name_of(7)).await);
    let work = db.transaction(async |tx| {
        tx.query(rename(7, "Bob")).await?;
        Err::<(), BoxError>("no".into())
    });
    cache.writing(["users"], work).await.unwrap_err();
    assert_ne!(ask(&cached, name_of(7)).await, before.1);
    assert_eq!(name(cached.query(name_of(7)).await.unwrap()), "Ada");
}

#[tokio::test]
async fn a_panic_of_a_write_counts_as_one_that_was_dropped() {
    let test = TestDatabase::new().await;
    let cached = cached(&test).await;
    let before = ask(&cached, name_of(7)).await;
    let work = async { panic!("of the user's own") };
    let caught =
        AssertUnwindSafe(cached.cache().writing::<(), Error, _>(["users"], work)).catch_unwind().await;
    assert!(caught.is_err());
    let after = ask(&cached, name_of(7)).await;
    assert_ne!(after, before);
    sleep(Duration::from_millis(1_100)).await;
    assert_ne!(ask(&cached, name_of(7)).await, after);
}

#[tokio::test]
async fn answers_that_writes_end_do_not_drive_out_those_that_are_used() {
    let test = TestDatabase::new().await;
    // Room for about 400 answers.
    let cache = QueryCache::with("users", |cache| cache.max_weight(4 << 20));
    let cached = cache.layer(table(&test.url()).await);
    let hot = |id: i64| Query::new("select name from users where id = :id").bind("id", id).cached(["hot"]);
    for id in 0..50 {
        cached.query(hot(id)).await.unwrap();
    }
    for round in 0..4_000_i64 {
        cached.query(hot(round % 50)).await.unwrap();
        cached.query(name_of(round % 10)).await.unwrap();
        cache.invalidate(["users"]);
    }
    let stats = cache.stats();
    assert!(stats.loads <= 4_000 + 100, "{stats:?}");
    assert_eq!((stats.invalidations, figure(&cache, "invalidations")), (4_000, 4_000.0));
    assert!(stats.weight <= 4 << 20, "{stats:?}");
}
