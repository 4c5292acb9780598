//! The script on a real server.

use buttress_testkit::RedisServer;

use crate::{Command, Redis, RedisConfig, cache::script};

#[tokio::test]
async fn the_name_is_what_redis_calls_the_script() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(RedisConfig::from_url(&server.url()).unwrap()).await.unwrap();
    let name = redis.send(Command::new("SCRIPT").arg("LOAD").arg(script::TEXT)).await.unwrap();
    assert_eq!(name.convert::<String>().unwrap(), script::NAME);
}
