//! The JSON Schema of the configuration: it is the one that is checked in, and it says what the program says.
#![cfg(feature = "schema")]

use std::{env, fs, path::Path};

use buttress::Config;
use figment::{
    Figment,
    providers::{Format, Toml},
};
use jsonschema::Validator;
use serde_json::{Map, Value};

const EXAMPLE: &str = include_str!("../../../buttress.example.toml");

fn validator() -> Validator {
    jsonschema::validator_for(&Config::schema()).unwrap()
}

fn json(toml: &str) -> Value {
    Figment::from(Toml::string(toml)).extract().unwrap()
}

/// With all keys.
fn example() -> Value {
    let is_key =
        |rest: &str| rest.starts_with('[') || rest.split(" = ").count() > 1 && !rest.starts_with(' ');
    let lines =
        EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
    json(&lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_file_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/buttress.schema.json");
    let schema = Config::schema();
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{schema:#}\n")).unwrap();
    }
    // Not compared as text: the order of keys is up to features of `serde_json` that others turn on.
    let there = fs::read(&path).ok().and_then(|there| serde_json::from_slice::<Value>(&there).ok());
    assert!(
        there == Some(schema),
        "{} is not what the types say: UPDATE_SCHEMA=1 cargo test -p buttress --features schema --test schema",
        path.display()
    );
}

#[test]
fn the_example_is_valid_with_and_without_its_defaults() {
    let validator = validator();
    for example in [json(EXAMPLE), example(), json("")] {
        let errors: Vec<_> = validator.iter_errors(&example).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0]);
    }
}

/// Visits each table, with the path to it.
fn each_table(value: &Value, path: String, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    let Value::Object(table) = value else { return };
    visit(&path, table);
    for (key, value) in table {
        each_table(value, format!("{path}/{key}"), visit);
    }
}

#[test]
fn an_unknown_key_is_not_valid_in_any_table() {
    let (validator, example) = (validator(), example());
    let mut tables = Vec::new();
    each_table(&example, String::new(), &mut |path, table| tables.push((path.to_owned(), table.clone())));
    assert!(tables.len() >= 18, "{tables:?}");
    for (path, table) in tables {
        let mut wrong = example.clone();
        let place = wrong.pointer_mut(&path).and_then(Value::as_object_mut).unwrap();
        place.insert("pool_sise".to_owned(), 40.into());
        assert!(!validator.is_valid(&wrong), "an unknown key is valid in `{path}`");
        // Every value of another type is not valid either.
        for key in table.keys() {
            for other in [Value::Array(Vec::new()), Value::Null] {
                let mut wrong = example.clone();
                *wrong.pointer_mut(&format!("{path}/{key}")).unwrap() = other.clone();
                assert!(!validator.is_valid(&wrong), "{other} is valid as `{path}/{key}`");
            }
        }
    }
}

/// The example is known to have each key that the program knows; here it is seen to have each that the types have.
#[test]
fn the_example_has_each_key_of_the_schema() {
    let (schema, example) = (Config::schema(), example());
    let mut missing = Vec::new();
    compare(&schema, &schema, &example, String::new(), &mut missing);
    assert_eq!(missing, [""; 0]);
}

fn compare(root: &Value, schema: &Value, example: &Value, path: String, missing: &mut Vec<String>) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(to) => root.pointer(to.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (key, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}/{key}");
        assert!(schema.get("description").is_some(), "{path} says nothing of itself");
        match example.get(key) {
            Some(example) => compare(root, schema, example, path, missing),
            None => missing.push(path),
        }
    }
    if let Some(schema) = schema.get("additionalProperties").filter(|schema| schema.is_object()) {
        let tables = example.as_object().into_iter().flatten();
        tables.for_each(|(key, table)| compare(root, schema, table, format!("{path}/{key}"), missing));
    }
}

#[test]
fn durations_are_those_of_the_program() {
    let validator = validator();
    for duration in [
        "30s",
        "500ms",
        "5m",
        "1h 30m",
        "1h30m",
        "4.2s",
        "2 min",
        "1day",
        "1y",
        "1month",
        "0",
        "7us",
        "7µs",
        "",
        "5",
        "s",
        "5M",
        "-5s",
        "5 x",
        "5s,",
        "half",
        "5s 3",
        "2 weeks 1 d",
        "10nanos",
        "3millis",
    ] {
        let toml = format!("[cache]\nstale_if_error = \"{duration}\"");
        assert_eq!(validator.is_valid(&json(&toml)), Config::from_toml(&toml).is_ok(), "{duration:?}");
    }
}

#[test]
fn a_name_that_no_api_can_have_is_not_valid() {
    let validator = validator();
    for (name, is_valid) in
        [("stock", true), ("Stock-2_b", true), ("a b", false), ("", false), ("a.b", false)]
    {
        let toml = format!("[http.\"{name}\"]\nbase_url = \"http://h\"");
        assert_eq!(validator.is_valid(&json(&toml)), is_valid, "{name:?}");
        assert_eq!(Config::from_toml(&toml).is_ok(), is_valid, "{name:?}");
    }
}
