use std::{
    collections::HashMap,
    env, io,
    io::Write as _,
    process::{Command, ExitCode},
};

use crate::{args::Args, body::runtime, groups, report};

/// Heap allocations of one call, on the average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allocations {
    pub(crate) count: f64,
    pub(crate) bytes: f64,
}

const FEW: u64 = 1_000;
const MANY: u64 = 3_000;

/// The `main` of `count-allocations`: prints a line for each row. `measure` returns how many allocations of how many
/// bytes were made while it ran what it is given.
pub fn count_allocations(measure: impl Fn(&mut dyn FnMut()) -> (u64, u64)) -> ExitCode {
    report::exit(print(&measure))
}

fn print(measure: &impl Fn(&mut dyn FnMut()) -> (u64, u64)) -> Result<(), String> {
    let args = Args::parse(env::args().skip(1))?;
    let mut out = io::stdout().lock();
    for row in args.filter.select(groups::rows())? {
        let runtime = runtime().map_err(|error| error.to_string())?;
        // The program that measures time meets the same error and tells it.
        let Ok(mut body) = row.build(&runtime) else { continue };
        let [few, many] = [FEW, MANY].map(|calls| measure(&mut || body.run(&runtime, calls)));
        let a_call = |few: u64, many: u64| (many as f64 - few as f64) / (MANY - FEW) as f64;
        let (count, bytes) = (a_call(few.0, many.0), a_call(few.1, many.1));
        writeln!(out, "{}\t{count}\t{bytes}", row.id()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Has `program` count the allocations of the rows that match.
pub(crate) fn counted_by(program: &str, args: &Args) -> Result<HashMap<String, Allocations>, String> {
    let output = Command::new(program)
        .args(args.filter.texts().flat_map(|text| ["--filter", text]))
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    lines
        .lines()
        .map(|line| parse(line).ok_or_else(|| format!("{program}: unexpected line `{line}`")))
        .collect()
}

fn parse(line: &str) -> Option<(String, Allocations)> {
    let mut fields = line.split('\t');
    let id = fields.next()?.to_owned();
    let [count, bytes] = [fields.next()?, fields.next()?].map(str::parse);
    Some((id, Allocations { count: count.ok()?, bytes: bytes.ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let (id, counted) = parse("breaker/recloser closed\t0.5\t17").unwrap();
        assert_eq!(id, "breaker/recloser closed");
        assert_eq!(counted, Allocations { count: 0.5, bytes: 17.0 });
        assert_eq!(parse("breaker/recloser closed\t0.5"), None);
        assert_eq!(parse("thread 'main' panicked\tat\tsomething"), None);
    }
}
