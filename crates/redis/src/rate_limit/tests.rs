//! The script on a real server, at times that a test chooses.

mod clock;
mod machines;
mod model;

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_rate_limit::{
    Limit, Rate,
    cluster::{Ask, Grant, Subject},
};
use buttress_testkit::RedisServer;

use crate::{
    Command, Redis, RedisConfig,
    rate_limit::{StoreError, answer::read, request, script},
};

/// The script with the last two arguments for a clock. What it keeps does not expire by the server's clock, which is
/// another.
static SCRIPT: LazyLock<&'static str> = LazyLock::new(|| {
    let script = once(script::TEXT, "redis.call('TIME')", "{ table.remove(ARGV), table.remove(ARGV) }");
    let script = once(&script, "math.ceil(micros / 1000) + 1", "3600000");
    Box::leak(script.into())
});

fn once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

/// A time like those that a clock shows now, in microseconds.
const START: u64 = 1_764_000_000_123_457;

struct Bench {
    _server: RedisServer,
    redis: Redis,
    script: &'static str,
    subjects: AtomicU64,
}

impl Bench {
    async fn new() -> Self {
        Self::of(&SCRIPT).await
    }

    async fn of(script: &'static str) -> Self {
        let server = RedisServer::start().await;
        let config =
            RedisConfig::from_url(&server.url()).unwrap().with_command_timeout(Duration::from_secs(10));
        let redis = Redis::connect(config).await.unwrap();
        Self { _server: server, redis, script, subjects: AtomicU64::new(0) }
    }

    /// A subject that nobody has asked for yet.
    fn subject(&self, limits: &[Limit]) -> Asker<'_> {
        let name = self.subjects.fetch_add(1, Relaxed).to_string();
        Asker { bench: self, subject: Subject::of(name.into()), limits: limits.into() }
    }
}

struct Asker<'a> {
    bench: &'a Bench,
    subject: Subject,
    limits: Arc<[Limit]>,
}

impl Asker<'_> {
    fn ask(&self, least: u32, most: u32, returned: u32) -> Ask {
        let mut ask = Ask::exactly(self.subject.clone(), Arc::clone(&self.limits), least);
        (ask.most, ask.returned) = (most, returned);
        ask
    }

    async fn at(&self, now: u64, asks: &[Ask]) -> Vec<Result<Grant, StoreError>> {
        let asks: Vec<&Ask> = asks.iter().collect();
        let command = request::command("EVAL", self.bench.script, "test", &asks);
        let command = command.arg(now % 1_000_000).arg(now / 1_000_000);
        read(&self.bench.redis.send(command).await.unwrap(), &asks)
    }

    async fn one(&self, now: u64, least: u32, most: u32, returned: u32) -> Grant {
        self.at(now, &[self.ask(least, most, returned)]).await.remove(0).unwrap()
    }

    /// All units, or none.
    async fn take(&self, now: u64, units: u32) -> Result<(), u64> {
        let grant = self.one(now, units, units, 0).await;
        if grant.units > 0 { Ok(()) } else { Err(micros(grant.retry_after.expect("it can be"))) }
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap()
}

fn rate(units: u32, micros: u64) -> Rate {
    Rate::try_new(units, Duration::from_micros(micros)).unwrap()
}

/// One of each kind.
fn kinds(units: u32, period: u64) -> [Limit; 4] {
    let rate = rate(units, period);
    [
        Limit::gcra(rate, units).unwrap(),
        Limit::sliding_window(rate),
        Limit::sliding_log(rate).unwrap(),
        Limit::fixed_window(rate),
    ]
}

#[tokio::test]
async fn the_name_is_what_redis_calls_the_script() {
    let bench = Bench::new().await;
    let name = bench.redis.send(Command::new("SCRIPT").arg("LOAD").arg(script::TEXT)).await.unwrap();
    assert_eq!(name.convert::<String>().unwrap(), script::NAME);
}

#[tokio::test]
async fn several_limits_give_all_or_nothing() {
    let bench = Bench::new().await;
    for hourly in kinds(5, 3_600_000_000) {
        for short in kinds(3, 1_000_000) {
            let asker = bench.subject(&[hourly, short]);
            assert_eq!(asker.one(START, 3, 9, 0).await, Grant::of(3, 0, 0));
            let wait = asker.take(START, 1).await.unwrap_err();
            assert!(wait <= 1_008_000, "{short:?} comes back: {wait}");
            // The short one has three again, and the long one two.
            let later = START + 1_010_000;
            assert_eq!(asker.one(later, 0, 0, 0).await.remaining, 2, "{hourly:?}, {short:?}");
            let wait = asker.take(later, 3).await.unwrap_err();
            assert!(wait > 100_000_000 || hourly.algorithm() == kinds(1, 1)[3].algorithm(), "{wait}");
            assert_eq!(asker.one(later, 1, 9, 0).await, Grant::of(2, 0, 0), "the refusal took nothing");
        }
    }
}

#[tokio::test]
async fn what_can_never_be_is_never() {
    let bench = Bench::new().await;
    for limit in kinds(5, 1_000_000) {
        let asker = bench.subject(&[limit, Limit::sliding_window(rate(100, 1_000_000))]);
        assert_eq!(asker.one(START, 6, 6, 0).await, Grant::none(None, 5, 0));
        assert_eq!(asker.one(START, 3, 2, 0).await, Grant::none(None, 5, 0), "more at least than at most");
        assert_eq!(asker.one(START, 0, 0, u32::MAX).await, Grant::none(Some(Duration::ZERO), 5, 0));
        assert_eq!(asker.one(START, u32::MAX, u32::MAX, 0).await, Grant::none(None, 5, 0));
        assert_eq!(asker.one(START, 0, u32::MAX, 0).await, Grant::of(5, 0, 0));
        assert_eq!(asker.one(START, 0, 4, 0).await, Grant::none(Some(Duration::ZERO), 0, 0));
    }
}

#[tokio::test]
async fn what_somebody_else_wrote_is_an_error_and_no_grant() {
    let bench = Bench::new().await;
    for (index, limit) in kinds(5, 1_000_000).into_iter().enumerate() {
        let good = Limit::sliding_window(rate(100, 1_000_000));
        for written in [
            "SET K hello",
            "SET K 99999999999999999999 7",
            "SET K 1764000000.12",
            "SET K 1764000000.123456",
            "SADD K a",
            "HSET K a b",
            "HSET K part 12 sum many",
            "HSET K part 12",
            "RPUSH K a b",
            "RPUSH K 1:2 1:3",
            "ZADD K 1 a",
        ] {
            // A text with a space is one argument.
            let words: Vec<&str> = match written.strip_prefix("SET K ") {
                Some(text) => vec!["SET", "K", text],
                None => written.split(' ').collect(),
            };
            let asker = bench.subject(&[good, limit]);
            let stem = crate::rate_limit::keys::stem("test", &asker.subject);
            let key = crate::rate_limit::keys::of_limit(&stem, &limit);
            let command = words[1..].iter().fold(Command::new(words[0]), |command, word| {
                command.arg(if *word == "K" { key.as_str() } else { word })
            });
            bench.redis.send(command).await.unwrap();
            let answers = asker.at(START, &[asker.ask(1, 1, 0), asker.ask(0, 0, 0)]).await;
            let foreign = answers.iter().all(|answer| matches!(answer, Err(StoreError::Foreign)));
            assert!(foreign && answers.len() == 2, "{index}: {written}: {answers:?}");
            let untouched = bench.subject(&[good]);
            let other = Asker { subject: asker.subject.clone(), ..untouched };
            assert_eq!(other.one(START, 0, 0, 0).await.remaining, 100, "nothing was taken");
        }
    }
}
