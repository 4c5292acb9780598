//! The explain example, as a pipeline would run it.

use std::process::{Command, Output};

use buttress_testkit::example;
use tempfile::NamedTempFile;

fn explain(toml: &str) -> Output {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, toml).unwrap();
    run(file.path().to_str().unwrap())
}

fn run(path: &str) -> Output {
    command(path).output().unwrap()
}

fn command(path: &str) -> Command {
    let mut command = Command::new(example("explain"));
    command.arg(path);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BUTTRESS_")) {
        command.env_remove(name);
    }
    command
}

#[test]
fn the_example_configuration_has_no_error() {
    let output = run("buttress.example.toml");
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{page}");
    for part in ["stack `database`", "stack `redis`", "stack `http.stock`", "0 errors, 0 warnings"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn a_contradiction_is_an_error_with_its_arithmetic_and_exit_code_1() {
    let output = explain(
        "[http.stock]\nbase_url = \"http://stock.internal\"\ntimeout = \"10s\"\nattempt_timeout = \"15s\"\n",
    );
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{page}");
    let found: Vec<_> = page.lines().filter(|line| line.trim_start().starts_with("error")).collect();
    assert!(found.len() == 1 && found[0].contains("15s") && found[0].contains("10s"), "{page}");
}

#[test]
fn what_cannot_be_used_is_one_line_and_exit_code_2() {
    let output = explain("[http.stock]\nbase_url = \"http://stock.internal\"\ntimout = \"10s\"\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), said.lines().count()), (Some(2), 0, 1), "{said}");
    assert!(said.contains("http.stock.timout") && said.contains("did you mean `timeout`?"), "{said}");

    let output = run("no-such-file.toml");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no-such-file.toml"));
}

#[test]
fn regression_50_its_exit_code_is_the_finding_s_where_nobody_reads_the_page() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command("buttress.example.toml").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
