use std::{
    cell::RefCell,
    env,
    fs::{self, File},
    os::fd::AsRawFd,
    path::PathBuf,
};

use buttress::{
    Config, ConfigError,
    config::figment::{
        Figment,
        providers::{Format, Serialized, Toml},
        value::{Dict, Value},
    },
};

use crate::cost::bounded;

/// What a secret has in it. Nothing else may show it.
const SECRET: &str = "hunter2";

/// A configuration, from a file and from environment variables: an error is one line without a secret, a good one passes its
/// own check, and read back from what it is written as it is the same, with the same explanation.
///
/// The input: the file, and behind a line `# environment` the variables, a line each. What has `hunter2` in it is a secret.
///
/// # Panics
/// Where that does not hold.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // It would be read.
    if text.contains("sslrootcert") {
        return;
    }
    let (file, variables) = text.split_once("# environment\n").unwrap_or((text, ""));
    let variables: Vec<(&str, &str)> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    let read = bounded(data, 4 << 20, 2_048, || {
        if variables.is_empty() { Config::from_toml(file) } else { with_variables(file, &variables) }
    });
    let hides = hides_secret(file, &variables);
    match read {
        Ok(config) => good(&config, hides),
        Err(error) => bad(&error, hides),
    }
}

thread_local! {
    static FILE: RefCell<Option<(File, PathBuf)>> = const { RefCell::new(None) };
}

/// A file of this thread's, which has no name: a finding aborts the process, and nobody would remove it.
fn nameless() -> (File, PathBuf) {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let name = env::temp_dir().join(format!("buttress-fuzz-{}-{thread}.toml", std::process::id()));
    let file = File::create(&name).expect("the temporary directory takes a file");
    fs::remove_file(&name).expect("it is there");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

fn with_variables(file: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    FILE.with_borrow_mut(|kept| {
        let (_open, path) = kept.get_or_insert_with(nameless);
        fs::write(&*path, file).expect("it takes a text");
        Config::load_with(&*path, variables.iter().copied())
    })
}

/// Whether the secret stands only where a secret belongs, or in what is no TOML at all.
fn hides_secret(file: &str, variables: &[(&str, &str)]) -> bool {
    let is_shown = |(name, value): &(&str, &str)| {
        let keys: Vec<String> = name.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        let keys: Vec<String> =
            keys.iter().map(|key| key.trim_start_matches("buttress_").to_owned()).collect();
        name.contains(SECRET) || value.contains(SECRET) && !is_secret(&keys)
    };
    if variables.iter().any(is_shown) {
        return false;
    }
    match Toml::from_str::<Value>(file) {
        Ok(value) => !shows(&value, &mut Vec::new()),
        Err(_) => true,
    }
}

fn is_secret(keys: &[String]) -> bool {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    matches!(keys[..], ["database" | "redis", "url"] | ["http", _, "bearer"] | ["http", _, "headers", _])
}

fn shows(value: &Value, keys: &mut Vec<String>) -> bool {
    match value {
        Value::Dict(_, table) => table.iter().any(|(key, value)| {
            keys.push(key.clone());
            let shows = key.contains(SECRET) || shows(value, keys);
            keys.pop();
            shows
        }),
        Value::Array(_, values) => values.iter().any(|value| shows(value, keys)),
        Value::String(_, text) => text.contains(SECRET) && !is_secret(keys),
        _ => false,
    }
}

fn bad(error: &ConfigError, hides: bool) {
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    for text in [&shown, &debugged] {
        assert!(!text.chars().any(char::is_control), "more than a line: {text:?}");
        assert!(text.chars().count() <= 1_500, "more than anybody reads: {text}");
        assert!(!hides || !text.contains(SECRET), "{text}");
    }
    assert!(!shown.ends_with(": ") && !shown.is_empty(), "it says what to do: {shown}");
}

fn good(config: &Config, hides: bool) {
    assert_eq!(config.check(), Ok(()), "what was taken is taken again");
    let mut written = Value::serialize(config).expect("it has strings, numbers and tables alone");
    assert!(!hides || !format!("{config:?}{written:?}").contains(SECRET), "{config:?}");
    tell(config, &mut written);
    let Some(table) = written.into_dict() else { panic!("it is a table") };
    let back = Config::from_figment(&Figment::from(Serialized::defaults(table)));
    let back = back.unwrap_or_else(|error| panic!("{error}: {config:?}"));
    assert_eq!(&back, config);
    // Their names are kept for good, which a process has few of, and a fuzzer many.
    let is_usual = |name: &String| ["app", "shop", "stock", "pay"].contains(&name.as_str());
    if is_usual(&config.name) && config.http.keys().all(is_usual) {
        match (config.explain(), back.explain()) {
            (Ok(explained), Ok(again)) => {
                assert_eq!(explained, again);
                let page = format!("{explained}");
                assert!(!hides || !page.contains(SECRET), "{page}");
            }
            (Err(error), _) | (_, Err(error)) => bad(&error, hides),
        }
    }
}

/// Puts the secrets where they are hidden.
fn tell(config: &Config, written: &mut Value) {
    let Value::Dict(_, all) = written else { return };
    let mut put = |keys: &[&str], secret: &buttress::config::Secret| {
        let Some((last, tables)) = keys.split_last() else { return };
        let mut table: &mut Dict = &mut *all;
        for key in tables {
            let Some(Value::Dict(_, below)) = table.get_mut(*key) else { panic!("{keys:?}") };
            table = below;
        }
        table.insert((*last).to_owned(), Value::from(secret.expose().to_owned()));
    };
    if let Some(database) = &config.database {
        put(&["database", "url"], &database.url);
    }
    if let Some(redis) = &config.redis {
        put(&["redis", "url"], &redis.url);
    }
    for (name, http) in &config.http {
        if let Some(bearer) = &http.bearer {
            put(&["http", name, "bearer"], bearer);
        }
        for (header, value) in &http.headers {
            put(&["http", name, "headers", header], value);
        }
    }
}
