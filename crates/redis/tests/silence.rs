//! Connections that are dead without a word, and those that only look like it.

mod support;

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_redis::{Command, Error, Redis};
use buttress_testkit::{Fault, FaultProxy, RedisServer};
use support::{behind, config, ms, until_answered};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn impatient_callers_do_not_give_up_a_healthy_connection() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let config = config(&format!("redis://{}", proxy.addr())).with_command_timeout(ms(100));
    let redis = Redis::connect(config).await.unwrap();
    let accepted = proxy.accepted();
    proxy.set(Fault::Latency(ms(30)));
    let (start, mut sent) = (Instant::now(), 0);
    // Silence would be one second.
    while start.elapsed() < ms(2500) {
        Deadline::after(ms(10)).scope(redis.send(Command::incr("n"))).await.unwrap_err();
        sent += 1;
    }
    proxy.set(Fault::Pass);
    sleep(ms(200)).await;
    assert_eq!(proxy.accepted(), accepted, "it answered all the time, though too late for them");
    let counted: i32 = redis.send(Command::get("n")).await.unwrap().convert().unwrap();
    assert!((sent - sent / 10..=sent).contains(&counted), "{counted} of {sent}");
}

#[tokio::test]
async fn a_dead_connection_is_made_anew_though_all_callers_are_impatient() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    until_answered(&redis, Command::ping()).await;
    proxy.set(Fault::BlackHole);
    Deadline::after(ms(20)).scope(redis.send(Command::ping())).await.unwrap_err();
    // The connection has lost bytes and stays dead for ever; a new one would work.
    proxy.set(Fault::Pass);
    let start = Instant::now();
    while Deadline::after(ms(20)).scope(redis.send(Command::ping())).await.is_err() {
        assert!(start.elapsed() < ms(6000), "it never came back");
    }
}

#[tokio::test]
async fn what_timed_out_counts_as_in_flight_until_it_is_answered() {
    const VALUE: usize = 8192;
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let config = config(&format!("redis://{}", proxy.addr())).with_max_queued(10).with_max_in_flight(100);
    let redis = Redis::connect(config.with_name("in_flight")).await.unwrap();
    proxy.set(Fault::Latency(ms(600)));
    let mut refused = 0;
    for _ in 0..3 {
        let calls: Vec<_> = (0..400)
            .map(|_| {
                let redis = redis.clone();
                tokio::spawn(async move { redis.send(Command::set("k", vec![b'x'; VALUE])).await })
            })
            .collect();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            match error.rejected().map(|rejected| (rejected.reason(), rejected.sent())) {
                Some((Reason::Overloaded, false)) => refused += 1,
                Some((Reason::TimedOut, true)) => {}
                _ => panic!("{error:?}"),
            }
        }
    }
    assert!(refused >= 3 * 400 - 110 * 3, "{refused}");
    proxy.set(Fault::Pass);
    for _ in 0..100 {
        if in_flight(&redis) == 0.0 {
            until_answered(&redis, Command::ping()).await;
            return;
        }
        sleep(ms(50)).await;
    }
    panic!("{} are never given back", in_flight(&redis));
}

#[tokio::test]
async fn a_new_connection_begins_with_nothing_in_flight() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let config = config(&format!("redis://{}", proxy.addr())).with_max_queued(10).with_max_in_flight(100);
    let redis = Redis::connect(config.with_name("nothing_in_flight")).await.unwrap();
    proxy.set(Fault::BlackHole);
    let (mut calls, mut timed_out) = (Vec::new(), 0);
    for _ in 0..150 {
        calls.push(tokio::spawn(redis.send(Command::incr("n"))));
        sleep(ms(1)).await;
    }
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        timed_out += usize::from(matches!(&error, Error::Rejected(why) if why.reason() == Reason::TimedOut));
    }
    assert!((100..=110).contains(&timed_out), "{timed_out}");
    assert!(in_flight(&redis) >= 100.0, "nobody answers them");
    let error = redis.send(Command::ping()).await.unwrap_err();
    assert_eq!(error.rejected().map(|why| why.reason()), Some(Reason::Overloaded));
    // Nobody else times out, and yet the dead connection is given up.
    proxy.set(Fault::Pass);
    until_answered(&redis, Command::ping()).await;
    assert_eq!(in_flight(&redis), 0.0);
}

fn in_flight(redis: &Redis) -> f64 {
    use buttress_core::{Observe, Value};

    let mut found = None;
    redis.observe(&mut |metric| {
        if metric.name == "commands_in_flight" {
            found = Some(metric.value);
        }
    });
    match found {
        Some(Value::Gauge(count)) => count,
        other => panic!("{other:?}"),
    }
}
