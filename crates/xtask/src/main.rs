//! The workspace's own commands: `cargo xtask setup`, `cargo xtask test`, `cargo xtask ci`.
//!
//! It has no dependencies, so that it is there within seconds on a machine that has nothing but Rust.

mod args;
mod ci;
mod postgres;
mod process;
mod setup;
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
            ExitCode::from(FAILED)
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
        Action::Ci(steps) => ci::ci(steps),
    }
}

#[expect(clippy::print_stdout, reason = "help that was asked for is this program's output")]
fn print_help() {
    println!("{}", args::help());
}
