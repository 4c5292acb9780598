//! Finds the server programs.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first `name` in `PATH`, then in `elsewhere`.
///
/// # Errors
/// `NotFound`, with one line that names the command to run.
pub(crate) fn find(name: &str, elsewhere: &[PathBuf]) -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(elsewhere.iter().cloned())
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| missing(name))
}

/// Where Debian and its relatives keep Postgres: outside `PATH`, one folder a version. Newest first.
pub(crate) fn postgres_folders() -> Vec<PathBuf> {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions
        .iter()
        .map(|version| Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin"))
        .collect()
}

/// What a server program says of its version, such as `postgres (PostgreSQL) 15.6`: of the one that the tests start.
///
/// # Errors
/// `NotFound` when it is not installed; else what kept it from running.
pub fn version(program: &str) -> io::Result<String> {
    let mut elsewhere = postgres_folders();
    elsewhere.push(PathBuf::from("/usr/sbin"));
    // nginx knows the short one alone, and answers on stderr; the others print a help for it.
    let option = if program == "nginx" { "-v" } else { "--version" };
    let output = Command::new(find(program, &elsewhere)?).arg(option).output()?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} was not found: run `cargo xtask setup`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_one_line_that_names_the_command() {
        let error = find("no-such-server", &[PathBuf::from("/nowhere")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(error.to_string(), "no-such-server was not found: run `cargo xtask setup`");
    }

    #[test]
    fn a_server_says_its_version() {
        let redis = version("redis-server").unwrap();
        assert!(redis.contains("v="), "{redis}");
        assert!(version("postgres").unwrap().starts_with("postgres (PostgreSQL) "));
        assert!(version("nginx").unwrap().contains("nginx/"));
        assert_eq!(version("no-such-server").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn looks_elsewhere_after_the_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("hidden-server"), "").unwrap();
        let found = find("hidden-server", &[dir.path().to_owned()]).unwrap();
        assert_eq!(found, dir.path().join("hidden-server"));
    }
}
