//! Cargo's subcommands that do not come with it.

use std::process::Stdio;

use crate::process::{Failure, cargo, run};

/// A subcommand of cargo, at the version that this workspace is checked with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    subcommand: &'static str,
    package: &'static str,
    version: &'static str,
    options: &'static [&'static str],
}

pub(crate) const DENY: Tool = Tool {
    subcommand: "deny",
    package: "cargo-deny",
    version: "0.20.2",
    options: &["--no-default-features"],
};

pub(crate) const HACK: Tool =
    Tool { subcommand: "hack", package: "cargo-hack", version: "0.6.46", options: &[] };

pub(crate) const SEMVER_CHECKS: Tool =
    Tool { subcommand: "semver-checks", package: "cargo-semver-checks", version: "0.51.0", options: &[] };

pub(crate) const FUZZ: Tool =
    Tool { subcommand: "fuzz", package: "cargo-fuzz", version: "0.13.2", options: &[] };

/// Their authors' release profiles ask for link-time optimisation of the whole program. That costs
/// minutes, once on every fresh machine, to save milliseconds a run.
const QUICK_BUILD: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
];

impl Tool {
    /// Installs it, unless this version or a later one is there.
    pub(crate) fn ensure(self) -> Result<(), Failure> {
        if self.installed().is_some_and(|version| suffices(&version, self.version)) {
            return Ok(());
        }
        let mut install = cargo(["install", "--locked", self.package, "--version", self.version]);
        run(install.args(self.options).envs(QUICK_BUILD))
    }

    /// The version that cargo finds, if any.
    fn installed(self) -> Option<String> {
        let mut ask = cargo([self.subcommand, "--version"]);
        // Cargo's complaint about a missing subcommand is no news here.
        let output = ask.stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.split_whitespace().last().map(str::to_owned)).flatten()
    }
}

/// Whether `installed` is `wanted` or later.
fn suffices(installed: &str, wanted: &str) -> bool {
    numbers(installed).is_some_and(|installed| Some(installed) >= numbers(wanted))
}

/// `1.2.3` as numbers; a pre-release is nothing to rely on.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let parts = version.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_and_later_versions_suffice() {
        assert!(suffices("0.20.2", "0.20.2"));
        assert!(suffices("0.21.0", "0.20.2"));
        assert!(suffices("1.0.0", "0.20.2"));
    }

    #[test]
    fn older_and_odd_versions_do_not() {
        for installed in ["0.20.1", "0.9.9", "0.20", "0.21.0-rc.1", "deny", ""] {
            assert!(!suffices(installed, "0.20.2"), "{installed:?}");
        }
    }

    #[test]
    fn the_pinned_versions_can_be_compared() {
        for tool in [DENY, HACK, SEMVER_CHECKS, FUZZ] {
            assert!(numbers(tool.version).is_some(), "{tool:?}");
        }
    }
}
