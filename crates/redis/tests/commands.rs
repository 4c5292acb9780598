//! Commands and answers on a real server.

mod support;

use std::{collections::HashMap, time::Duration};

use buttress_core::{Classify, Deadline, Metric, Observe, Outcome, Reason, Rejectable, Value as Figure};
use buttress_redis::{Command, Error, KindClassifier, Redis, Value};
use buttress_testkit::RedisServer;
use support::{config, connect, ms};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

#[tokio::test]
async fn arguments_and_answers_are_any_bytes() {
    let server = RedisServer::start().await;
    let mut redis = connect(&server).await;
    let key = b"\x00\xffkey \r\n";
    redis.ready().await.unwrap().call(Command::set(key, vec![0, 255, 13, 10])).await.unwrap();
    let value: Vec<u8> = redis.send(Command::get(key)).await.unwrap().convert().unwrap();
    assert_eq!(value, [0, 255, 13, 10]);
    redis.send(Command::set("empty", "")).await.unwrap();
    let values: Vec<Option<String>> =
        redis.send(Command::mget(["empty", "absent"])).await.unwrap().convert().unwrap();
    assert_eq!(values, [Some(String::new()), None]);
    assert_eq!(redis.send(Command::incr("n")).await.unwrap().convert::<i64>().unwrap(), 1);
    assert_eq!(redis.send(Command::del("n")).await.unwrap().convert::<i64>().unwrap(), 1);

    redis.send(Command::new("hset").args(["h", "a", "1", "b", "2"])).await.unwrap();
    let hash: HashMap<String, u32> =
        redis.send(Command::new("HGETALL").arg("h")).await.unwrap().convert().unwrap();
    assert_eq!(hash, HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]));
}

#[tokio::test]
async fn times_to_live_are_set() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::set_ex("k", "v", Duration::from_secs(60))).await.unwrap();
    let left: i64 = redis.send(Command::new("PTTL").arg("k")).await.unwrap().convert().unwrap();
    assert!((59_000..=60_000).contains(&left), "{left}");
    redis.send(Command::expire("k", Duration::ZERO)).await.unwrap();
    tokio::time::sleep(ms(20)).await;
    assert_eq!(redis.send(Command::get("k")).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_servers_error_has_its_code_and_leaves_the_connection_usable() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::set("text", "v")).await.unwrap();
    let wrong = redis.send(Command::new("LPUSH").arg("text").arg("v")).await;
    assert_eq!(KindClassifier.classify(&wrong), Outcome::Ignored);
    assert!(matches!(wrong, Err(Error::Server(error)) if error.code() == "WRONGTYPE"));

    let unknown = redis.send(Command::new("NONSENSE").arg("hunter2")).await.unwrap_err();
    assert!(!format!("{unknown} {unknown:?}").contains("hunter2"), "{unknown:?}");
    assert!(
        matches!(unknown, Error::Server(error) if error.code() == "ERR" && error.text().contains("hunter2"))
    );
    assert_eq!(redis.send(Command::get("text")).await.unwrap().convert::<String>().unwrap(), "v");
}

#[tokio::test]
async fn an_answer_of_another_type_is_a_decode_error() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::set("secret", "hunter2")).await.unwrap();
    let number = redis.send(Command::get("secret")).await.unwrap().convert::<i64>();
    let error = Error::from(number.unwrap_err());
    assert!(matches!(error, Error::Decode(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let nil = redis.send(Command::get("absent")).await.unwrap().convert::<i64>().map_err(Error::from);
    assert!(matches!(nil, Err(Error::Decode(_))), "{nil:?}");
}

#[tokio::test]
async fn commands_that_would_change_the_shared_connection_are_refused() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    for command in
        [Command::new("multi"), Command::new("BLPOP").arg("q").arg(0), Command::new("SELECT").arg(1)]
    {
        let error = redis.send(command).await.unwrap_err();
        assert!(matches!(error, Error::Unshareable(_)) && !error.sent(), "{error:?}");
    }
    assert_eq!(redis.send(Command::ping()).await.unwrap().convert::<String>().unwrap(), "PONG");
}

#[tokio::test]
async fn a_name_that_is_not_one_printable_word_is_refused_unsent() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::set("k", "v")).await.unwrap();
    for name in [
        "",
        " ",
        "MULTI ",
        "\nMULTI",
        "multi\r\n",
        "\tGET",
        "CLIENT REPLY",
        "CLIENT REPLY OFF",
        "GET\0",
        "GÉT",
    ] {
        let error = redis.send(Command::new(name).arg("OFF")).await.unwrap_err();
        assert!(matches!(error, Error::InvalidName) && !error.sent(), "{name:?}: {error:?}");
        assert_eq!(KindClassifier.classify(&Err::<(), _>(error)), Outcome::Ignored);
        let value: String = redis.send(Command::get("k")).await.unwrap().convert().unwrap();
        assert_eq!(value, "v", "after {name:?}");
    }
}

#[tokio::test]
async fn a_group_may_have_any_name_and_still_nobody_blocks_the_connection() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    for group in ["STREAMS", "block"] {
        let create = Command::new("XGROUP").args(["CREATE", "s", group, "$", "MKSTREAM"]);
        redis.send(create).await.unwrap();
        let read = Command::new("XREADGROUP").args(["GROUP", group, "streams"]);
        let blocking = read.clone().args(["BLOCK", "5000", "STREAMS", "s", ">"]);
        let error = redis.send(blocking).await.unwrap_err();
        assert!(matches!(error, Error::Unshareable("XREADGROUP BLOCK")), "{error:?}");
        assert_eq!(redis.send(read.args(["STREAMS", "s", ">"])).await.unwrap(), Value::Null);
    }
}

#[tokio::test]
async fn maps_come_as_maps_and_scores_as_pairs() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::new("HSET").args(["h", "a", "1"])).await.unwrap();
    let map = redis.send(Command::new("HGETALL").arg("h")).await.unwrap();
    assert!(map.is_map(), "{map:?}");
    redis.send(Command::new("ZADD").args(["z", "1.5", "a", "2", "b"])).await.unwrap();
    let range = Command::new("ZRANGE").args(["z", "0", "-1", "WITHSCORES"]);
    let scores: Vec<(String, f64)> = redis.send(range).await.unwrap().convert().unwrap();
    assert_eq!(scores, [("a".to_owned(), 1.5), ("b".to_owned(), 2.0)]);
    redis.send(Command::new("SADD").args(["s", "m"])).await.unwrap();
    let members: Vec<String> =
        redis.send(Command::new("SMEMBERS").arg("s")).await.unwrap().convert().unwrap();
    assert_eq!(members, ["m"]);
}

#[tokio::test]
async fn many_tasks_share_one_connection_and_each_gets_its_own_answer() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let redis = redis.clone();
            tokio::spawn(async move {
                for round in 0..50 {
                    let value = format!("{task}-{round}");
                    redis.send(Command::set(format!("k{task}"), &value)).await.unwrap();
                    let read: String =
                        redis.send(Command::get(format!("k{task}"))).await.unwrap().convert().unwrap();
                    assert_eq!(read, value);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let clients: String = redis.send(Command::new("CLIENT").arg("LIST")).await.unwrap().convert().unwrap();
    assert_eq!(clients.lines().count(), 1, "{clients}");
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let call = Deadline::after(Duration::ZERO).scope(async { redis.send(Command::incr("n")).await });
    let error = call.await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::DeadlineExceeded);
    assert!(!error.sent());
    assert_eq!(redis.send(Command::get("n")).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn a_deadline_shorter_than_the_command_timeout_ends_the_call() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    server.pause();
    let start = Instant::now();
    let error = Deadline::after(ms(60)).scope(redis.send(Command::get("k"))).await.unwrap_err();
    assert!(start.elapsed() < ms(250), "{:?}", start.elapsed());
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::DeadlineExceeded, true));
    server.resume();
}

#[tokio::test]
async fn a_unix_socket_and_several_connections_do_as_well() {
    let server = RedisServer::start().await;
    let url = format!("redis+unix://{}", server.unix_path().display());
    let redis = Redis::connect(config(&url).with_pool_size(3).with_name("several")).await.unwrap();
    for n in 1..=30 {
        assert_eq!(redis.send(Command::incr("n")).await.unwrap().convert::<i64>().unwrap(), n);
    }
    let mut figures = Vec::new();
    redis.observe(&mut |metric| figures.push(metric));
    assert!(figures.contains(&Metric::new("connections", Figure::Gauge(3.0))), "{figures:?}");
    let clients: String = redis.send(Command::new("CLIENT").arg("LIST")).await.unwrap().convert().unwrap();
    assert_eq!(clients.lines().count(), 3, "{clients}");
}
