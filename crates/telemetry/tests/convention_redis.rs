//! What a real Redis answers, as the conventions tell it.
#![cfg(feature = "redis")]

use std::time::Duration;

use buttress_redis::{Command, Error, Redis, RedisConfig, Value};
use buttress_telemetry::{Describe, Piece, RedisConvention, Registry, TelemetryLayer};
use buttress_testkit::RedisServer;
use tower::{Layer, ServiceExt};

async fn connect(server: &RedisServer) -> Redis {
    let config = RedisConfig::from_url(&server.url()).unwrap();
    Redis::connect(config.with_command_timeout(Duration::from_millis(500))).await.unwrap()
}

/// The operation, the status and the kind of error.
async fn told(redis: &Redis, command: Command) -> (String, Option<String>, Option<String>) {
    let convention = RedisConvention::new(0);
    let operation = Describe::<Command, Value, Error>::operation(&convention, &command);
    let (_, Piece::Text(name)) = operation.attributes()[0] else { panic!("{operation:?}") };
    let name = name.to_owned();
    let result = redis.send(command).await;
    let ended = <RedisConvention as Describe<Command, Value, Error>>::end(&result);
    let status = ended.status.map(|(key, piece)| {
        assert_eq!(key, "db.response.status_code");
        let Piece::Text(code) = piece else { panic!("{piece:?}") };
        code.to_owned()
    });
    assert!(!format!("{ended:?}").contains("hunter2"));
    (name, status, ended.error.map(str::to_owned))
}

#[tokio::test]
async fn every_ending_has_its_prefix_or_a_kind_of_its_own() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let eval = |script: &str| Command::new("EVAL").arg(script).arg(0);
    for (command, name, code) in [
        (Command::set("hunter2", "hunter2"), "SET", None),
        (Command::get("hunter2"), "GET", None),
        (Command::new("LPUSH").arg("hunter2").arg("hunter2"), "LPUSH", Some("WRONGTYPE")),
        (Command::new("EVALSHA").arg("0".repeat(40)).arg(0), "EVALSHA", Some("NOSCRIPT")),
        (Command::new("HUNTER2").arg("hunter2"), "HUNTER2", Some("ERR")),
        (Command::incr("hunter2"), "INCR", Some("ERR")),
        (eval("return redis.error_reply('HUNTER2 of 7')"), "EVAL", Some("_OTHER")),
        (eval("return redis.error_reply('OOM by a script')"), "EVAL", Some("OOM")),
    ] {
        let code = code.map(str::to_owned);
        assert_eq!(told(&redis, command).await, (name.to_owned(), code.clone(), code));
    }
    let told_of = async |command| {
        let (name, status, error) = told(&redis, command).await;
        assert_eq!(status, None);
        (name, error)
    };
    let invalid = told_of(Command::new("GET hunter2")).await;
    assert_eq!(invalid, ("_OTHER".into(), Some("invalid_name".into())));
    let blocking = told_of(Command::new("BLPOP").arg("hunter2").arg(0)).await;
    assert_eq!(blocking, ("BLPOP".into(), Some("unshareable".into())));
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_connection_or_a_rejection() {
    let server = RedisServer::start().await;
    let (registry, redis) = (Registry::new(), connect(&server).await);
    registry.register(&redis).unwrap();
    told(&redis, Command::ping()).await;
    let open = || registry.snapshot().performance_stats().layers[0].pool.unwrap().open;
    assert!(open() >= 1);
    server.kill().await;
    let (name, status, error) = told(&redis, Command::incr("hits").once()).await;
    assert_eq!((name.as_str(), status), ("INCR", None));
    // The command is cut off in the middle, or it waits for a connection until its time is over.
    assert!(matches!(error.as_deref(), Some("connection" | "timed_out")), "{error:?}");
}

#[tokio::test]
async fn a_layer_counts_commands_by_their_names_and_shows_no_argument() {
    let server = RedisServer::start().await;
    let (registry, redis) = (Registry::new(), connect(&server).await);
    let watch =
        TelemetryLayer::builder("sessions", &registry).convention(RedisConvention::new(3)).build().unwrap();
    let redis = watch.layer(redis);
    for (command, succeeds) in [
        (Command::set("hunter2", "hunter2"), true),
        (Command::get("hunter2"), true),
        (Command::get("hunter2"), true),
        (Command::incr("hunter2"), false),
        (Command::new("SADD").arg("hunter2").arg("hunter2"), false),
        (Command::new("hunter2 3"), false),
    ] {
        assert_eq!(redis.clone().oneshot(command.clone()).await.is_ok(), succeeds, "{command:?}");
    }
    let snapshot = registry.snapshot();
    let calls = snapshot.calls("sessions").unwrap();
    let mut seen: Vec<_> =
        calls.operations.iter().map(|of| (&*of.operation, of.count(), of.success)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("GET", 2, 2), ("INCR", 1, 0), ("SADD", 1, 0), ("SET", 1, 1), ("_OTHER", 1, 0)]);
    let mut errors: Vec<_> = calls.total.errors.iter().map(|error| (&*error.kind, error.count)).collect();
    errors.sort_unstable();
    assert_eq!(errors, [("ERR", 1), ("WRONGTYPE", 1), ("invalid_name", 1)]);
    let shown = serde_json::to_string(&snapshot).unwrap() + &format!("{snapshot:?}");
    assert!(!shown.contains("hunter2"));
    #[cfg(feature = "prometheus")]
    {
        let page = registry.prometheus();
        for of_a_series in
            ["db_system_name=\"redis\"", "db_namespace=\"3\"", "db_response_status_code=\"WRONGTYPE\""]
        {
            assert!(page.contains(of_a_series), "{of_a_series}\n{page}");
        }
        assert!(!page.contains("hunter2"));
    }
}
