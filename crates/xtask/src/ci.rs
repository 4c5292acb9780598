//! `cargo xtask ci`: the steps, one after the other, and how long each took.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::instructions;
use crate::package::{package, verify};
use crate::process::{Failure, cargo, extended, read, root, run, target};
use crate::soak::soak;
use crate::sources::models_below;
use crate::test::test;
use crate::tools;

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Fmt,
    Clippy,
    Test,
    Instructions,
    Loom,
    Doc,
    Hack,
    Soak,
    Deny,
    Package,
    Verify,
    Advisories,
}

/// The packages with loom models: unit tests whose names hold `loom_`, behind the cfg `buttress_loom`.
pub(crate) const MODELLED: [&str; 14] = [
    "buttress-balance",
    "buttress-batch",
    "buttress-budget",
    "buttress-bulkhead",
    "buttress-cache",
    "buttress-circuit-breaker",
    "buttress-core",
    "buttress-hedge",
    "buttress-http",
    "buttress-http-cache",
    "buttress-postgres",
    "buttress-rate-limit",
    "buttress-redis",
    "buttress-telemetry",
];

/// The features whose models there are, where the others bring minutes of compiling and no model.
fn features(package: &str) -> &'static [&'static str] {
    match package {
        // Not all that exports, nor TLS.
        "buttress-core" | "buttress-http" | "buttress-telemetry" => &["--no-default-features"],
        // Neither TLS, nor macros, nor scripts.
        "buttress-postgres" | "buttress-redis" => &["--features", "cache"],
        _ => &["--all-features"],
    }
}

impl Step {
    /// In the order in which they run: what fails soonest comes first.
    pub(crate) const ALL: [Self; 12] = [
        Self::Fmt,
        Self::Clippy,
        Self::Test,
        Self::Instructions,
        Self::Loom,
        Self::Doc,
        Self::Hack,
        Self::Soak,
        Self::Deny,
        Self::Package,
        Self::Verify,
        Self::Advisories,
    ];

    pub(crate) fn usual() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|step| step.is_usual())
    }

    /// The database of advisories changes by itself and lies elsewhere: a change must not fail for it. Building all
    /// packages takes minutes, and finds what can hardly break between releases.
    pub(crate) fn is_usual(self) -> bool {
        !matches!(self, Self::Advisories | Self::Verify)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Instructions => "instructions",
            Self::Loom => "loom",
            Self::Doc => "doc",
            Self::Hack => "hack",
            Self::Soak => "soak",
            Self::Deny => "deny",
            Self::Package => "package",
            Self::Verify => "verify",
            Self::Advisories => "advisories",
        }
    }

    pub(crate) fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "the code is formatted",
            Self::Clippy => "no warnings, in any target",
            Self::Test => "cargo xtask test",
            Self::Instructions => "a call through each hot path costs what it did, in instructions",
            Self::Loom => "loom explores the interleavings of lock-free code",
            Self::Doc => "the documentation builds without warnings",
            Self::Hack => "every published crate with each of its features alone",
            Self::Soak => "cargo xtask soak --minutes 3",
            Self::Deny => "licences, sources and duplicates of the dependencies",
            Self::Package => "every published crate can be packaged, with its licences",
            Self::Verify => "every published crate builds from its package",
            Self::Advisories => "known vulnerabilities of the dependencies",
        }
    }

    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Fmt => run(&mut cargo(["fmt", "--all", "--check"])),
            Self::Clippy => {
                let targets = ["clippy", "--workspace", "--all-targets", "--all-features"];
                run(cargo(targets).args(["--", "-D", "warnings"]))
            }
            Self::Test => test(&[]),
            Self::Instructions => instructions::hold(),
            Self::Loom => MODELLED.into_iter().try_for_each(model_check),
            Self::Doc => {
                let mut doc = cargo(["doc", "--workspace", "--all-features", "--no-deps"]);
                run(doc.env("RUSTDOCFLAGS", extended("RUSTDOCFLAGS", "-D warnings")))
            }
            Self::Hack => {
                tools::HACK.ensure()?;
                // Resolver 3 keeps the features of dev-dependencies out of a check without tests, so the
                // manifests need not be rewritten for it.
                let each = ["hack", "clippy", "--workspace", "--ignore-private", "--each-feature"];
                run(cargo(each).args(["--", "-D", "warnings"]))
            }
            Self::Soak => soak(&["--minutes".into(), "3".into()]),
            Self::Deny => deny(&["bans", "licenses", "sources"]),
            Self::Package => package(),
            Self::Verify => verify(),
            Self::Advisories => deny(&["advisories"]),
        }
    }
}

fn deny(checks: &[&str]) -> Result<(), Failure> {
    tools::DENY.ensure()?;
    // The root is a package too: without `--workspace` its dependencies alone would be checked.
    run(cargo(["deny", "--workspace", "check"]).args(checks))
}

/// Runs the models of one package, in a target folder of their own: the cfg is part of every
/// dependency's build, and would otherwise throw the ordinary ones away.
fn model_check(package: &str) -> Result<(), Failure> {
    let models = || {
        let mut models = cargo(["test", "--package", package, "--lib", "--release"]);
        models
            .args(features(package))
            .arg("loom_")
            .env("RUSTFLAGS", extended("RUSTFLAGS", "--cfg buttress_loom"))
            .env("CARGO_TARGET_DIR", target().join("loom"));
        models
    };
    let listed = read(models().args(["--", "--list", "--format", "terse"]))?;
    let source = root().join("crates").join(package.trim_start_matches("buttress-")).join("src");
    let written = models_below(&source)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", source.display())))?;
    let left_out = left_out(&written, &listed);
    if written.is_empty() || !left_out.is_empty() {
        return Err(Failure::new(format!(
            "{package} has {} models, of which these are no unit tests under cfg(buttress_loom) with {}: {}",
            written.len(),
            features(package).join(" "),
            left_out.join(", ")
        )));
    }
    run(&mut models())
}

/// The models that are not in the output of `--list --format terse`: lines like `module::name: test`.
fn left_out<'a>(written: &'a BTreeSet<String>, listed: &str) -> Vec<&'a str> {
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: BTreeSet<&str> = tests.filter_map(|test| test.rsplit("::").next()).collect();
    written.iter().map(String::as_str).filter(|model| !names.contains(model)).collect()
}

/// Runs the steps in turn, up to the first that fails, and says how long each took.
pub(crate) fn ci(steps: &[Step]) -> Result<(), Failure> {
    let mut times = Vec::with_capacity(steps.len());
    for (number, step) in steps.iter().enumerate() {
        eprintln!("\n=== {} ({}/{}): {}", step.name(), number + 1, steps.len(), step.purpose());
        let start = now();
        let result = step.run();
        let took = start.elapsed();
        times.push((*step, took));
        if let Err(failure) = result {
            eprint!("\n{}", summary(&times));
            return Err(Failure::new(format!("{} failed: {failure}", step.name())));
        }
        eprintln!("=== {} passed in {}", step.name(), seconds(took));
    }
    eprint!("\n{}", summary(&times));
    eprintln!("every step passed");
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for code under a runtime; this measures other processes"
)]
fn now() -> Instant {
    Instant::now()
}

fn summary(times: &[(Step, Duration)]) -> String {
    let total: Duration = times.iter().map(|(_, took)| *took).sum();
    let line = |name: &str, took| format!("{name:<12}{:>9}\n", seconds(took));
    let steps = times.iter().map(|(step, took)| line(step.name(), *took)).collect::<String>();
    steps + &line("together", total)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_would_not_run_is_named() {
        let written = ["loom_close", "loom_open"].map(str::to_owned).into();
        assert!(left_out(&written, "state::loom_open: test\nstate::loom_close: test\n").is_empty());
        assert_eq!(left_out(&written, "state::loom_close: benchmark\nloom_open: test\n"), ["loom_close"]);
        assert_eq!(left_out(&written, "").len(), 2);
    }

    #[test]
    fn the_summary_has_a_line_a_step_and_their_sum() {
        let times = [(Step::Fmt, Duration::from_millis(400)), (Step::Clippy, Duration::from_millis(61_700))];
        let expected = "fmt             0.4 s\nclippy         61.7 s\ntogether       62.1 s\n";
        assert_eq!(summary(&times), expected);
    }
}
