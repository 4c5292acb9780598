//! `cargo xtask test`.

use std::ffi::OsString;

use crate::process::{Failure, cargo, run};
use crate::setup::setup;

/// Prepares the machine, then tests the whole workspace, or the packages that `further` selects.
pub(crate) fn test(further: &[OsString]) -> Result<(), Failure> {
    setup()?;
    let mut command = cargo(["test"]);
    // Cargo lets `--workspace` win over `-p`.
    if !selects_packages(further) {
        command.arg("--workspace");
    }
    run(command.arg("--all-features").args(further))
}

fn selects_packages(further: &[OsString]) -> bool {
    further
        .iter()
        .take_while(|arg| *arg != "--")
        .filter_map(|arg| arg.to_str())
        .any(|arg| arg.starts_with("-p") || is_option(arg, "--package"))
}

/// `--name` or `--name=value`.
fn is_option(arg: &str, name: &str) -> bool {
    arg.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(line: &str) -> bool {
        selects_packages(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_selection_of_packages_is_seen() {
        for line in ["-p buttress-core", "-pbuttress-core", "--lib --package=buttress-core", "--package x"] {
            assert!(selects(line), "{line}");
        }
    }

    #[test]
    fn anything_else_means_the_workspace() {
        for line in ["", "--lib", "--profile release", "regression", "-- -p", "--packages"] {
            assert!(!selects(line), "{line}");
        }
    }
}
