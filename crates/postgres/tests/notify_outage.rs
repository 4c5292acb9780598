//! A listener whose connection is lost in each of the ways there are.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{ConnectError, Error, Listener, tokio_postgres::Client};
use buttress_testkit::{Fault, FaultProxy, PostgresServer, TestDatabase};
use support::{
    figure,
    notify::{LISTENER, config, notified, notify, quiet, reconnected},
    spy, until_backends,
};
use tokio::time::{Instant, sleep, timeout};

async fn until_connected(listener: &Listener, expected: bool) -> Duration {
    let start = Instant::now();
    while listener.is_connected() != expected {
        assert!(start.elapsed() < Duration::from_secs(15), "not within {:?}", start.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

async fn proxied(test: &TestDatabase) -> (FaultProxy, String) {
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    (proxy, url)
}

const KILL: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
                    where datname = current_database() and application_name = 'listener'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_is_heard_again_with_every_channel() {
    let server = PostgresServer::start().await;
    let mut listener = Listener::connect(&config(&server.url()), ["orders"]).await.unwrap();
    listener.listen("Second \"channel\"").await.unwrap();
    listener.listen("third").await.unwrap();
    listener.unlisten("third").await.unwrap();
    let client = spy(server.config()).await;
    notify(&client, "orders", "before").await;
    for round in 1..=2 {
        let before = if round == 1 { 1.0 } else { 3.0 };
        while figure(&listener, "notifications") < before {
            sleep(Duration::from_millis(1)).await;
        }
        server.kill().await;
        until_connected(&listener, false).await;
        // At once: the next connection does it.
        listener.listen("fourth").await.unwrap();
        sleep(Duration::from_millis(300)).await;
        server.restart().await;
        let client = spy(server.config()).await;
        // What was heard before the loss is not lost.
        if round == 1 {
            assert_eq!(notified(&mut listener).await.1, "before");
        }
        reconnected(&mut listener).await;
        assert_eq!(figure(&listener, "reconnects"), f64::from(round));
        notify(&client, "third", "").await;
        for channel in ["orders", "Second \"channel\"", "fourth"] {
            notify(&client, channel, "after").await;
            assert_eq!(notified(&mut listener).await, (channel.to_owned(), "after".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cut_is_told_once() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let (proxy, url) = proxied(&test).await;
    let mut listener = Listener::connect(&config(&url), ["orders"]).await.unwrap();
    for round in 1..=3 {
        proxy.cut();
        reconnected(&mut listener).await;
        quiet(&mut listener, &spy, "orders").await;
        assert_eq!(figure(&listener, "reconnects"), f64::from(round));
        until_backends(&spy, LISTENER, 1).await;
    }
    // Each comes later than the one before, as none lasted: 0.1, 0.2 and 0.4 s at the most.
    proxy.set(Fault::Refuse);
    proxy.cut();
    until_connected(&listener, false).await;
    sleep(Duration::from_secs(1)).await;
    proxy.set(Fault::Pass);
    reconnected(&mut listener).await;
    quiet(&mut listener, &spy, "orders").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_dead_without_a_word_is_noticed_within_seven_seconds() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let (proxy, url) = proxied(&test).await;
    let mut listener = Listener::connect(&config(&url), ["orders"]).await.unwrap();
    proxy.set(Fault::BlackHole);
    notify(&spy, "orders", "missed").await;
    // A wish that is given up is none, whatever became of it.
    let error =
        Deadline::after(Duration::from_millis(100)).scope(listener.listen("given up")).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    // One that is not is kept for the next connection.
    let start = Instant::now();
    timeout(Duration::from_secs(10), listener.listen("kept")).await.expect("it is noticed").unwrap();
    let took = start.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_millis(7_500), "{took:?}");
    assert!(!listener.is_connected());
    proxy.set(Fault::Pass);
    reconnected(&mut listener).await;
    notify(&spy, "given up", "").await;
    quiet(&mut listener, &spy, "orders").await;
    quiet(&mut listener, &spy, "kept").await;

    proxy.set(Fault::BlackHole);
    let limit = Duration::from_millis(300);
    let start = Instant::now();
    let error = Deadline::after(limit).scope(Listener::connect(&config(&url), ["orders"])).await.unwrap_err();
    assert!(matches!(error, Error::Connect { cause: ConnectError::TimedOut(given), .. } if given <= limit));
    let error = Listener::connect(&config(&url).with_connect_timeout(limit), ["orders"]).await.unwrap_err();
    assert!(matches!(error, Error::Connect { cause: ConnectError::TimedOut(given), .. } if given == limit));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_wishes_at_once_the_server_and_the_next_connection_know_the_same_last_one() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let mut listener = Listener::connect(&config(&test.url()), ["marker"]).await.unwrap();
    let names: Vec<String> = (0..16).map(|n| format!("channel {n}")).collect();
    let mut seen = [0, 0];
    for _ in 0..4 {
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..8 {
            for name in names.clone() {
                let channels = listener.channels();
                callers.spawn(async move {
                    match n % 4 {
                        0 => channels.listen(name).await,
                        1 | 2 => channels.unlisten(name).await,
                        // Given up at once, or not.
                        _ => timeout(Duration::ZERO, channels.listen(name)).await.unwrap_or(Ok(())),
                    }
                });
            }
        }
        callers.join_all().await.into_iter().for_each(|done| done.unwrap());
        let before = heard_of(&mut listener, &spy, &names).await;
        spy.execute(KILL, &[]).await.unwrap();
        reconnected(&mut listener).await;
        assert_eq!(heard_of(&mut listener, &spy, &names).await, before);
        seen[0] += names.len() - before.len();
        seen[1] += before.len();
    }
    eprintln!("the last one did not want it, and did: {seen:?}");
    assert!(!seen.contains(&0), "{seen:?}");
}

/// Of which of these channels it hears.
async fn heard_of(listener: &mut Listener, spy: &Client, names: &[String]) -> Vec<String> {
    for name in names {
        notify(spy, name, "").await;
    }
    notify(spy, "marker", "").await;
    let mut heard = Vec::new();
    loop {
        match notified(listener).await.0 {
            channel if channel == "marker" => return heard,
            channel => heard.push(channel),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_is_tried_for_ever() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let role = format!("listener_of_{}", test.name());
    spy.batch_execute(&format!("create role {role} login")).await.unwrap();
    let url = test.url().replace("postgres@", &format!("{role}@"));
    let mut listener = Listener::connect(&config(&url), ["orders"]).await.unwrap();
    spy.batch_execute(&format!("alter role {role} nologin")).await.unwrap();
    spy.execute(KILL, &[]).await.unwrap();
    until_connected(&listener, false).await;
    let refused = Listener::connect(&config(&url), ["orders"]).await.unwrap_err();
    assert_eq!(refused.sqlstate().map(|state| state.code()), Some("28000"), "{refused}");
    assert!(timeout(Duration::from_secs(1), listener.next()).await.is_err());
    spy.batch_execute(&format!("alter role {role} login")).await.unwrap();
    reconnected(&mut listener).await;
    quiet(&mut listener, &spy, "orders").await;
    drop(listener);
    until_backends(&spy, LISTENER, 0).await;
    spy.batch_execute(&format!("drop role {role}")).await.unwrap();
}

#[tokio::test]
async fn a_name_that_the_encoding_does_not_have_is_refused_and_harms_no_other() {
    let test = TestDatabase::new().await;
    let name = format!("{}_latin", test.name());
    let create = format!("create database {name} encoding 'LATIN1' locale 'C' template template0");
    spy(test.config()).await.batch_execute(&create).await.unwrap();
    let url = test.url().replace(test.name(), &name);
    let client = spy(url.parse().unwrap()).await;
    let error = Listener::connect(&config(&url), ["orders", "東京"]).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("22P05"), "{error}");
    let mut listener = Listener::connect(&config(&url), ["orders", "größe"]).await.unwrap();
    let error = listener.listen("東京").await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("22P05"), "{error}");
    client.execute(KILL, &[]).await.unwrap();
    reconnected(&mut listener).await;
    // While there is no connection, nobody can know.
    client.execute(KILL, &[]).await.unwrap();
    until_connected(&listener, false).await;
    listener.listen("東京").await.unwrap();
    reconnected(&mut listener).await;
    quiet(&mut listener, &client, "orders").await;
    quiet(&mut listener, &client, "größe").await;
}
