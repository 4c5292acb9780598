//! `cargo xtask soak`.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsString;
use std::process::Command;

use crate::process::{Failure, cargo, run, run_told, target};
use crate::setup::setup;

/// Prepares the machine, builds the gateway, the worker and the soak as they are released, and runs it.
///
/// All in one build: two would have the dependencies with different features.
pub(crate) fn soak(further: &[OsString]) -> Result<(), Failure> {
    setup()?;
    let programs = ["--example", "gateway", "--example", "worker", "--bin", "buttress-soak"];
    let packages = ["-p", "buttress-workspace", "-p", "buttress-soak"];
    run(cargo(["build", "--release"]).args(packages).args(programs))?;
    let built = target().join("release");
    let example = |name: &str| built.join("examples").join(format!("{name}{EXE_SUFFIX}"));
    let mut soak = Command::new(built.join(format!("buttress-soak{EXE_SUFFIX}")));
    soak.arg("--gateway").arg(example("gateway")).arg("--worker").arg(example("worker"));
    run_told(soak.args(further))
}
