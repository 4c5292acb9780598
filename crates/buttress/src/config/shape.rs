//! Which keys there are, and of which type: taken from a configuration that has all of them.

use std::{collections::BTreeMap, sync::LazyLock};

use figment::value::{Dict, Num, Value};

use super::{
    Bulkhead, Cache, CircuitBreaker, Config, Database, Http, RateLimit, Redis, Retry, Telemetry, say,
    wrong::Wrong,
};

/// Each optional key is there: with what `buttress.example.toml` has of it, which is the default where there is one.
pub(super) fn whole() -> Config {
    let attempt_timeout = Some(std::time::Duration::from_secs(10));
    let rate_limit = Some(RateLimit::default());
    let circuit_breaker = CircuitBreaker { failure_rate: Some(0.5), ..CircuitBreaker::default() };
    let bulkhead = Some(Bulkhead::new(50));
    let database = Database {
        attempt_timeout,
        rate_limit: rate_limit.clone(),
        circuit_breaker: circuit_breaker.clone(),
        bulkhead: bulkhead.clone(),
        ..Database::new("postgres://app@localhost/shop")
    };
    let redis = Redis {
        pool_size: Some(4),
        rate_limit: rate_limit.clone(),
        retry: Some(Retry::default()),
        circuit_breaker: circuit_breaker.clone(),
        bulkhead: bulkhead.clone(),
        ..Redis::new("redis://localhost")
    };
    let stock = Http {
        bearer: Some("a token".into()),
        headers: BTreeMap::from([("x-api-key".to_owned(), "a key".into())]),
        attempt_timeout,
        rate_limit,
        circuit_breaker,
        bulkhead,
        ..Http::new("http://stock.internal/v1")
    };
    let telemetry = Telemetry {
        dashboard: Some(([127, 0, 0, 1], 9900).into()),
        otlp: Some("http://localhost:4317".to_owned()),
        ..Telemetry::default()
    };
    Config {
        database: Some(database),
        redis: Some(redis),
        cache: Some(Cache::default()),
        http: BTreeMap::from([("stock".to_owned(), stock)]),
        telemetry,
        ..Config::default()
    }
}

static SHAPE: LazyLock<Value> = LazyLock::new(|| {
    Value::serialize(whole()).expect("a configuration has strings, numbers and tables alone")
});

/// Whether it is a table whose keys are names of the user's.
pub(super) fn names_are_free(keys: &[String]) -> bool {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    matches!(keys[..], ["http"] | ["http", _, "headers"])
}

/// Whether what stands there must not be shown.
pub(super) fn is_secret(keys: &[String]) -> bool {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    matches!(keys[..], [.., "url" | "bearer"] | ["http", _, "headers", ..])
}

/// An example of what stands there.
pub(super) fn at(keys: &[String]) -> Option<&'static Value> {
    let mut shape: &Value = &SHAPE;
    for (depth, key) in keys.iter().enumerate() {
        let Value::Dict(_, table) = shape else { return None };
        shape = child(table, &keys[..depth], key)?;
    }
    Some(shape)
}

fn child<'s>(table: &'s Dict, above: &[String], key: &str) -> Option<&'s Value> {
    if names_are_free(above) { table.values().next() } else { table.get(key) }
}

/// The keys of a table.
pub(super) fn keys(keys: &[String]) -> Vec<&'static str> {
    match at(keys) {
        Some(Value::Dict(_, table)) => table.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The keys that lead from a table to a value: to one that has no default, where there is one.
pub(super) fn example(above: &[String]) -> Vec<String> {
    let mut keys = above.to_vec();
    while let Some(Value::Dict(_, table)) = at(&keys) {
        if names_are_free(&keys) {
            keys.push("name".to_owned());
            continue;
        }
        let needed = ["url", "base_url", "limit"].into_iter().find(|key| table.contains_key(*key));
        let Some(key) = needed.or_else(|| table.keys().next().map(String::as_str)) else { break };
        keys.push(key.to_owned());
    }
    keys.split_off(above.len())
}

/// Without the keys that are there and have no value. TOML has none, but what serializes a [`Config`] gives one to each that
/// is not set.
pub(super) fn without_nothing(found: Value) -> Value {
    match found {
        Value::Dict(tag, table) => {
            let table = table.into_iter().filter(|(_, value)| !matches!(value, Value::Empty(..)));
            Value::Dict(tag, table.map(|(key, value)| (key, without_nothing(value))).collect())
        }
        found => found,
    }
}

/// The first key that there is not, or whose value is of another type. serde would take the number of an enum's word
/// for the word.
pub(super) fn find_wrong(found: &Value) -> Result<(), (Vec<String>, Wrong)> {
    compare(found, &SHAPE, &mut Vec::new())
}

fn compare(found: &Value, shape: &'static Value, keys: &mut Vec<String>) -> Result<(), (Vec<String>, Wrong)> {
    let (Value::Dict(_, found), Value::Dict(_, shape)) = (found, shape) else {
        return if is_of_type(found, shape) {
            Ok(())
        } else {
            Err((keys.clone(), say::wrong_type(keys, found, shape)))
        };
    };
    for (key, value) in found {
        let known = child(shape, keys, key);
        keys.push(key.clone());
        let Some(known) = known else {
            return Err((
                keys.clone(),
                say::unknown_key(keys, Some(value), shape.keys().map(String::as_str)),
            ));
        };
        compare(value, known, keys)?;
        keys.pop();
    }
    Ok(())
}

fn is_of_type(found: &Value, shape: &Value) -> bool {
    match (found, shape) {
        (Value::String(..), Value::String(..)) | (Value::Bool(..), Value::Bool(..)) => true,
        (Value::Num(..), Value::Num(_, Num::F64(_))) => true,
        (Value::Num(_, found), Value::Num(..)) => !matches!(found, Num::F32(_) | Num::F64(_)),
        _ => false,
    }
}
