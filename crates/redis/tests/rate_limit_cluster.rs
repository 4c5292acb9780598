//! Limits in a Redis cluster: any node, redirections, a failover.
#![cfg(feature = "rate-limit")]

mod support;

use std::sync::Arc;

use buttress_rate_limit::{
    Limit, Rate,
    cluster::{Ask, Grant, Node, Store, Subject},
};
use buttress_redis::{Redis, rate_limit::RedisStore};
use buttress_testkit::RedisCluster;
use support::{config, ms};
use tokio::time::{Duration, sleep};

fn asks(count: u32, units: u32) -> Vec<Ask> {
    let rate = Rate::per_hour(1000);
    let limits: Arc<[Limit]> =
        vec![rate.into(), Limit::sliding_log(rate).unwrap(), Limit::gcra(rate, 500).unwrap()].into();
    (0..count)
        .map(|number| {
            let key: Arc<[u8]> = format!("key {number}").into_bytes().into();
            let mut ask = Ask::exactly(Subject::of_key("api".into(), key), Arc::clone(&limits), units);
            ask.node = Some(Node { id: 1, lease: Duration::from_secs(60) });
            ask
        })
        .collect()
}

async fn store(cluster: &RedisCluster) -> RedisStore {
    RedisStore::new(Redis::connect(config(&cluster.url()).with_command_timeout(ms(1000))).await.unwrap())
}

/// The tag of the first subject's keys.
const TAG: &str = "{api:key%200}";

#[tokio::test]
async fn subjects_of_all_slots_are_decided_and_followed_to_new_masters() {
    let cluster = RedisCluster::start().await;
    let store = store(&cluster).await;
    for round in 1..=3 {
        // Each master is asked for the script anew.
        for answer in store.take(asks(100, 10)).await {
            let grant = answer.unwrap();
            assert_eq!((grant.units, grant.nodes), (10, 1));
            assert!((500 - 10 * round..500 - 10 * round + 5).contains(&grant.remaining), "{grant:?}");
        }
    }
    cluster.switch_master_of(TAG).await;
    // The first that is redirected is sent again. Others that are on their way to the old master by then are lost.
    let failed = store.take(asks(100, 10)).await.iter().filter(|answer| answer.is_err()).count();
    assert!(failed < 60, "those of one master of three: {failed}");
    for (index, answer) in store.take(asks(100, 10)).await.into_iter().enumerate() {
        let grant = answer.unwrap();
        assert_eq!(grant.units, 10, "{index}");
        assert!((450..470).contains(&grant.remaining), "nothing is forgotten: {grant:?}");
    }
}

#[tokio::test]
async fn limits_go_on_after_a_failover_and_remember() {
    let cluster = RedisCluster::start().await;
    let store = store(&cluster).await;
    for answer in store.take(asks(50, 100)).await {
        answer.unwrap();
    }
    sleep(ms(200)).await;
    cluster.kill_master_of(TAG).await;
    let mut failed = 0;
    let grant: Grant = loop {
        match store.take(asks(1, 1)).await.remove(0) {
            Ok(grant) => break grant,
            Err(_) => failed += 1,
        }
        assert!(failed < 200, "it never came back");
        sleep(ms(50)).await;
    };
    assert!(failed > 0, "for a moment nobody served it");
    assert!((399..=402).contains(&grant.remaining), "what was replicated is remembered: {grant:?}");
    for (index, answer) in store.take(asks(50, 1)).await.into_iter().enumerate() {
        let left = answer.unwrap().remaining;
        let taken = if index == 0 { 102 } else { 101 };
        assert!((500 - taken..=500 - taken + 3).contains(&left), "{index}: {left}");
    }
}
