//! A cluster whose slots move.

mod support;

use std::net::SocketAddr;

use buttress_redis::{Command, Error, Redis};
use buttress_testkit::RedisCluster;
use support::{config, ms, until_answered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

async fn connect(cluster: &RedisCluster) -> Redis {
    Redis::connect(config(&cluster.url()).with_command_timeout(ms(1000))).await.unwrap()
}

async fn ask(addr: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

async fn count(redis: &Redis, key: &str) -> i64 {
    until_answered(redis, Command::get(key)).await.convert().unwrap()
}

#[tokio::test]
async fn the_key_finds_the_node_wherever_it_stands() {
    let cluster = RedisCluster::start().await;
    let redis = connect(&cluster).await;
    let moved = async || {
        let mut count = 0;
        for addr in cluster.addrs() {
            let stats = ask(addr, "INFO errorstats").await;
            let line = stats.lines().find_map(|line| line.strip_prefix("errorstat_MOVED:count="));
            count += line.map_or(0, |count| count.parse::<u32>().unwrap());
        }
        count
    };
    for number in 0..30 {
        let key = format!("key:{number}");
        let script = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
        let eval = Command::new("EVAL").arg(script).arg(1).arg(&key).arg(number);
        assert_eq!(redis.send(eval).await.unwrap().convert::<i32>().unwrap(), number);
        let encoding = redis.send(Command::new("OBJECT").arg("ENCODING").arg(&key)).await.unwrap();
        assert_eq!(encoding.convert::<String>().unwrap(), "int");
        assert_eq!(count(&redis, &key).await, i64::from(number));
    }
    assert_eq!(moved().await, 0, "each went to the right node at once");
}

#[tokio::test]
async fn a_command_that_is_sent_once_is_directed_to_the_new_master() {
    let cluster = RedisCluster::start().await;
    let redis = connect(&cluster).await;
    for key in ["a", "b", "c", "d"] {
        redis.send(Command::incr(key)).await.unwrap();
    }
    for key in ["a", "b", "c"] {
        cluster.switch_master_of(key).await;
        // The old master lives on, and says where the key is now.
        let answer = redis.send(Command::incr(key)).await.unwrap();
        assert_eq!(answer.convert::<i64>().unwrap(), 2);
        let answer = redis.send(Command::get(key)).await.unwrap();
        assert_eq!(answer.convert::<i64>().unwrap(), 2);
    }
}

#[tokio::test]
async fn a_killed_master_is_replaced_and_commands_work_again_by_themselves() {
    let cluster = RedisCluster::start().await;
    let redis = connect(&cluster).await;
    let answers = [redis.send(Command::incr("a")).await, redis.send(Command::incr("b")).await];
    assert!(answers.iter().all(Result::is_ok));
    sleep(ms(100)).await;
    cluster.kill_master_of("a").await;
    cluster.master_of("a").await;
    assert_eq!(count(&redis, "a").await, 1);
    assert_eq!(count(&redis, "b").await, 1);
    let answer = redis.send(Command::incr("a")).await.unwrap();
    assert_eq!(answer.convert::<i64>().unwrap(), 2);
}

#[tokio::test]
async fn a_slot_on_its_way_is_an_error_and_others_get_their_own_answers() {
    let cluster = RedisCluster::start().await;
    let redis = connect(&cluster).await;
    let source = cluster.master_of("moving").await;
    let mut others = Vec::new();
    for number in 0..60 {
        let key = format!("other:{number}");
        redis.send(Command::set(&key, number)).await.unwrap();
        others.push((cluster.master_of(&key).await, key));
    }
    let target = others.iter().find(|(master, _)| *master != source).unwrap().0;
    let slot = ask(source, "CLUSTER KEYSLOT moving").await;
    let slot = slot.trim().trim_start_matches(':').to_owned();
    let id = async |addr| ask(addr, "CLUSTER MYID").await.lines().nth(1).unwrap().to_owned();
    let (from, to) = (id(source).await, id(target).await);
    assert_eq!(ask(target, &format!("CLUSTER SETSLOT {slot} IMPORTING {from}")).await, "+OK\r\n");
    assert_eq!(ask(source, &format!("CLUSTER SETSLOT {slot} MIGRATING {to}")).await, "+OK\r\n");
    assert!(ask(source, "INCR moving").await.starts_with("-ASK"));

    for _ in 0..20 {
        let moving = tokio::spawn(redis.send(Command::incr("moving")));
        let calls: Vec<_> =
            (0..60).map(|number| tokio::spawn(redis.send(Command::get(format!("other:{number}"))))).collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().convert::<usize>().unwrap(), number, "its own answer");
        }
        let error = moving.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Connection("no node of the cluster takes it")), "{error:?}");
    }
    for addr in [target, source] {
        assert_eq!(ask(addr, &format!("CLUSTER SETSLOT {slot} NODE {to}")).await, "+OK\r\n");
    }
    let answer = redis.send(Command::incr("moving")).await.unwrap();
    assert_eq!(answer.convert::<i64>().unwrap(), 1, "carried out once, and at last");
}
