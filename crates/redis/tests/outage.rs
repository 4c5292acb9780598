//! The server goes away, hangs, and comes back.

mod support;

use buttress_circuit_breaker::{CircuitBreakerLayer, State, Trip};
use buttress_core::{Classify, Deadline, Outcome, Reason, Rejectable};
use buttress_redis::{Command, Error, KindClassifier, Redis, Value};
use buttress_testkit::{Fault, FaultProxy, RedisServer};
use buttress_timeout::TimeoutLayer;
use support::{behind, config, connect, ms, until_answered};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder, ServiceExt};

/// Sends a command whose answer is on its way when the connection breaks.
async fn with_the_answer_cut_off(
    proxy: &FaultProxy,
    redis: &Redis,
    command: Command,
) -> Result<Value, Error> {
    proxy.set(Fault::Latency(ms(100)));
    let call = tokio::spawn(redis.send(command));
    sleep(ms(50)).await;
    proxy.cut();
    proxy.set(Fault::Pass);
    call.await.unwrap()
}

#[tokio::test]
async fn regression_34_a_command_that_is_not_idempotent_is_sent_once() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    let direct = connect(&server).await;

    let error = with_the_answer_cut_off(&proxy, &redis, Command::incr("n")).await.unwrap_err();
    assert!(matches!(error, Error::Connection(_)) && error.sent(), "{error:?}");
    until_answered(&redis, Command::ping()).await;
    sleep(ms(400)).await;
    assert_eq!(
        direct.send(Command::get("n")).await.unwrap().convert::<i64>().unwrap(),
        1,
        "applied, and once"
    );

    let answer = with_the_answer_cut_off(&proxy, &redis, Command::incr("m").repeatable()).await;
    assert_eq!(answer.unwrap().convert::<i64>().unwrap(), 2, "sent again because the caller said so");
}

#[tokio::test]
async fn regression_34_an_idempotent_command_is_sent_again() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    redis.send(Command::set("k", "v")).await.unwrap();
    let answer = with_the_answer_cut_off(&proxy, &redis, Command::get("k")).await.unwrap();
    assert_eq!(answer.convert::<String>().unwrap(), "v");
}

#[tokio::test]
async fn regression_34_a_dead_server_ends_in_a_timeout_and_a_restarted_one_works_by_itself() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::set("k", "v")).await.unwrap();
    server.kill().await;

    for command in [Command::get("k"), Command::incr("n")] {
        let start = Instant::now();
        let result = redis.send(command).await;
        assert!(start.elapsed() < ms(600), "{:?}", start.elapsed());
        assert_eq!(KindClassifier.classify(&result), Outcome::Failure, "{result:?}");
        result.unwrap_err();
    }
    assert!(!redis.is_connected());

    server.restart().await;
    assert_eq!(until_answered(&redis, Command::get("k")).await, Value::Null, "it begins empty");
    assert!(redis.is_connected());
    sleep(ms(400)).await;
    let n = redis.send(Command::get("n")).await.unwrap();
    assert_eq!(n, Value::Null, "a command that timed out while it waited is never sent");
}

#[tokio::test]
async fn regression_34_the_queue_is_bounded() {
    let server = RedisServer::start().await;
    let config = config(&server.url()).with_max_queued(10).with_name("queue_is_bounded");
    let redis = Redis::connect(config).await.unwrap();
    server.kill().await;
    until_disconnected(&redis).await;

    let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(redis.send(Command::get("k")))).collect();
    sleep(ms(50)).await;
    let start = Instant::now();
    let error = redis.send(Command::get("k")).await.unwrap_err();
    assert!(start.elapsed() < ms(50), "refused at once");
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::Overloaded));
    assert!(!error.sent());
    for call in waiting {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::TimedOut));
    }
    server.restart().await;
    until_answered(&redis, Command::ping()).await;
}

async fn until_disconnected(redis: &Redis) {
    for _ in 0..200 {
        if !redis.is_connected() {
            return;
        }
        sleep(ms(10)).await;
    }
    panic!("still connected");
}

#[tokio::test]
async fn a_deadline_that_passes_while_the_server_is_away_is_a_failure_of_the_servers() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    server.kill().await;
    until_disconnected(&redis).await;
    let start = Instant::now();
    let result = Deadline::after(ms(80)).scope(redis.send(Command::get("k"))).await;
    assert!((ms(75)..ms(250)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(KindClassifier.classify(&result), Outcome::Failure, "{result:?}");
    let error = result.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::TimedOut));

    let result = Deadline::after(ms(0)).scope(async { redis.send(Command::get("k")).await }).await;
    assert_eq!(KindClassifier.classify(&result), Outcome::Ignored, "nothing was begun");
    let error = result.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert!(!error.sent());
}

#[tokio::test]
async fn a_breaker_opens_while_the_server_is_away_or_hangs() {
    let server = RedisServer::start().await;
    for kill in [false, true] {
        let redis = connect(&server).await;
        let trip = Trip::consecutive(3).unwrap();
        let layer = CircuitBreakerLayer::builder("away").trip(trip).classify(KindClassifier).build();
        let breaker = layer.breaker();
        let mut service =
            ServiceBuilder::new().layer(layer).layer(TimeoutLayer::new(ms(50))).service(redis.clone());
        if kill {
            server.kill().await;
            until_disconnected(&redis).await;
        } else {
            server.pause();
        }
        for _ in 0..3 {
            assert_eq!(breaker.state(), State::Closed);
            service.ready().await.unwrap().call(Command::get("k")).await.unwrap_err();
        }
        assert_eq!(breaker.state(), State::Open);
        if !kill {
            server.resume();
        }
    }
}

#[tokio::test]
async fn a_command_dropped_during_an_outage_is_not_carried_out_at_its_end() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    server.kill().await;
    until_disconnected(&redis).await;
    for _ in 0..5 {
        let dropped = tokio::time::timeout(ms(20), redis.send(Command::incr("n"))).await;
        assert!(dropped.is_err(), "{dropped:?}");
    }
    // Longer than the commands' time limit.
    sleep(ms(400)).await;
    server.restart().await;
    until_answered(&redis, Command::ping()).await;
    assert_eq!(redis.send(Command::get("n")).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_hanging_server_ends_in_a_timeout_and_goes_on_where_it_was() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    server.pause();
    let start = Instant::now();
    let error = redis.send(Command::incr("n")).await.unwrap_err();
    assert!((ms(300)..ms(600)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::TimedOut, true));
    server.resume();
    let n: i64 = until_answered(&redis, Command::incr("n")).await.convert().unwrap();
    assert_eq!(n, 2, "the first one was on the wire; its late answer goes to nobody else");
}

#[tokio::test]
async fn a_connection_that_died_silently_is_made_anew_under_steady_traffic() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    until_answered(&redis, Command::ping()).await;
    proxy.set(Fault::BlackHole);
    let traffic: Vec<_> = (0..4)
        .map(|_| {
            let redis = redis.clone();
            tokio::spawn(async move {
                let start = Instant::now();
                let mut timeouts = 0;
                while start.elapsed() < ms(15_000) {
                    match redis.send(Command::get("k")).await {
                        Ok(_) if timeouts > 0 => return timeouts,
                        Ok(_) => sleep(ms(10)).await,
                        Err(_) => timeouts += 1,
                    }
                }
                panic!("it never came back");
            })
        })
        .collect();
    sleep(ms(200)).await;
    // The connection has lost bytes and stays dead for ever; a new one would work.
    proxy.set(Fault::Pass);
    for task in traffic {
        let timeouts = task.await.unwrap();
        assert!(timeouts < 20, "{timeouts}");
    }
}
