//! What is said of a wrong configuration: one line with the place, the key, the value and the fix, and never a secret.
#![cfg(feature = "system")]

#[path = "config_errors/environment.rs"]
mod environment;
#[path = "config_errors/keys.rs"]
mod keys;
#[path = "config_errors/values.rs"]
mod values;

use std::{fs, path::Path};

use buttress::{Config, ConfigError};
use tempfile::TempDir;

const API: &str = "[http.stock]\nbase_url = \"http://h\"\n";
const NOTHING: [(&str, &str); 0] = [];

/// What is said of a file with this in it, without its folder.
fn said(toml: impl AsRef<[u8]>, variables: &[(&str, &str)]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buttress.toml");
    fs::write(&path, toml).unwrap();
    let error = Config::load_with(&path, variables.iter().copied()).expect_err("it is wrong");
    shown(&error, folder.path())
}

fn shown(error: &ConfigError, folder: &Path) -> String {
    let line = error.to_string();
    assert!(!line.contains(char::is_control), "{line:?} is not one line");
    assert_eq!(format!("{error:?}"), format!("ConfigError({line})"));
    line.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn each_wrong_file_is_told_by_its_line() {
    let tables = [
        keys::KEYS,
        keys::TYPES,
        keys::MISSING,
        keys::SYNTAX,
        values::DURATIONS,
        values::WORDS,
        values::VALUES,
    ];
    let cases: Vec<_> = tables.into_iter().flatten().collect();
    assert!(cases.len() >= 100, "{}", cases.len());
    for (toml, line) in cases {
        let toml = toml.strip_prefix("API\n").map_or((*toml).to_owned(), |rest| format!("{API}{rest}"));
        let said = said(&toml, &[]);
        assert_eq!(said, format!("buttress.toml: {line}"), "{toml}");
        assert!(!said.contains("hunter2") || toml.starts_with("hunter2"), "{said}");
        // Without a file the same is said of the program's text.
        let from_text = Config::from_toml(&toml).expect_err("it is wrong").to_string();
        assert_eq!(from_text, format!("configuration: {line}"), "{toml}");
    }
}

#[test]
fn each_wrong_variable_is_told_by_its_line() {
    let file = format!("[database]\nurl = \"postgres://h\"\n{API}");
    for (variables, line) in environment::VARIABLES {
        let said = said(&file, variables);
        assert_eq!(said, format!("environment: {line}"), "{variables:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_needs_a_feature_says_so() {
    let dashboard = "[telemetry]\ndashboard = \"127.0.0.1:9900\"";
    let otlp = "[telemetry]\notlp = \"http://localhost:4317\"";
    if cfg!(feature = "dashboard") {
        assert!(Config::from_toml(dashboard).is_ok());
    } else {
        let line = "telemetry.dashboard = \"127.0.0.1:9900\": it needs the feature `dashboard` of buttress, turn it on in Cargo.toml";
        assert_eq!(said(dashboard, &[]), format!("buttress.toml: {line}"));
    }
    if cfg!(feature = "otlp") {
        assert!(Config::from_toml(otlp).is_ok());
        let fix = "write scheme, host and port of a collector for OTLP over gRPC, such as \"http://localhost:4317\"";
        for (address, value) in [
            ("localhost:4317", " = \"localhost:4317\""),
            ("http://u:hunter2@localhost:4317", ""),
            ("http://localhost:4317/v1/traces", " = \"http://localhost:4317/v1/traces\""),
        ] {
            let said = said(format!("[telemetry]\notlp = \"{address}\""), &[]);
            assert_eq!(said, format!("buttress.toml: telemetry.otlp{value}: {fix}"));
        }
    } else {
        let line = "telemetry.otlp = \"http://localhost:4317\": it needs the feature `otlp` of buttress, turn it on in Cargo.toml";
        assert_eq!(said(otlp, &[]), format!("buttress.toml: {line}"));
    }
    let https = Config::from_toml("[http.stock]\nbase_url = \"https://h\"");
    let tls = Config::from_toml(
        "[database]\nurl = \"postgres://u:hunter2@h?sslmode=require&sslrootcert=/hunter2.pem\"",
    );
    let tls = tls.unwrap_err().to_string();
    if cfg!(any(feature = "tls-ring", feature = "tls-aws-lc-rs")) {
        assert!(https.is_ok(), "{https:?}");
        let fix =
            "its `sslrootcert` cannot be used, name a PEM file of certificates that this process may read";
        assert_eq!(tls, format!("configuration: database.url: {fix}"));
    } else {
        let fix =
            "https needs the feature `tls-ring` or `tls-aws-lc-rs`, turn one on in Cargo.toml, or write http";
        let line = format!("configuration: http.stock.base_url = \"https://h\": {fix}");
        assert_eq!(https.unwrap_err().to_string(), line);
        assert!(tls.starts_with("configuration: database.url: the Postgres URL asks for TLS"), "{tls}");
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = TempDir::new().unwrap();
    let load = |name: &str| {
        let error = Config::load_with(folder.path().join(name), NOTHING).unwrap_err();
        assert_eq!((error.file(), error.key()), (Some(&*folder.path().join(name)), None));
        shown(&error, folder.path())
    };
    assert_eq!(load("none.toml"), "none.toml: there is no such file");
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    assert_eq!(load("folder.toml"), "folder.toml: it is a directory, give the file in it");
    fs::write(folder.path().join("a\nb"), "name = 1 2").unwrap();
    assert_eq!(load("a\nb"), "a\\nb: line 1, column 10: this is not TOML (expected newline, `#`)");

    assert_eq!(
        said(b"name = 'a'\n# \xff", &[]),
        "buttress.toml: line 2 is not UTF-8, save the file as UTF-8"
    );
    let utf_16: Vec<u8> = "\u{feff}name = 'a'".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(said(utf_16, &[]), "buttress.toml: line 1 is not UTF-8, save the file as UTF-8");
    let long = vec![b'#'; (1 << 20) + 1];
    assert_eq!(said(long, &[]), "buttress.toml: it is longer than 1 MiB, is it the right file?");
    let deep = said(format!("name = {}", "[".repeat(100_000)), &[]);
    assert!(deep.starts_with("buttress.toml: line 1, column "), "{deep}");
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buttress.toml");
    fs::write(&path, "name = 'a'").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    match (fs::read(&path), Config::load_with(&path, NOTHING)) {
        (Err(_), Err(error)) => {
            assert_eq!(shown(&error, folder.path()), "buttress.toml: this process may not read it");
        }
        // Root may read everything.
        (Ok(_), Ok(config)) => assert_eq!(config.name, "a"),
        (read, loaded) => panic!("{read:?} {loaded:?}"),
    }
}

#[test]
fn what_is_long_or_odd_is_cut_and_escaped() {
    let long = "x".repeat(100_000);
    let fix = "write 1 to 63 letters, digits, `_`, `-` and `.`";
    assert_eq!(said(format!("name = '{long}'"), &[]), format!("buttress.toml: name = \"…\": {fix}"));
    let odd = said("name = \"a\\n\\u001b[31m\\u202e\\u2028b\"", &[]);
    assert_eq!(odd, format!("buttress.toml: name = \"a\\n\\u{{1b}}[31m\\u{{202e}}\\u{{2028}}b\": {fix}"));
    assert!(said(format!("{long} = 1"), &[]).starts_with("buttress.toml: \"…\": unknown key, there are"));
    assert!(said("", &[(&format!("BUTTRESS_{long}"), "")]).len() < 300);
    assert!(said("", &[(&format!("BUTTRESS{}", "_A".repeat(100_000)), "")]).len() < 300);
    assert!(said("", &[(&format!("BUTTRESS_{}", "HTTP__".repeat(100_000)), "")]).len() < 400);
}

#[test]
fn the_place_and_the_key_are_there_for_programs() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("buttress.toml");
    fs::write(&path, "[database]\nurl = 'postgres://h'\npool_size = 0").unwrap();
    let error = Config::load_with(&path, NOTHING).unwrap_err();
    assert_eq!((error.file(), error.key()), (Some(&*path), Some("database.pool_size")));
    let error = Config::load_with(&path, [("BUTTRESS_DATABASE__POOL_SIZE", "x")]).unwrap_err();
    assert_eq!((error.file(), error.key()), (None, Some("database.pool_size")));
    let mut config = Config::default();
    config.name.clear();
    let error = config.check().unwrap_err();
    assert_eq!((error.file(), error.key()), (None, Some("name")));
    assert!(error.to_string().starts_with("configuration: name = \"\": "), "{error}");
    assert_eq!(Config::default().check(), Ok(()));
}
