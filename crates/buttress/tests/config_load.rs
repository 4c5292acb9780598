//! What a file and the environment come to.
#![cfg(feature = "system")]

use std::{ffi::OsString, fs, time::Duration};

use buttress::{
    Config,
    config::{Cache, Http},
};
use tempfile::TempDir;

const FILE: &str = r#"
name = "shop"

[database]
url = "postgres://h"
timeout = "1m 30s"

[http.Stock-Api]
base_url = "http://h"
headers = { X-Key = "from the file" }
"#;

fn load(toml: &str, variables: &[(&str, &str)]) -> Config {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buttress.toml");
    fs::write(&path, toml).unwrap();
    Config::load_with(&path, variables.iter().copied()).unwrap()
}

#[test]
fn a_file_alone_has_the_defaults_for_the_rest() {
    assert_eq!(load("", &[]), Config::default());
    assert_eq!(load("[cache]", &[]).cache, Some(Cache::default()));
    assert_eq!(load("\u{feff}name = 'a'\r\n[cache]\r\n", &[]).name, "a");
    assert_eq!(load("[http.a]\nbase_url = 'http://h'", &[]).http["a"], Http::new("http://h"));
    assert_eq!(load(FILE, &[]).database.unwrap().timeout, Duration::from_secs(90));
    assert_eq!(load(FILE, &[]), Config::from_toml(FILE).unwrap());
}

#[test]
fn variables_go_before_the_file() {
    let config = load(
        FILE,
        &[
            ("BUTTRESS_NAME", "other"),
            ("BUTTRESS_DATABASE__POOL_SIZE", "040"),
            ("buttress_database__retry__factor", "1.5"),
            ("BUTTRESS_DATABASE__CIRCUIT_BREAKER__ENABLED", "false"),
            ("BUTTRESS_DATABASE__ATTEMPT_TIMEOUT", "5s"),
            ("BUTTRESS_REDIS__URL", "redis://r"),
            ("BUTTRESS_CACHE__SHARED", "true"),
            ("BUTTRESS_HTTP__MAIL__BASE_URL", "http://m"),
            ("OTHER_DATABASE__POOL_SIZE", "x"),
            ("BUTTRESS_CONFIG", "/etc/buttress.toml"),
            ("BUTTRESS_SIMULATION_SEED", "7"),
            ("BUTTRESS", "x"),
            ("BUTTRES\u{fc}", "x"),
        ],
    );
    assert_eq!(config.name, "other");
    let database = config.database.unwrap();
    assert_eq!((database.pool_size, database.retry.factor), (40, 1.5));
    assert_eq!(
        (database.timeout, database.attempt_timeout),
        (Duration::from_secs(90), Some(Duration::from_secs(5)))
    );
    assert!(!database.circuit_breaker.enabled && config.cache.unwrap().shared);
    assert_eq!(config.redis.unwrap().url.expose(), "redis://r");
    assert_eq!(config.http["mail"].base_url, "http://m");
}

#[test]
fn a_text_is_taken_as_it_is() {
    for text in [
        "0012",
        "1e5",
        "true",
        "null",
        "[a]",
        "{a=1}",
        "\"quoted\"",
        "'q'",
        "a,b",
        "1.50",
        "99999999999999999999",
    ] {
        let variables = [("BUTTRESS_HTTP__STOCK_API__BEARER", text)];
        let config = load(FILE, &variables);
        assert_eq!(config.http["Stock-Api"].bearer.as_ref().unwrap().expose(), text);
    }
    assert_eq!(load(FILE, &[("BUTTRESS_NAME", "007")]).name, "007");
}

#[test]
fn names_of_the_file_are_found_and_others_are_made() {
    let config = load(
        FILE,
        &[
            ("BUTTRESS_HTTP__STOCK_API__HEADERS__X_KEY", "a"),
            ("BUTTRESS_HTTP__STOCK_API__HEADERS__X_OTHER_KEY", "b"),
            ("BUTTRESS_HTTP__NEW_ONE__BASE_URL", "http://n"),
            ("BUTTRESS_HTTP__New_One__BEARER", "c"),
        ],
    );
    assert_eq!(config.http.keys().collect::<Vec<_>>(), ["Stock-Api", "new_one"]);
    let headers: Vec<_> = config.http["Stock-Api"]
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(headers, [("X-Key", "a"), ("x-other-key", "b")]);
    assert_eq!(config.http["new_one"].bearer.as_ref().unwrap().expose(), "c");
}

#[cfg(unix)]
#[test]
fn what_is_not_utf_8_is_refused_and_not_shown() {
    use std::os::unix::ffi::OsStringExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buttress.toml");
    fs::write(&path, FILE).unwrap();
    let load = |name: &[u8], value: &[u8]| {
        let variable = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        Config::load_with(&path, [variable]).unwrap_err().to_string()
    };
    assert_eq!(load(b"BUTTRESS_NAME", b"hunter2\xff"), "environment: BUTTRESS_NAME: its value is not UTF-8");
    let line = load(b"BUTTRESS_NAM\xff", b"hunter2");
    assert_eq!(line, "environment: BUTTRESS_NAM\u{fffd}: unknown key, did you mean `name`?");
}

#[test]
fn other_providers_are_welcome_and_as_strict() {
    use figment::{
        Figment,
        providers::{Format, Toml},
    };
    let config = Config::from_figment(&Figment::from(Toml::string(FILE)).merge(("name", "third"))).unwrap();
    assert_eq!(config.name, "third");
    // A password of digits that a provider has made a number of.
    let error =
        Config::from_figment(&Figment::from(Toml::string(FILE)).merge(("http.Stock-Api.bearer", 7_777)));
    assert_eq!(error.unwrap_err().to_string(), "configuration: http.Stock-Api.bearer: write it in quotes");
    let broken = Figment::from(Toml::string("[database]\nurl = postgres://u:hunter2@h"));
    let error = Config::from_figment(&broken).unwrap_err().to_string();
    assert_eq!(error, "configuration: it cannot be read, a provider of it failed");

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("own.toml");
    fs::write(&path, "[cache]\nttl = 5").unwrap();
    let error = Config::from_figment(&Figment::from(Toml::file_exact(&path))).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: cache.ttl = 5: it has no unit, write \"5s\"", path.display()));
    assert_eq!(error.file(), Some(&*path));
}

#[test]
fn the_process_s_environment_is_looked_at() {
    // It has no variable of ours: a test sets none.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buttress.toml");
    fs::write(&path, FILE).unwrap();
    assert_eq!(Config::load(&path).unwrap(), Config::from_toml(FILE).unwrap());
}

#[test]
fn regression_60_what_a_configuration_serializes_as_is_a_configuration() {
    use figment::{
        Figment,
        providers::{Format, Serialized, Toml},
    };

    let defaults = Figment::from(Serialized::defaults(Config::default()));
    assert_eq!(Config::from_figment(&defaults).unwrap(), Config::default());
    let toml = Figment::from(Toml::string("[redis]\nurl = \"redis://localhost\"\n[cache]\nshared = true"));
    let config = Config::from_figment(&defaults.merge(toml)).unwrap();
    assert_eq!(config.redis.unwrap().pool_size, None);
    let unset = Figment::from(Toml::string("[cache]\nttl = \"1m\"")).merge(("cache", None::<String>));
    assert_eq!(Config::from_figment(&unset).unwrap().cache, None, "the last word counts");
}
