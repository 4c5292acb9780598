//! Changes that others make, and a connection that hears of them and breaks, on a real server.

#![cfg(feature = "cache")]

mod support;

use std::time::Duration;

use buttress_postgres::{Query, QueryCache};
use buttress_testkit::{Fault, FaultProxy, PostgresServer, TestDatabase};
use support::{
    backends, figure,
    listening::{
        LISTENER, begin, config, listening, run, still, until_changed, until_figure, until_listening,
        until_lost,
    },
    postgres, spy, until_backends,
};
use tokio::time::{Instant, sleep};
use tower::Layer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_anybody_is_heard_within_milliseconds() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    assert!(cached.cache().is_listening());
    spy.execute("insert into users values (1, 'a')", &[]).await.unwrap();
    sleep(Duration::from_millis(100)).await;

    let mut delays = Vec::new();
    for _ in 0..100 {
        let before = run(&cached, "users").await;
        spy.execute("update users set name = name || 'b'", &[]).await.unwrap();
        delays.push(until_changed(&cached, "users", before).await);
    }
    delays.sort();
    eprintln!(
        "heard after the UPDATE's answer: median {:?}, 99th {:?}, longest {:?}",
        delays[50], delays[98], delays[99]
    );
    assert!(delays[50] < Duration::from_millis(100), "{:?}", delays[50]);
}

#[tokio::test]
async fn another_process_hears_what_this_one_writes() {
    let test = TestDatabase::new().await;
    let (here, _spy) = listening(&test).await;
    let there = QueryCache::new("there").layer(postgres(&test.url(), 2));
    there.cache().listen(&config(&test.url()), ["users"]).await.unwrap();
    let before = run(&there, "users").await;
    here.query(Query::new("insert into users values (1, 'a')").writes(["users"])).await.unwrap();
    until_changed(&there, "users", before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_lost_is_made_again_and_what_was_missed_is_read_anew() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    let cache = cached.cache();
    let (before, other) = (run(&cached, "users").await, run(&cached, "others").await);
    let kill = format!("select pg_terminate_backend(pid) from pg_stat_activity where {LISTENER}");
    spy.execute(&kill, &[]).await.unwrap();
    until_lost(cache).await;
    // What is kept is not served while changes may go by unnoticed.
    let meanwhile = run(&cached, "users").await;
    assert!(meanwhile > before);
    spy.execute("insert into users values (1, 'a')", &[]).await.unwrap();
    let took = until_listening(cache, true).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(run(&cached, "users").await > meanwhile);
    assert_eq!(figure(cache, "reconnects"), 1.0);
    // Nobody listens to these.
    assert_eq!(run(&cached, "others").await, other);

    let before = run(&cached, "users").await;
    spy.execute("insert into users values (2, 'b')", &[]).await.unwrap();
    until_changed(&cached, "users", before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_is_heard_again() {
    let server = PostgresServer::start().await;
    let client = spy(server.config()).await;
    client.batch_execute("create sequence runs; create table users (id bigint)").await.unwrap();
    let cached = QueryCache::new("users").layer(postgres(&server.url(), 2));
    cached.cache().listen(&config(&server.url()), ["users"]).await.unwrap();
    let before = run(&cached, "users").await;
    server.kill().await;
    until_lost(cached.cache()).await;
    assert!(cached.query(Query::new("select nextval('runs')").cached(["users"])).await.is_err());
    sleep(Duration::from_millis(300)).await;
    server.restart().await;
    let took = until_listening(cached.cache(), true).await;
    eprintln!("listening {took:?} after the restart");
    let client = spy(server.config()).await;
    let again = run(&cached, "users").await;
    assert!(again > before);
    client.batch_execute("insert into users values (1)").await.unwrap();
    until_changed(&cached, "users", again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_dead_without_a_word_is_noticed() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    cached.cache().listen(&config(&url), ["users"]).await.unwrap();
    let first = run(&cached, "users").await;
    proxy.set(Fault::BlackHole);
    let took = until_listening(cached.cache(), false).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    let before = run(&cached, "users").await;
    assert!(before > first);
    proxy.set(Fault::Pass);
    until_listening(cached.cache(), true).await;
    assert!(run(&cached, "users").await > before);
    drop(spy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_is_heard_an_answer_is_kept_for_a_second_and_asked_for_once() {
    let test = TestDatabase::new().await;
    let (cached, spy) = begin(&test).await;
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    cached.cache().listen(&config(&url), ["users"]).await.unwrap();
    proxy.set(Fault::Refuse);
    proxy.cut();
    until_listening(cached.cache(), false).await;
    let start = Instant::now();
    let mut runs = Vec::new();
    while start.elapsed() < Duration::from_millis(2_500) {
        runs.push(run(&cached, "users").await);
        sleep(Duration::from_millis(5)).await;
    }
    runs.dedup();
    assert!((3..=4).contains(&runs.len()), "{runs:?}");
    drop(spy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_anybody_notifies_nothing_grows_and_the_rest_is_heard() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    let (before, other) = (run(&cached, "users").await, run(&cached, "others").await);
    spy.batch_execute("listen buttress_cache").await.unwrap();
    let long = format!("notify buttress_cache, '{}'", "x".repeat(7_999));
    for sql in [
        "notify buttress_cache",
        "notify buttress_cache, ''",
        "notify buttress_cache, 'users'",
        "notify buttress_cache, 'public.'",
        "notify buttress_cache, 'public.Users'",
        "notify buttress_cache, 'public.others'",
        "notify buttress_cache, '\"public\".\"users\"'",
        "notify buttress_cache, e'public.users\\n'",
        "notify others, 'public.users'",
        &long,
        "select pg_notify('buttress_cache', 'public.' || n) from generate_series(1, 20000) n",
    ] {
        spy.batch_execute(sql).await.unwrap();
    }
    still(&cached, &spy, before).await;
    assert_eq!(run(&cached, "others").await, other);
    assert!(figure(cached.cache(), "notifications_ignored") >= 20_000.0);
    // In so far as it is a table that is listened to, anybody can have it read anew.
    spy.batch_execute("notify buttress_cache, 'public.users'").await.unwrap();
    until_changed(&cached, "users", before).await;
    assert!(cached.cache().is_listening());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_let_it_listen_at_once_one_stays() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    spy.batch_execute("create table orders (id bigint)").await.unwrap();
    for _ in 0..10 {
        let mut callers = tokio::task::JoinSet::new();
        for table in ["users", "orders", "marker", "users"] {
            let (cache, config) = (cached.cache().clone(), config(&test.url()));
            callers.spawn(async move { cache.listen(&config, [table]).await });
        }
        callers.join_all().await.into_iter().for_each(|listens| listens.unwrap());
        until_backends(&spy, LISTENER, 1).await;
        assert!(cached.cache().is_listening());
    }
    // It is the one that counts.
    let lost = figure(cached.cache(), "reconnects");
    let kill = format!("select pg_terminate_backend(pid) from pg_stat_activity where {LISTENER}");
    spy.execute(&kill, &[]).await.unwrap();
    until_figure(cached.cache(), "reconnects", lost + 1.0).await;
    for table in ["users", "orders"] {
        let before = run(&cached, table).await;
        spy.batch_execute(&format!("insert into {table} values (1)")).await.unwrap();
        until_changed(&cached, table, before).await;
    }
}

#[tokio::test]
async fn the_connection_ends_with_the_last_handle() {
    let test = TestDatabase::new().await;
    let (cached, spy) = listening(&test).await;
    let cache = cached.cache().clone();
    assert_eq!(backends(&spy, LISTENER).await, 1);
    // Called again, the one before it ends.
    cache.listen(&config(&test.url()), ["users"]).await.unwrap();
    until_backends(&spy, LISTENER, 1).await;
    assert!(cache.is_listening());
    drop(cached);
    sleep(Duration::from_millis(20)).await;
    assert_eq!(backends(&spy, LISTENER).await, 1);
    drop(cache);
    until_backends(&spy, LISTENER, 0).await;
}

#[test]
fn where_the_runtime_ends_nothing_is_heard_any_more() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = runtime();
    let test = first.block_on(TestDatabase::new());
    let (cached, _) = first.block_on(listening(&test));
    assert!(cached.cache().is_listening());
    first.shutdown_timeout(Duration::from_secs(1));
    assert!(!cached.cache().is_listening());
    // Again, in another.
    let second = runtime();
    second.block_on(cached.cache().listen(&config(&test.url()), ["users"])).unwrap();
    assert!(cached.cache().is_listening());
}
