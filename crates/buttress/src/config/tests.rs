use std::time::Duration;

use serde::de::DeserializeOwned;

use super::*;

fn read<T: DeserializeOwned>(toml: &str) -> T {
    use figment::providers::{Format, Toml};
    figment::Figment::from(Toml::string(toml)).extract().unwrap()
}

#[test]
fn what_is_made_in_code_has_the_defaults_of_the_file() {
    assert_eq!(read::<Database>("url = 'postgres://h'"), Database::new("postgres://h"));
    assert_eq!(read::<Redis>("url = 'redis://h'"), Redis::new("redis://h"));
    assert_eq!(read::<Http>("base_url = 'http://h'"), Http::new("http://h"));
    assert_eq!(read::<Bulkhead>("limit = 7"), Bulkhead::new(7));
    assert_eq!(read::<Config>(""), Config::default());
}

#[test]
fn the_defaults_are_right() {
    let config = Config {
        database: Some(Database::new("postgres://h")),
        redis: Some(Redis::new("redis://h")),
        cache: Some(Cache { shared: true, ..Cache::default() }),
        http: BTreeMap::from([("stock".to_owned(), Http::new("http://h/v1"))]),
        ..Config::default()
    };
    assert_eq!(config.find_wrong(), Ok(()));
    assert_eq!(Bulkhead::new(7).queue(), Ok(None));
}

#[test]
fn what_a_table_says_is_what_the_layer_gets() {
    let limit = RateLimit { limit: 7, per: Duration::from_secs(2), ..RateLimit::default() }.limit().unwrap();
    assert_eq!((limit.rate().units(), limit.rate().period()), (7, Duration::from_secs(2)));
    assert_eq!(limit.algorithm(), buttress_rate_limit::Algorithm::SlidingWindow);

    let backoff = Retry { jitter: Jitter::None, factor: 3.0, ..Retry::default() }.backoff().unwrap();
    let delays: Vec<_> = backoff.delays().take(4).map(|delay| delay.as_secs()).collect();
    assert_eq!(delays, [1, 3, 9, 10]);

    let breaker = CircuitBreaker { failures: 3, failure_rate: Some(0.5), ..CircuitBreaker::default() };
    let settings = breaker.settings().unwrap();
    let running = buttress_circuit_breaker::CircuitBreakerLayer::new("t").breaker();
    running.configure(settings);
    let mut told = Vec::new();
    buttress_core::Observe::settings(&running, &mut |setting| told.push(format!("{setting:?}")));
    let told = told.join("\n");
    for part in ["failure_rate", "0.5", "consecutive", "Count(3)", "Count(20)", "Duration(60s)"] {
        assert!(told.contains(part), "{part}: {told}");
    }

    let bulkhead = Bulkhead { queue: 3, ..Bulkhead::new(7) };
    let queue = buttress_bulkhead::Queue::try_new(3, Duration::from_secs(1)).unwrap();
    assert_eq!(bulkhead.queue(), Ok(Some(queue)));
    assert_eq!(bulkhead.limit(), Ok(buttress_bulkhead::Limit::fixed(7).unwrap()));

    let database = format!("{:?}", Database::new("postgres://u:hunter2@h").client("shop").unwrap());
    for part in
        ["application_name: Some(\"shop\")", "name: \"database\"", "max_overflow: 30", "pool_size: 20"]
    {
        assert!(database.contains(part), "{part}: {database}");
    }
    assert!(!database.contains("hunter2"));
    let redis = Redis { pool_size: Some(3), ..Redis::new("redis://h") };
    let redis = format!("{:?}", redis.client().unwrap());
    assert!(redis.contains("pool_size: 3") && redis.contains("name: \"redis\""), "{redis}");

    let http =
        Http { max_connections: 7, redirects: 2, timeout: Duration::from_secs(9), ..Http::new("http://h") };
    let client = http.client("stock").unwrap();
    let mut told = Vec::new();
    buttress_core::Observe::settings(&client.connections(), &mut |setting| told.push(format!("{setting:?}")));
    let told = told.join("\n");
    for part in [
        "max_connections_per_host\", value: Count(7)",
        "max_connections\", value: Count(1000)",
        "Duration(5s)",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let api = format!("{:?}", http.api("stock").unwrap());
    for part in ["name: \"stock\"", "timeout: 9s", "redirects: 2", "max_answer: 10485760", "wrong: None"] {
        assert!(api.contains(part), "{part}: {api}");
    }
}

const EXAMPLE: &str = include_str!("../../../../buttress.example.toml");

/// Each line that is a `#` and a key, or a table, without its `#`.
fn uncommented() -> String {
    let is_setting = |rest: &str| {
        let key = rest.split(" = ").next().unwrap_or_default();
        rest.starts_with('[')
            || (rest.contains(" = ") && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    };
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_as_it_is_has_all_defaults() {
    let defaults = Config {
        database: Some(Database::new("postgres://app@localhost/shop")),
        redis: Some(Redis::new("redis://localhost")),
        cache: Some(Cache::default()),
        http: BTreeMap::from([("stock".to_owned(), Http::new("http://stock.internal/v1"))]),
        ..Config::default()
    };
    assert_eq!(Config::from_toml(EXAMPLE), Ok(defaults));
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    // That it has each key of the types is seen in tests/schema.rs.
    assert_eq!(read::<Config>(&uncommented()), shape::whole());
    let mut missing = Vec::new();
    let example: figment::value::Value = read(&uncommented());
    each_key(&figment::value::Value::serialize(shape::whole()).unwrap(), &mut Vec::new(), &mut |keys| {
        if example.find_ref(&keys.join(".")).is_none() {
            missing.push(keys.join("."));
        }
    });
    assert_eq!(missing, [""; 0]);
}

fn each_key(value: &figment::value::Value, keys: &mut Vec<String>, visit: &mut impl FnMut(&[String])) {
    for (key, value) in value.as_dict().into_iter().flatten() {
        keys.push(key.clone());
        visit(keys);
        each_key(value, keys, visit);
        keys.pop();
    }
}

#[test]
fn secrets_are_known_by_their_type() {
    // A secret serializes as stars, and nothing else does.
    each_key(&figment::value::Value::serialize(shape::whole()).unwrap(), &mut Vec::new(), &mut |keys| {
        let is_secret = shape::at(keys).and_then(|value| value.as_str()) == Some("***");
        let is_container = matches!(shape::at(keys), Some(figment::value::Value::Dict(..)));
        assert!(is_container || shape::is_secret(keys) == is_secret, "{keys:?}");
    });
}

#[tokio::test]
async fn the_bounds_of_the_interval_are_those_of_a_probe() {
    let part = |interval| {
        let probe = buttress_health::Probe::from_fn(|| async { Ok::<_, std::io::Error>(()) });
        let part = buttress_health::Part::new("a", probe).interval(interval);
        buttress_health::Health::builder().part(part).start().map(drop)
    };
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(86_400));
    for interval in [least, most] {
        assert_eq!(Config { health: Health { interval }, ..Config::default() }.check(), Ok(()));
        part(interval).unwrap();
    }
    for interval in [least - Duration::from_nanos(1), most + Duration::from_nanos(1)] {
        assert!(Config { health: Health { interval }, ..Config::default() }.check().is_err());
    }
}
