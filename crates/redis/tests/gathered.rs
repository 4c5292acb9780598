//! Commands that go by the driver's own functions: gathered on the wire, and the same as any other to their callers.

use std::time::Duration;

use buttress_core::Deadline;
use buttress_redis::{Command, Error, Redis, RedisConfig, Value};
use buttress_testkit::{RedisCluster, RedisServer};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

async fn connected() -> (RedisServer, Redis) {
    let server = RedisServer::start().await;
    let redis = Redis::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap();
    (server, redis)
}

/// How often the server has read from a connection.
async fn reads(redis: &Redis) -> u64 {
    let info: String = redis.send(Command::new("INFO").arg("stats")).await.unwrap().convert().unwrap();
    let reads = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    reads.expect("servers since version 6 tell it").trim().parse().unwrap()
}

#[tokio::test]
async fn commands_of_many_callers_are_written_together() {
    const CALLERS: u64 = 500;
    let (_server, redis) = connected().await;
    redis.send(Command::set("key", "value")).await.unwrap();
    let commands: [fn() -> Command; 6] = [
        || Command::get("key"),
        || Command::set("other", "value"),
        || Command::set_ex("other", "value", Duration::from_secs(60)),
        || Command::mget(["key", "other"]),
        || Command::incr("count"),
        || Command::del("none"),
    ];
    for command in commands {
        let before = reads(&redis).await;
        let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(redis.send(command()))).collect();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        let taken = reads(&redis).await - before;
        assert!(taken < CALLERS / 5, "{}: {taken} reads for {CALLERS} commands", command().name());
    }
}

#[tokio::test]
async fn answers_and_errors_are_those_of_any_other_command() {
    let (_server, redis) = connected().await;
    let send = async |command: Command| redis.send(command).await.unwrap();
    let binary: &[u8] = b"\x00\xff\r\n$5";
    assert_eq!(send(Command::set(binary, binary)).await.convert::<String>().unwrap(), "OK");
    assert_eq!(send(Command::get(binary)).await.convert::<Vec<u8>>().unwrap(), binary);
    assert!(matches!(send(Command::get("none")).await, Value::Null));
    assert_eq!(send(Command::incr("count")).await.convert::<u64>().unwrap(), 1);
    send(Command::set_ex("short", "", Duration::from_millis(90_500))).await;
    let left: u64 = send(Command::new("PTTL").arg("short")).await.convert().unwrap();
    assert!((80_000..=90_500).contains(&left), "{left}");
    send(Command::new("HSET").arg("hash").arg("field").arg("7")).await;
    let field = Command::new("HGET").arg("hash").arg("field");
    assert_eq!(send(field).await.convert::<u64>().unwrap(), 7);
    let found: Vec<Option<String>> = send(Command::mget(["short", "none"])).await.convert().unwrap();
    assert_eq!(found, [Some(String::new()), None]);
    assert_eq!(send(Command::new("DEL").arg("short").arg("none")).await.convert::<u64>().unwrap(), 1);

    for (command, code) in [
        (Command::get("hash"), "WRONGTYPE"),
        (Command::incr("hash"), "WRONGTYPE"),
        (Command::incr(binary), "ERR"),
        (Command::new("HGET").arg("count").arg("field"), "WRONGTYPE"),
        (Command::set("key", "value").arg("PX").arg("0"), "ERR"),
        // One that the driver has no function of its own for.
        (Command::new("LPUSH").arg("hash").arg("x"), "WRONGTYPE"),
    ] {
        let name = command.name().to_owned();
        match redis.send(command).await {
            Err(Error::Server(error)) => assert_eq!(error.code(), code, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Two nodes' commands wait one behind the other, and the last one is too late to be sent: the driver then flushes its node's
/// connection alone.
#[test]
#[expect(clippy::disallowed_methods, reason = "the only thread is to be held up")]
fn in_a_cluster_no_command_is_left_behind_by_one_that_timed_out() {
    // Looks at the timers after every task.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap();
    runtime.block_on(async {
        let cluster = RedisCluster::start().await;
        let config =
            RedisConfig::from_url(&cluster.url()).unwrap().with_command_timeout(Duration::from_secs(3));
        let redis = Redis::connect(config).await.unwrap();
        for (first, second) in [("a", "b"), ("b", "c"), ("c", "a")] {
            redis.send(Command::set(first, "1")).await.unwrap();
            // The driver's task comes after these.
            for _ in 0..10 {
                tokio::spawn(async {});
            }
            let sent = redis.send(Command::get(first));
            let late = Deadline::after(Duration::from_millis(2)).scope(redis.send(Command::get(second)));
            let slept = async { std::thread::sleep(Duration::from_millis(20)) };
            let (sent, late, ()) = tokio::join!(biased; sent, late, slept);
            assert!(late.is_err(), "it was not sent");
            assert_eq!(sent.unwrap().convert::<String>().unwrap(), "1");
        }
    });
}

/// As proxies answer: an error without a code is an answer all the same.
#[tokio::test]
async fn an_error_without_a_code_is_the_servers_too() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", server.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = server.accept().await.unwrap();
            tokio::spawn(answer_like_a_proxy(stream));
        }
    });
    let redis = Redis::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    for command in [Command::get("key"), Command::new("STRLEN").arg("key")] {
        let name = command.name().to_owned();
        match redis.send(command).await {
            Err(Error::Server(error)) => assert_eq!(error.text(), "upstream failure", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Answers commands about keys with an error, and all else with nothing wrong.
async fn answer_like_a_proxy(stream: TcpStream) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The greeting is a line of its own.
        let mut name = line.clone();
        if let Some(count) = line.strip_prefix('*') {
            for word in 0..count.parse::<usize>().unwrap() {
                lines.next_line().await.unwrap();
                let text = lines.next_line().await.unwrap().unwrap();
                if word == 0 {
                    name = text;
                }
            }
        }
        let answer = match name.as_str() {
            "GET" | "STRLEN" => "-upstream failure\r\n",
            hello if hello.starts_with("HELLO") => "%1\r\n+server\r\n+redis\r\n",
            "CLIENT" => ":1\r\n",
            _ => "+OK\r\n",
        };
        write.write_all(answer.as_bytes()).await.unwrap();
    }
}
