//! The workspace's own commands: `cargo xtask setup`, `test`, `ci`, `soak`, `fuzz`, `instructions`, `semver`.
//!
//! It has no dependencies, so that it is there within seconds on a machine that has nothing but Rust.

mod args;
mod ci;
mod fuzz;
mod instructions;
#[cfg(test)]
mod lengths;
#[cfg(test)]
mod models;
mod package;
mod postgres;
mod process;
mod semver;
mod setup;
mod soak;
mod sources;
mod test;
mod tools;

use std::process::ExitCode;

use args::Action;
use process::Failure;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let action = match args::parse(std::env::args_os().skip(1)) {
        Ok(action) => action,
        Err(misuse) => {
            eprintln!("xtask: {misuse}\n\n{}", args::help());
            return ExitCode::from(MISUSED);
        }
    };
    match perform(&action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::from(if failure.is_misuse() { MISUSED } else { FAILED })
        }
    }
}

fn perform(action: &Action) -> Result<(), Failure> {
    match action {
        Action::Help => {
            print_help();
            Ok(())
        }
        Action::Setup => setup::setup(),
        Action::Test(further) => test::test(further),
        Action::Soak(further) => soak::soak(further),
        Action::Ci(steps) => ci::ci(steps),
        Action::Instructions { accept: false } => instructions::hold(),
        Action::Instructions { accept: true } => instructions::accept(),
        Action::Semver(asked) => semver::semver(asked),
        Action::Fuzz(plan) => fuzz::fuzz(plan),
    }
}

#[expect(clippy::print_stdout, reason = "help that was asked for is this program's output")]
fn print_help() {
    println!("{}", args::help());
}
