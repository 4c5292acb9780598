//! `cargo xtask ci`: the steps, one after the other, and how long each took.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::process::{Failure, cargo, extended, read, root, run};
use crate::test::test;
use crate::tools;

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Fmt,
    Clippy,
    Test,
    Loom,
    Doc,
    Hack,
    Deny,
    Advisories,
}

/// The packages with loom models: unit tests whose names hold `loom_`, behind the cfg `buttress_loom`.
const MODELLED: [&str; 9] = [
    "buttress-balance",
    "buttress-budget",
    "buttress-bulkhead",
    "buttress-cache",
    "buttress-circuit-breaker",
    "buttress-hedge",
    "buttress-http-cache",
    "buttress-rate-limit",
    "buttress-telemetry",
];

/// Its features bring all that exports, of which no model knows, and minutes of compiling.
const WITHOUT_FEATURES: &str = "buttress-telemetry";

impl Step {
    /// In the order in which they run: what fails soonest comes first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Fmt,
        Self::Clippy,
        Self::Test,
        Self::Loom,
        Self::Doc,
        Self::Hack,
        Self::Deny,
        Self::Advisories,
    ];

    pub(crate) fn usual() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|step| step.is_usual())
    }

    /// The database of advisories changes by itself and lies elsewhere: a change must not fail for it.
    pub(crate) fn is_usual(self) -> bool {
        self != Self::Advisories
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Loom => "loom",
            Self::Doc => "doc",
            Self::Hack => "hack",
            Self::Deny => "deny",
            Self::Advisories => "advisories",
        }
    }

    pub(crate) fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "the code is formatted",
            Self::Clippy => "no warnings, in any target",
            Self::Test => "cargo xtask test",
            Self::Loom => "loom explores the interleavings of lock-free code",
            Self::Doc => "the documentation builds without warnings",
            Self::Hack => "every published crate with each of its features alone",
            Self::Deny => "licences, sources and duplicates of the dependencies",
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
            Self::Deny => deny(&["bans", "licenses", "sources"]),
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
        if package != WITHOUT_FEATURES {
            models.arg("--all-features");
        }
        models
            .arg("loom_")
            .env("RUSTFLAGS", extended("RUSTFLAGS", "--cfg buttress_loom"))
            .env("CARGO_TARGET_DIR", target().join("loom"));
        models
    };
    let listed = read(models().args(["--", "--list", "--format", "terse"]))?;
    if count_tests(&listed) == 0 {
        return Err(Failure::new(format!(
            "{package} has no unit test named loom_* under cfg(buttress_loom)"
        )));
    }
    run(&mut models())
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The tests in the output of `--list --format terse`: lines like `module::name: test`.
fn count_tests(listed: &str) -> usize {
    listed.lines().filter(|line| line.ends_with(": test")).count()
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
    fn tests_are_counted_in_cargos_list() {
        assert_eq!(count_tests("state::loom_open: test\nstate::loom_close: test\n"), 2);
        assert_eq!(count_tests("state::loom_cost: benchmark\n\n0 tests, 1 benchmark\n"), 0);
        assert_eq!(count_tests(""), 0);
    }

    #[test]
    fn the_summary_has_a_line_a_step_and_their_sum() {
        let times = [(Step::Fmt, Duration::from_millis(400)), (Step::Clippy, Duration::from_millis(61_700))];
        let expected = "fmt             0.4 s\nclippy         61.7 s\ntogether       62.1 s\n";
        assert_eq!(summary(&times), expected);
    }
}
