use std::{
    env, io,
    io::Write as _,
    path::Path,
    process::{Command, ExitCode},
    thread,
};

use tokio::runtime::Runtime;

use crate::{
    args::Args,
    body::{Body, runtime},
    groups, report,
    row::Row,
};

const FEW: u64 = 1_000;
const MANY: u64 = 6_000;
/// Set for the process that callgrind watches: `ROW CALLS`.
const WATCHED: &str = "--watched";

/// The `main` of the bench that counts instructions. It runs itself under callgrind, twice a row.
pub fn instructions() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    report::exit(match args.as_slice() {
        [first, id, calls] if first == WATCHED => watched(id, calls),
        _ => print(args),
    })
}

fn print(args: Vec<String>) -> Result<(), String> {
    let args = Args::parse(args)?;
    if args.quick || args.json.is_some() {
        return Err("instructions are counted one way and printed; the one argument is --filter TEXT".into());
    }
    let program = env::current_exe().map_err(text)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{:<52}{:>18}", "", "instructions/call").map_err(text)?;
    for row in args.filter.select(groups::rows())? {
        let a_call = a_call(&program, &row)?;
        writeln!(out, "{:<52}{a_call:>18.1}", row.id()).map_err(text)?;
    }
    Ok(())
}

/// What the row's calls cost is the difference between many and few of them: what happens once cancels out.
fn a_call(program: &Path, row: &Row) -> Result<f64, String> {
    let [few, many] = thread::scope(|scope| {
        [FEW, MANY]
            .map(|calls| scope.spawn(move || collected(program, row, calls)))
            .map(|counting| counting.join().unwrap_or_else(|_| Err("a counting thread has panicked".into())))
    });
    Ok((many? as f64 - few? as f64) / (MANY - FEW) as f64)
}

fn collected(program: &Path, row: &Row, calls: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_calls*"])
        .arg(program)
        .args([WATCHED, &row.id(), &calls.to_string()])
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "valgrind is not installed, and its callgrind does the counting".into()
            }
            _ => format!("valgrind: {error}"),
        })?;
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

/// The process that callgrind watches.
fn watched(id: &str, calls: &str) -> Result<(), String> {
    let row = groups::rows().into_iter().find(|row| row.id() == id).ok_or_else(|| format!("no row {id}"))?;
    let calls = calls.parse().map_err(|error| format!("{calls}: {error}"))?;
    let runtime = runtime().map_err(text)?;
    let mut body = row.build(&runtime)?;
    counted_calls(body.as_mut(), &runtime, calls);
    Ok(())
}

/// Callgrind counts inside of this function alone: a clock that calibrates itself when it is built would drown the rest.
#[inline(never)]
fn counted_calls(body: &mut dyn Body, runtime: &Runtime, calls: u64) {
    body.run(runtime, calls);
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
