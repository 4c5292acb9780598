//! Instructions a call. A program runs itself under callgrind, twice a row.

use std::{
    env, io,
    path::Path,
    process::{Command, Output},
    thread,
};

use tokio::runtime::Runtime;

use crate::{
    body::{Body, runtime},
    row::Row,
};

const FEW: u64 = 1_000;
const MANY: u64 = 6_000;
/// Set for the process that callgrind watches: `ROW CALLS`.
const WATCHED: &str = "--watched";

/// What this process has to do if it is the one that callgrind watches.
pub(crate) fn watched(args: &[String], rows: fn() -> Vec<Row>) -> Option<Result<(), String>> {
    match args {
        [first, id, calls] if first == WATCHED => Some(make_calls(rows(), id, calls)),
        _ => None,
    }
}

fn make_calls(rows: Vec<Row>, id: &str, calls: &str) -> Result<(), String> {
    let row = rows.into_iter().find(|row| row.id() == id).ok_or_else(|| format!("no row {id}"))?;
    let calls = calls.parse().map_err(|error| format!("{calls}: {error}"))?;
    let runtime = runtime().map_err(text)?;
    let mut body = row.build(&runtime)?;
    counted_calls(body.as_mut(), &runtime, calls);
    // Under valgrind all takes fifty times as long: what closes or opens by time may have done so.
    row.check(body.as_mut(), &runtime)
}

/// Callgrind counts inside of this function alone: a clock that calibrates itself when it is built would drown the rest.
#[inline(never)]
fn counted_calls(body: &mut dyn Body, runtime: &Runtime, calls: u64) {
    body.run(runtime, calls);
}

/// What the row's calls cost is the difference between many and few of them: what happens once cancels out.
///
/// # Errors
/// When valgrind is missing, or the row fails under it.
pub(crate) fn instructions_a_call(row: &Row) -> Result<f64, String> {
    let program = env::current_exe().map_err(text)?;
    let [few, many] = thread::scope(|scope| {
        [FEW, MANY]
            .map(|calls| {
                scope.spawn({
                    let program = &program;
                    move || collected(program, row, calls)
                })
            })
            .map(|counting| counting.join().unwrap_or_else(|_| Err("a counting thread has panicked".into())))
    });
    Ok((many? as f64 - few? as f64) / (MANY - FEW) as f64)
}

/// # Errors
/// When there is no valgrind: said before anything is measured.
pub(crate) fn require_valgrind() -> Result<(), String> {
    let output = valgrind(Command::new("valgrind").arg("--version"))?;
    if output.status.success() { Ok(()) } else { Err(format!("valgrind --version: {}", output.status)) }
}

fn valgrind(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "valgrind is not installed, and its callgrind counts the instructions: run `cargo xtask setup`"
                .into()
        }
        _ => format!("valgrind: {error}"),
    })
}

fn collected(program: &Path, row: &Row, calls: u64) -> Result<u64, String> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_calls*"])
        .arg(program)
        .args([WATCHED, &row.id(), &calls.to_string()]);
    let output = valgrind(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    match parse(&said) {
        Some(count) if count > 0 && output.status.success() => Ok(count),
        _ => Err(format!("{} under valgrind: {}\n{}", row.id(), output.status, said.trim_end())),
    }
}

/// The count in callgrind's summary: `==123== Collected : 456`.
fn parse(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once(" Collected : "))?.1.trim().parse().ok()
}

fn text(error: io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_the_summary() {
        let said = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 290314\n==7== \n==7== I   refs:      290,314\n";
        assert_eq!(parse(said), Some(290_314));
        assert_eq!(parse("==7== Process terminating with default action of signal 4 (SIGILL)"), None);
    }
}
