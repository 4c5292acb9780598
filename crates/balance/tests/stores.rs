//! Databases behind a balancer: read replicas of Postgres, and Redis.

mod support;

use std::time::Duration;

use buttress_balance::{Balance, Ejection, Endpoint};
use buttress_postgres::{Postgres, PostgresConfig, Query, SqlStateClassifier};
use buttress_redis::{Command, KindClassifier, Redis, RedisConfig};
use buttress_retry::RetryLayer;
use buttress_testkit::{PostgresServer, RedisServer};
use tokio::time::sleep;
use tower::{Layer, ServiceExt};

use self::support::{Load, errors};

const EJECTED: Duration = Duration::from_millis(200);

const SLOW_START: Duration = Duration::from_millis(500);
/// A failure that is not enough for an ejection counts as a second, among answers of a fraction of a millisecond.
const DECAY: Duration = Duration::from_millis(200);

fn ejection() -> Ejection {
    Ejection::try_new(3, EJECTED, 0.5).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_a_replica_of_postgres_is_away() {
    let servers = [PostgresServer::start().await, PostgresServer::start().await];
    let mut endpoints = Vec::new();
    for (id, server) in (1_i32..).zip(&servers) {
        let config = PostgresConfig::from_url(&server.url())
            .unwrap()
            .with_name(format!("replica {id}"))
            .with_pool_size(4);
        let db = Postgres::new(config.with_connect_timeout(Duration::from_secs(1))).unwrap();
        db.query(Query::new(format!("create table me as select {id}::int4 as id"))).await.unwrap();
        endpoints.push((id, Endpoint::new(db)));
    }
    let balance = Balance::builder("replicas")
        .classify(SqlStateClassifier)
        .ejection(ejection())
        .slow_start(SLOW_START)
        .decay(DECAY)
        .unwrap()
        .build(endpoints);
    let retry = RetryLayer::new("replicas")
        .classify(SqlStateClassifier)
        .requests(|query: &Query| query.is_repeatable().then(|| query.clone()));
    let reads = retry.layer(balance);
    let who = {
        let reads = reads.clone();
        async move || -> i32 {
            let row = reads.clone().oneshot(Query::new("select id from me")).await.unwrap().one().unwrap();
            row.get("id").unwrap()
        }
    };
    let load = Load::start(4, move || {
        let reads = reads.clone();
        async move {
            reads.oneshot(Query::new("select id from me")).await.map(drop).map_err(|error| error.to_string())
        }
    });
    let seen = async |wanted: i32, within: Duration| {
        tokio::time::timeout(within, async { while who().await != wanted {} })
            .await
            .unwrap_or_else(|_| panic!("{wanted} is away"));
    };
    seen(1, Duration::from_secs(5)).await;
    seen(2, Duration::from_secs(5)).await;
    servers[1].stop().await;
    sleep(Duration::from_millis(1_500)).await;
    for _ in 0..50 {
        assert_eq!(who().await, 1);
    }
    servers[1].restart().await;
    seen(2, 10 * EJECTED + Duration::from_secs(3)).await;
    let calls = load.stop().await;
    eprintln!("{} reads", calls.len());
    assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_a_redis_is_away() {
    let servers = [RedisServer::start().await, RedisServer::start().await];
    let set_up = async |id: i64, server: &RedisServer| {
        let config = RedisConfig::from_url(&server.url()).unwrap().with_name(format!("redis {id}"));
        let config = config
            .with_command_timeout(Duration::from_millis(200))
            .with_reconnect(Duration::from_millis(20), Duration::from_millis(100));
        let redis = Redis::connect(config).await.unwrap();
        redis.send(Command::set("me", id)).await.unwrap();
        redis
    };
    let mut endpoints = Vec::new();
    for (id, server) in (1_i64..).zip(&servers) {
        endpoints.push((id, Endpoint::new(set_up(id, server).await)));
    }
    let balance = Balance::builder("redis")
        .classify(KindClassifier)
        .ejection(ejection())
        .slow_start(SLOW_START)
        .decay(DECAY)
        .unwrap()
        .build(endpoints);
    let retry = RetryLayer::new("redis")
        .classify(KindClassifier)
        .requests(|command: &Command| command.is_repeatable().then(|| command.clone()));
    let reads = retry.layer(balance);
    let who = {
        let reads = reads.clone();
        async move || -> Option<i64> {
            reads.clone().oneshot(Command::get("me")).await.unwrap().convert().unwrap()
        }
    };
    let load = Load::start(4, move || {
        let reads = reads.clone();
        async move {
            let read = reads.oneshot(Command::get("me")).await;
            sleep(Duration::from_millis(1)).await;
            read.map(drop).map_err(|error| error.to_string())
        }
    });
    let seen = async |wanted: Option<i64>, within: Duration| {
        tokio::time::timeout(within, async { while who().await != wanted {} })
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} is away"));
    };
    seen(Some(1), Duration::from_secs(5)).await;
    seen(Some(2), Duration::from_secs(5)).await;
    servers[1].kill().await;
    sleep(Duration::from_millis(1_500)).await;
    for _ in 0..50 {
        assert_eq!(who().await, Some(1));
    }
    // It comes back empty.
    servers[1].restart().await;
    seen(None, 10 * EJECTED + Duration::from_secs(3)).await;
    let calls = load.stop().await;
    eprintln!("{} reads", calls.len());
    assert!(errors(&calls).is_empty(), "{:?}", errors(&calls));
}
