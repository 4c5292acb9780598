//! Redis as a tower service: typed answers, what is sent once, a deadline, a goodbye.
//!
//! `REDIS_URL=redis://localhost:6379 cargo run --example redis`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, time::Duration};

use buttress_core::Deadline;
use buttress_redis::{Command, Redis, RedisConfig};
use tower::{Service, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let url = env::var("REDIS_URL").map_err(|_| "set REDIS_URL, such as redis://localhost:6379")?;
    let config =
        RedisConfig::from_url(&url)?.with_name("sessions").with_command_timeout(Duration::from_millis(500));
    let mut redis = Redis::connect(config).await?;

    let key = "buttress-example:7";
    let set = Command::set_ex(key, "alice", Duration::from_secs(60));
    redis.ready().await?.call(set).await?;
    let user: Option<String> = redis.call(Command::get(key)).await?.convert()?;
    println!("the user is {user:?}");

    // Without a stack of layers around it, `send` does the same on a shared reference.
    for command in [Command::get(key), Command::new("APPEND").arg(key).arg("!")] {
        let how = if command.is_repeatable() { "again after a lost connection" } else { "once" };
        println!("{command:?} is sent {how}");
        redis.send(command).await?;
    }

    // The server's no: its code is shown, the arguments are not.
    if let Err(error) = redis.send(Command::new("LPUSH").arg(key).arg("secret")).await {
        println!("{error}");
    }

    // A deadline that has passed sends nothing.
    let late = Deadline::after(Duration::ZERO).scope(async { redis.send(Command::incr("hits")).await }).await;
    if let Err(error) = late {
        println!("{error}");
    }

    redis.send(Command::del(key)).await?;
    redis.close().await;
    Ok(())
}
