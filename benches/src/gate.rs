use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{callgrind, exit::exit, ours};

/// The `main` of the bench behind `cargo xtask ci instructions`: prints a line for each of our hot paths, `row TAB
/// instructions a call`.
pub fn gate() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    exit(callgrind::watched(&args, ours::rows).unwrap_or_else(|| print(&args)))
}

fn print(args: &[String]) -> Result<(), String> {
    // Cargo adds the one.
    if let Some(arg) = args.iter().find(|arg| *arg != "--bench") {
        return Err(format!("gate takes no argument, found {arg}"));
    }
    callgrind::require_valgrind()?;
    let mut out = io::stdout().lock();
    for row in ours::rows() {
        let count = callgrind::instructions_a_call(&row)?;
        writeln!(out, "{}\t{count:.1}", row.id()).map_err(|error| error.to_string())?;
    }
    Ok(())
}
