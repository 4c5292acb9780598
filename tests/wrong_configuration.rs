//! A wrong file ends a program's start: one line, exit code 2, and nothing was started.

#[path = "../crates/buttress/tests/config_errors/keys.rs"]
mod keys;
#[path = "../crates/buttress/tests/config_errors/values.rs"]
mod values;

use std::{net::TcpListener, process::Command};

use buttress_testkit::example;

const API: &str = "[http.stock]\nbase_url = \"http://h\"\n";

#[test]
fn each_wrong_file_is_one_line_and_exit_code_2() {
    let program = example("gateway");
    let folder = tempfile::tempdir().unwrap();
    // Whoever started something would take connections here, or say that it listens.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.set_nonblocking(true).unwrap();
    let address = taken.local_addr().unwrap();

    let tables = [keys::KEYS, keys::TYPES, keys::MISSING, keys::SYNTAX, values::DURATIONS, values::WORDS];
    let cases: Vec<_> = tables.into_iter().chain([values::VALUES]).flatten().collect();
    assert!(cases.len() >= 100, "{}", cases.len());
    for (number, (toml, line)) in cases.into_iter().enumerate() {
        let toml = toml.strip_prefix("API\n").map_or((*toml).to_owned(), |rest| format!("{API}{rest}"));
        let path = folder.path().join(format!("{number}.toml"));
        std::fs::write(&path, &toml).unwrap();
        let output = Command::new(&program)
            .env("GATEWAY_CONFIG", &path)
            .env("GATEWAY_ADDR", address.to_string())
            .env("DATABASE_URL", format!("postgres://{address}/x"))
            .env("REDIS_URL", format!("redis://{address}"))
            .env("RUST_LOG", "off")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr, format!("gateway: {}: {line}\n", path.display()), "{toml}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{toml}");
    }
    assert!(taken.accept().is_err(), "nobody connected");
}
