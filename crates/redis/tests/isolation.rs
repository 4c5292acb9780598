//! Nobody ever gets another caller's answer.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use buttress_redis::{
    Command, Error, Redis, Value,
    fred::{
        interfaces::ClientLike,
        types::{ClusterHash, CustomCommand},
    },
};
use buttress_testkit::RedisServer;
use support::{connect, ms, until_answered};
use tokio::{task::JoinHandle, time::sleep};

/// Reads `user`'s own key until `stop`, and says how often it was read rightly.
fn reader(redis: &Redis, user: usize, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (redis, stop) = (redis.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut right = 0;
        while !stop.load(Relaxed) {
            // Connections end meanwhile: an error is an honest answer, another's value is not.
            if let Ok(value) = redis.send(Command::get(format!("session:{user}"))).await {
                assert_eq!(value.convert::<Option<String>>().unwrap(), Some(format!("user-{user}")));
                right += 1;
            }
            sleep(ms(1)).await;
        }
        right
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_is_no_utf8_shifts_nobodys_answer() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    for user in 0..8 {
        redis.send(Command::set(format!("session:{user}"), format!("user-{user}"))).await.unwrap();
    }
    let stop = Arc::default();
    let readers: Vec<_> = (0..8).map(|user| reader(&redis, user, &stop)).collect();
    for command in [
        Command::new("EVAL").arg("error('no such key ' .. ARGV[1])").arg(0).arg(b"\xff"),
        Command::new("EVAL").arg("return redis.error_reply(ARGV[1])").arg(0).arg(b"ERR \xff"),
        Command::new("NOSUCH").arg(b"\xff\xfe"),
        Command::new("OBJECT").arg(b"\xff"),
    ] {
        sleep(ms(100)).await;
        let name = command.name().to_owned();
        let answer = redis.send(command).await;
        assert!(answer.as_ref().is_err_and(|error| error.sent()), "{name}: {answer:?}");
        // The connection is made anew, and the readers go on.
        until_answered(&redis, Command::ping()).await;
    }
    sleep(ms(300)).await;
    stop.store(true, Relaxed);
    for reader in readers {
        let right = reader.await.unwrap();
        assert!(right > 50, "{right}");
    }
}

#[tokio::test]
async fn what_the_server_pushes_unasked_is_nobodys_answer() {
    let server = RedisServer::start().await;
    let (redis, other) = (connect(&server).await, connect(&server).await);
    redis.send(Command::set("k", "old")).await.unwrap();
    let id: i64 = redis.send(Command::new("CLIENT").arg("ID")).await.unwrap().convert().unwrap();
    let tracking = Command::new("CLIENT").args(["TRACKING", "ON", "REDIRECT"]).arg(id).arg("BCAST");
    let error = other.send(tracking).await.unwrap_err();
    assert!(matches!(error, Error::Unshareable("CLIENT TRACKING")), "{error:?}");

    // Somebody else's client is not held back from it.
    let driver = other.driver().next();
    let tracking = ["TRACKING", "ON", "REDIRECT", &id.to_string(), "BCAST"].map(str::to_owned);
    let client = CustomCommand::new_static("CLIENT", ClusterHash::Random, false);
    let _ok: Value = driver.custom(client, tracking.to_vec()).await.unwrap();
    for round in 0..20 {
        let (set, get, ping) = tokio::join!(
            redis.send(Command::set("k", round)),
            redis.send(Command::get("k")),
            redis.send(Command::ping()),
        );
        assert_eq!(set.unwrap().convert::<String>().unwrap(), "OK");
        assert_eq!(get.unwrap().convert::<i32>().unwrap(), round);
        assert_eq!(ping.unwrap().convert::<String>().unwrap(), "PONG");
    }
}
