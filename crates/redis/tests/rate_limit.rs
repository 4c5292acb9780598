//! Limits that several processes share, on a real server and in real time.
#![cfg(feature = "rate-limit")]

mod support;

use std::{sync::Arc, time::Duration};

use buttress_rate_limit::{
    Limit, Rate,
    cluster::{Ask, Grant, Node, Store, Subject},
};
use buttress_redis::{
    Command, Error, Redis, Value,
    rate_limit::{RedisStore, StoreError},
};
use buttress_testkit::{Fault, RedisServer};
use support::{behind, config, ms, until_answered};
use tokio::time::{Instant, sleep, sleep_until};

const SECOND: Duration = Duration::from_secs(1);

/// A client that a busy machine does not make impatient.
async fn connect(server: &RedisServer) -> Redis {
    Redis::connect(config(&server.url()).with_command_timeout(10 * SECOND)).await.unwrap()
}

fn ask(subject: &str, limits: &[Limit], units: u32) -> Ask {
    Ask::exactly(Subject::of(subject.into()), limits.into(), units)
}

async fn one(store: &RedisStore, ask: Ask) -> Result<Grant, StoreError> {
    let mut answers = store.take(vec![ask]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn kinds(rate: Rate) -> [Limit; 4] {
    [
        Limit::gcra(rate, rate.units()).unwrap(),
        Limit::sliding_window(rate),
        Limit::sliding_log(rate).unwrap(),
        Limit::fixed_window(rate),
    ]
}

async fn command(redis: &Redis, words: &str) -> Value {
    let mut words = words.split(' ');
    redis.send(Command::new(words.next().unwrap().to_owned()).args(words)).await.unwrap()
}

async fn keys(redis: &Redis) -> Vec<String> {
    command(redis, "KEYS *").await.convert().unwrap()
}

/// Sixteen clients that ask as fast as they can, each with some others' asks in the same call.
async fn hammered(limit: Limit, period: Duration) -> Vec<(Instant, Instant)> {
    let server = RedisServer::start().await;
    let end = Instant::now() + 5 * period;
    let mut tasks = Vec::new();
    for task in 0..16 {
        let store = RedisStore::new(connect(&server).await);
        tasks.push(tokio::spawn(async move {
            let mut admitted = Vec::new();
            while Instant::now() < end {
                let mut asks = vec![ask("shared", &[limit], 1 + task % 3); 3];
                asks[1].least = 1;
                asks.insert(1, ask("another", &[limit], 1));
                let before = Instant::now();
                let answers = store.take(asks).await;
                let after = Instant::now();
                for answer in [&answers[0], &answers[2], &answers[3]] {
                    let units = answer.as_ref().unwrap().units;
                    admitted.extend((0..units).map(|_| (before, after)));
                }
                sleep(ms(1)).await;
            }
            admitted
        }));
    }
    let mut admitted = Vec::new();
    for task in tasks {
        admitted.extend(task.await.unwrap());
    }
    admitted.sort_unstable();
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_never_get_more_than_the_limit_in_any_period() {
    let period = ms(200);
    let rate = Rate::try_new(40, period).unwrap();
    for limit in [Limit::sliding_window(rate), Limit::sliding_log(rate).unwrap()] {
        let admitted = hammered(limit, period).await;
        // What was surely admitted within less than a period.
        for (first, (before, _)) in admitted.iter().enumerate() {
            let within = admitted[first..].iter().filter(|(_, after)| *after < *before + period).count();
            assert!(within <= 40, "{within} by {limit:?}");
        }
        assert!(admitted.len() >= 3 * 40, "and not much less: {} by {limit:?}", admitted.len());
    }
    let admitted = hammered(Limit::fixed_window(rate), period).await;
    assert!((3 * 40..=6 * 40).contains(&admitted.len()), "five periods, and six windows: {}", admitted.len());
    let admitted = hammered(Limit::gcra(rate, 10).unwrap(), period).await;
    let (first, last) = (admitted[0].0, admitted.iter().map(|(_, after)| *after).max().unwrap());
    let most = 10.0 + (last - first).as_secs_f64() / 0.005;
    assert!(admitted.len() as f64 <= most + 1.0, "{} of {most}", admitted.len());
    assert!(admitted.len() >= 3 * 40, "{}", admitted.len());
}

#[tokio::test]
async fn asks_of_one_call_are_decided_in_their_order() {
    let server = RedisServer::start().await;
    let store = RedisStore::new(connect(&server).await);
    let limits = [Limit::sliding_window(Rate::per_hour(1000))];
    let mut asks = Vec::new();
    for number in 0..700 {
        asks.push(ask("many", &limits, 2));
        if number % 3 == 0 {
            asks.push(ask(&format!("single {number}"), &limits, 1));
        }
    }
    let subjects: Vec<_> = asks.iter().map(|ask| ask.subject.clone()).collect();
    let grants: Vec<Grant> = store.take(asks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(grants.len(), subjects.len());
    let many: Vec<_> = subjects.iter().zip(&grants).filter(|(subject, _)| subject.name() == "many").collect();
    for (number, (_, grant)) in many.into_iter().enumerate() {
        let left = 1000_u32.saturating_sub(2 * (number as u32 + 1));
        assert_eq!((grant.units, grant.remaining), (if number < 500 { 2 } else { 0 }, left), "{number}");
    }
    let single = subjects.iter().zip(&grants).filter(|(subject, _)| subject.name() != "many");
    assert!(single.clone().all(|(_, grant)| *grant == Grant::of(1, 999, 0)));
    assert_eq!(single.count(), 234);
    assert!(store.take(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn the_wait_is_exact_and_the_longest_of_all_limits() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let store = RedisStore::new(redis.clone());
    for long in kinds(Rate::try_new(3, ms(300)).unwrap()) {
        let limits = [Limit::gcra(Rate::per_second(100), 9).unwrap(), long];
        // At the beginning of a fixed window.
        let now: Vec<u64> = command(&redis, "TIME").await.convert().unwrap();
        sleep(Duration::from_micros(300_500 - (now[0] * 1_000_000 + now[1]) % 300_000)).await;
        assert_eq!(one(&store, ask("api", &limits, 3)).await.unwrap(), Grant::of(3, 0, 0));
        let asked = Instant::now();
        let refused = one(&store, ask("api", &limits, 3)).await.unwrap();
        let (answered, wait) = (Instant::now(), refused.retry_after.unwrap());
        assert!(wait <= ms(303), "{wait:?} of {long:?}");
        sleep_until(asked + wait - ms(8)).await;
        let early = one(&store, ask("api", &limits, 3)).await.unwrap();
        if early.units > 0 {
            assert!(asked.elapsed() > wait - ms(3), "too early by {long:?}");
        } else {
            sleep_until(answered + wait + ms(3)).await;
            assert_eq!(one(&store, ask("api", &limits, 3)).await.unwrap().units, 3, "{long:?}");
        }
        command(&redis, "FLUSHALL").await;
    }
}

#[tokio::test]
async fn a_script_that_redis_has_forgotten_is_sent_again() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let store = RedisStore::new(redis.clone());
    let limits = [Limit::from(Rate::per_hour(100))];
    assert_eq!(one(&store, ask("api", &limits, 1)).await.unwrap().remaining, 99);
    command(&redis, "SCRIPT FLUSH").await;
    let asks = (0..20).map(|number| ask(&format!("{number}"), &limits, 2)).collect();
    assert!(store.take(asks).await.into_iter().all(|answer| answer.unwrap() == Grant::of(2, 98, 0)));
    assert_eq!(one(&store, ask("api", &limits, 1)).await.unwrap().remaining, 98);

    let before = calls_of(&redis, "eval").await;
    for _ in 0..10 {
        one(&store, ask("api", &limits, 1)).await.unwrap();
    }
    assert_eq!(calls_of(&redis, "eval").await, before, "its text is sent no more");

    server.kill().await;
    let failed = one(&store, ask("api", &limits, 1)).await.unwrap_err();
    assert!(matches!(failed, StoreError::Redis(_)), "{failed:?}");
    server.restart().await;
    until_answered(&redis, Command::ping()).await;
    assert_eq!(one(&store, ask("api", &limits, 1)).await.unwrap(), Grant::of(1, 99, 0), "it begins empty");
}

async fn calls_of(redis: &Redis, name: &str) -> u64 {
    let stats: String = command(redis, "INFO commandstats").await.convert().unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn units_are_taken_at_most_once_when_the_connection_breaks() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    let store = RedisStore::new(redis.clone());
    let limits: Arc<[Limit]> = vec![Limit::from(Rate::per_hour(100))].into();
    let subject = || Subject::of("api".into());
    one(&store, Ask::exactly(subject(), Arc::clone(&limits), 1)).await.unwrap();
    proxy.set(Fault::Latency(ms(100)));
    let (asking, asked) = (store.clone(), Ask::exactly(subject(), Arc::clone(&limits), 10));
    let call = tokio::spawn(async move { one(&asking, asked).await });
    sleep(ms(50)).await;
    proxy.cut();
    proxy.set(Fault::Pass);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(&error, StoreError::Redis(error) if error.sent()), "{error:?}");
    until_answered(&redis, Command::ping()).await;
    sleep(ms(400)).await;
    let direct = RedisStore::new(connect(&server).await);
    let left = one(&direct, Ask::exactly(subject(), limits, 0)).await.unwrap().remaining;
    assert_eq!(left, 89, "once");
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_command_timeout() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(config(&server.url()).with_command_timeout(ms(100))).await.unwrap();
    let store = RedisStore::new(redis);
    let limits = [Limit::from(Rate::per_hour(100))];
    one(&store, ask("api", &limits, 1)).await.unwrap();
    server.pause();
    let start = Instant::now();
    let answers = store.take(vec![ask("api", &limits, 1), ask("b", &limits, 1)]).await;
    assert!(answers.len() == 2 && answers.iter().all(Result::is_err), "{answers:?}");
    assert!(start.elapsed() < ms(400), "{:?}", start.elapsed());
    server.resume();
}

#[tokio::test]
async fn keys_of_any_bytes_are_kept_apart() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let store = RedisStore::new(redis.clone()).with_prefix("my {app}");
    let limits: Arc<[Limit]> = kinds(Rate::per_hour(100)).as_slice().into();
    let long = [b'x'; 5000];
    let hostile: &[&[u8]] = &[
        b"",
        b"a",
        b"a}",
        b"{a",
        b"{a}",
        b"}{",
        b"a:b",
        b"a b\r\n",
        b"\0",
        b"\0\0",
        b"%",
        b"%00",
        b"\xff\xfe",
        b"#",
        b"*",
        b"?",
        &long,
        &long[1..],
        &[b'}'; 96],
        b"a:window:100:3600000000000",
    ];
    let subjects: Vec<Subject> = ["n", "n}", "{n}", "n:a", "", "\0"]
        .into_iter()
        .flat_map(|name| {
            let keyed = hostile.iter().map(move |key| Subject::of_key(name.into(), Arc::from(*key)));
            keyed.chain([Subject::of(name.into())])
        })
        .collect();
    for round in 1..=2 {
        let asks = subjects.iter().map(|subject| Ask::exactly(subject.clone(), Arc::clone(&limits), 3));
        for (answer, subject) in store.take(asks.collect()).await.into_iter().zip(&subjects) {
            assert_eq!(answer.unwrap(), Grant::of(3, 100 - 3 * round, 0), "{subject:?}");
        }
    }
    let keys = keys(&redis).await;
    assert_eq!(keys.len(), subjects.len() * 4);
    for key in keys {
        assert!(key.starts_with("my%20%7Bapp%7D:{") && key.len() < 400, "{key}");
        assert_eq!((key.matches('{').count(), key.matches('}').count()), (1, 1), "{key}");
    }
}

#[tokio::test]
async fn every_key_expires_when_its_past_does_not_matter_any_more() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let store = RedisStore::new(redis.clone());
    let rate = Rate::try_new(100, ms(5120)).unwrap();
    let node = Node { id: 7, lease: 4 * SECOND };
    for _ in 0..6 {
        for limit in kinds(rate) {
            let mut asked = ask("api", &[limit], 30);
            asked.node = Some(node);
            one(&store, asked).await.unwrap();
            // Others give back, look, and are refused.
            let mut back = ask("api", &[limit], 0);
            back.returned = 7;
            store.take(vec![back, ask("api", &[limit], 0), ask("api", &[limit], 100)]).await;
        }
        sleep(ms(7)).await;
        let keys = keys(&redis).await;
        assert_eq!(keys.len(), 5, "{keys:?}");
        for key in keys {
            let ttl: i64 = command(&redis, &format!("PTTL {key}")).await.convert().unwrap();
            let longest = if key.ends_with(":nodes") { 4002 } else { 5163 };
            assert!((1..=longest).contains(&ttl), "{key}: {ttl}");
        }
    }
    sleep(ms(5300)).await;
    assert_eq!(keys(&redis).await, Vec::<String>::new());
    // What is given back as a whole leaves nothing.
    for limit in kinds(rate) {
        one(&store, ask("api", &[limit], 30)).await.unwrap();
        let mut back = ask("api", &[limit], 0);
        back.returned = 30;
        assert_eq!(one(&store, back).await.unwrap().remaining, 100);
        assert_eq!(keys(&redis).await, Vec::<String>::new(), "{limit:?}");
    }
}

#[tokio::test]
async fn nodes_are_counted_while_they_say_that_they_are_there() {
    let server = RedisServer::start().await;
    let store = RedisStore::new(connect(&server).await);
    let limits = [Limit::from(Rate::per_hour(100))];
    let told = async |name: &str, id, lease| {
        let mut asked = ask(name, &limits, 0);
        asked.node = Some(Node { id, lease });
        one(&store, asked).await.unwrap().nodes
    };
    assert_eq!(told("api", 1, SECOND).await, 1);
    assert_eq!(told("api", u64::MAX, 60 * SECOND).await, 2);
    assert_eq!(told("api", 1, SECOND).await, 2, "the same one");
    assert_eq!(told("other", 1, SECOND).await, 1, "of another limiter");
    assert_eq!(one(&store, ask("api", &limits, 0)).await.unwrap().nodes, 0, "it was not told");
    sleep(ms(1020)).await;
    assert_eq!(told("api", u64::MAX, 60 * SECOND).await, 1, "its time is over");
    for id in 0..50 {
        told("api", id, SECOND * 1_000_000).await;
    }
    assert_eq!(told("api", 99, 60 * SECOND).await, 52);

    // Several in one call: each is told the same.
    let mut asks = vec![ask("call", &limits, 1); 3];
    asks[0].node = Some(Node { id: 1, lease: SECOND });
    asks[2].node = Some(Node { id: 2, lease: SECOND });
    let nodes: Vec<u32> = store.take(asks).await.into_iter().map(|answer| answer.unwrap().nodes).collect();
    assert_eq!(nodes, [2, 0, 2]);
}

#[tokio::test]
async fn another_systems_key_is_an_error_that_does_not_show_it() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let store = RedisStore::new(redis.clone());
    let limits = [Limit::from(Rate::per_hour(100))];
    let secret = |units| {
        Ask::exactly(
            Subject::of_key("api".into(), Arc::from(&b"hunter2"[..])),
            limits.as_slice().into(),
            units,
        )
    };
    command(&redis, "SET rate-limit:{api:hunter2}:window:100:3600000000000 7").await;
    command(&redis, "SET rate-limit:{nodes}:nodes 7").await;
    let mut counted = ask("nodes", &limits, 1);
    counted.node = Some(Node { id: 1, lease: SECOND });
    let answers = store.take(vec![ask("api", &limits, 1), secret(1), ask("b", &limits, 1), counted]).await;
    assert!(matches!(answers.as_slice(), [Ok(_), Err(StoreError::Foreign), Ok(_), Err(StoreError::Foreign)]));
    let shown = format!("{answers:?} {}", answers[1].as_ref().unwrap_err());
    assert!(!shown.contains("hunter2"), "{shown}");
    let none = one(&store, ask("api", &[], 1)).await;
    assert!(matches!(none, Err(StoreError::NoLimits)), "{none:?}");
}

#[tokio::test]
async fn a_server_without_memory_takes_from_all_limits_or_from_none() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let store = RedisStore::new(redis.clone());
    let rate = Rate::per_hour(100);
    let limits: Vec<Limit> =
        kinds(rate).into_iter().filter(|limit| *limit != Limit::fixed_window(rate)).collect();
    assert_eq!(one(&store, ask("api", &limits, 10)).await.unwrap().remaining, 90);
    command(&redis, "CONFIG SET maxmemory 1").await;
    let error = one(&store, ask("api", &limits, 10)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Redis(Error::Server(error)) if error.code() == "OOM"), "{error:?}");
    command(&redis, "CONFIG SET maxmemory 0").await;
    for limit in &limits {
        let left = one(&store, ask("api", &[*limit], 0)).await.unwrap().remaining;
        assert!((90..=91).contains(&left), "{left} of {limit:?}");
    }
}
