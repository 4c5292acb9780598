//! Caps on connections that change while calls run and wait.

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use buttress_core::SettingValue;
use buttress_http::{Error, HttpClient, InvalidConfig};
use buttress_testkit::observed::settings;
use support::{Client, answer, build, ms, read_head, server, text};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Answers each request once there is a permit, on connections that it keeps.
async fn held(permits: &Arc<Semaphore>) -> SocketAddr {
    let permits = Arc::clone(permits);
    server(move |mut stream, _| {
        let permits = Arc::clone(&permits);
        async move {
            loop {
                read_head(&mut stream).await?;
                permits.acquire().await.unwrap().forget();
                answer(&mut stream, "here").await?;
            }
        }
    })
    .await
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < ms(5_000), "never: {what}");
        sleep(ms(2)).await;
    }
}

fn spawn(client: &Client, addr: SocketAddr, many: usize) -> Vec<JoinHandle<Result<String, Error>>> {
    let call = |client: Client| async move { text(&client, &format!("http://{addr}/")).await };
    (0..many).map(|_| tokio::spawn(call(client.clone()))).collect()
}

async fn answered(calls: Vec<JoinHandle<Result<String, Error>>>) {
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "here");
    }
}

#[tokio::test]
async fn a_higher_cap_lets_those_in_who_wait() {
    let permits = Arc::new(Semaphore::new(0));
    let addr = held(&permits).await;
    let client = build(HttpClient::builder().max_connections_per_host(1).max_connections(3));
    let connections = client.connections();
    let calls = spawn(&client, addr, 6);
    until("one is there and five wait", || (connections.open(), connections.waiting()) == (1, 5)).await;
    connections.set_max_connections_per_host(5).unwrap();
    until("the cap on all holds", || (connections.open(), connections.waiting()) == (3, 3)).await;
    connections.set_max_connections(100).unwrap();
    until("that of the host holds", || (connections.open(), connections.waiting()) == (5, 1)).await;
    permits.add_permits(6);
    answered(calls).await;
}

#[tokio::test]
async fn with_a_lower_cap_those_beyond_it_are_closed_as_they_come_back() {
    for of_host in [true, false] {
        let permits = Arc::new(Semaphore::new(0));
        let addr = held(&permits).await;
        let client = build(HttpClient::builder());
        let connections = client.connections();
        let calls = spawn(&client, addr, 6);
        until("six are there", || connections.opened() == 6).await;
        if of_host {
            connections.set_max_connections_per_host(2).unwrap();
        } else {
            connections.set_max_connections(2).unwrap();
        }
        let late = spawn(&client, addr, 3);
        sleep(ms(30)).await;
        assert_eq!(connections.open(), 6, "nothing is cut off");
        permits.add_permits(9);
        answered(calls).await;
        answered(late).await;
        // More may be closed, where they became idle in the same millisecond.
        until("two stay at most", || connections.open() <= 2).await;
        // Nobody brings them back.
        permits.add_permits(20);
        answered(spawn(&client, addr, 20)).await;
        assert!(connections.open() <= 2);
    }
}

#[tokio::test]
async fn idle_ones_beyond_it_are_closed_at_once() {
    let permits = Arc::new(Semaphore::new(0));
    let addr = held(&permits).await;
    let client = build(HttpClient::builder());
    let connections = client.connections();
    let calls = spawn(&client, addr, 5);
    until("five are there", || connections.opened() == 5).await;
    permits.add_permits(5);
    answered(calls).await;
    until("five are idle", || connections.idle() == 5).await;
    connections.set_max_connections_per_host(1).unwrap();
    until("one stays at most", || connections.open() <= 1).await;
}

/// Callers who never leave a connection idle for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_call_fails_while_the_caps_change() {
    let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
    let addr = held(&permits).await;
    let client = build(HttpClient::builder().max_connections_per_host(8));
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (client, over) = (client.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    assert_eq!(text(&client, &format!("http://{addr}/")).await.unwrap(), "here");
                }
            })
        })
        .collect();
    let connections = client.connections();
    for cap in [2, 12, 1, 8, 3, 16, 2] {
        connections.set_max_connections_per_host(cap).unwrap();
        until("the cap is reached", || connections.open() <= cap).await;
        sleep(ms(20)).await;
        assert!(connections.open() <= cap);
    }
    over.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
}

#[test]
fn settings_are_those_that_were_set_and_zero_is_refused() {
    let client: Client = build(HttpClient::builder());
    let connections = client.connections();
    connections.set_max_connections_per_host(7).unwrap();
    connections.set_max_connections(70).unwrap();
    for refused in [connections.set_max_connections_per_host(0), connections.set_max_connections(0)] {
        assert!(matches!(refused, Err(InvalidConfig::NoConnections)), "{refused:?}");
    }
    let told = settings(&connections);
    let value = |name| told.iter().find(|setting| setting.name == name).unwrap().value;
    assert_eq!(value("max_connections_per_host"), SettingValue::Count(7));
    assert_eq!(value("max_connections"), SettingValue::Count(70));
    assert_eq!(value("max_waiting"), SettingValue::Count(1000));
}

/// Of three calls one goes on for long: it must not be its connection that everybody waits for.
#[tokio::test]
async fn with_a_lower_cap_idle_ones_make_room_for_another_host_though_the_oldest_is_busy() {
    let (long, short) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let permits = [Arc::clone(&long), Arc::clone(&short)];
    let addr = server(move |mut stream, before| {
        let permits = Arc::clone(&permits[before.min(1)]);
        async move {
            loop {
                read_head(&mut stream).await?;
                permits.acquire().await.unwrap().forget();
                answer(&mut stream, "here").await?;
            }
        }
    })
    .await;
    let other = held(&Arc::new(Semaphore::new(1))).await;
    let client = build(HttpClient::builder().max_connections(3));
    let connections = client.connections();
    let first = spawn(&client, addr, 1);
    until("the long one is there", || connections.opened() == 1).await;
    sleep(ms(20)).await;
    let calls = spawn(&client, addr, 2);
    until("three are there", || connections.opened() == 3).await;
    connections.set_max_connections(2).unwrap();
    let waits = spawn(&client, other, 1);
    until("it waits", || connections.waiting() == 1).await;
    short.add_permits(2);
    answered(calls).await;
    until("nobody waits", || connections.waiting() == 0).await;
    answered(waits).await;
    long.add_permits(1);
    answered(first).await;
}
