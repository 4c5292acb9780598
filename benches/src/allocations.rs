use std::{
    collections::HashMap,
    env, io,
    io::Write as _,
    process::{Command, ExitCode},
};

use tokio::runtime::Runtime;

use crate::{args::Args, body::runtime, groups, report, row::Row};

/// Heap allocations of one call, on the average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allocations {
    pub(crate) count: f64,
    pub(crate) bytes: f64,
    /// What the heap holds for each key of a row that is built with keys.
    pub(crate) bytes_per_key: Option<f64>,
}

/// What was allocated while something ran.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// So many times.
    pub count: u64,
    /// So many bytes.
    pub bytes: u64,
    /// Of which so many are still held. What was freed that had been there before counts against it.
    pub held: i64,
}

const FEW: u64 = 1_000;
const MANY: u64 = 3_000;
const TIMES: usize = 3;

/// The `main` of `count-allocations`: prints a line for each row. `measure` returns what was allocated while it ran what it
/// is given.
pub fn count_allocations(measure: impl Fn(&mut dyn FnMut()) -> Counted) -> ExitCode {
    report::exit(print(&measure))
}

fn print(measure: &impl Fn(&mut dyn FnMut()) -> Counted) -> Result<(), String> {
    let args = Args::parse(env::args().skip(1))?;
    let mut out = io::stdout().lock();
    for row in args.filter.select(groups::rows())? {
        let runtime = runtime().map_err(|error| error.to_string())?;
        // The program that measures time meets the same error and tells it.
        let Ok(mut body) = row.build(&runtime) else { continue };
        // The least of some: what is allocated once, such as room for a latency that never was before, is no call's.
        let [few, many] = [FEW, MANY].map(|calls| {
            let counted = (0..TIMES).map(|_| measure(&mut || body.run(&runtime, calls)));
            counted.min_by_key(|counted| (counted.count, counted.bytes)).expect("it was counted")
        });
        let a_call = |few: u64, many: u64| (many as f64 - few as f64) / (MANY - FEW) as f64;
        let (count, bytes) = (a_call(few.count, many.count), a_call(few.bytes, many.bytes));
        drop(body);
        let a_key =
            row.keys.map_or("-".into(), |keys| bytes_a_key(measure, &row, keys, &runtime).to_string());
        writeln!(out, "{}\t{count}\t{bytes}\t{a_key}", row.id()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What a second one holds: what the first allocates for the whole process is no key's.
fn bytes_a_key(
    measure: &impl Fn(&mut dyn FnMut()) -> Counted,
    row: &Row,
    keys: u32,
    runtime: &Runtime,
) -> f64 {
    let mut built = None;
    let counted = measure(&mut || built = Some(row.construct(runtime)));
    drop(built);
    counted.held as f64 / f64::from(keys)
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
    let bytes_per_key = match fields.next()? {
        "-" => None,
        a_key => Some(a_key.parse().ok()?),
    };
    Some((id, Allocations { count: count.ok()?, bytes: bytes.ok()?, bytes_per_key }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back() {
        let (id, counted) = parse("breaker/recloser closed\t0.5\t17\t-").unwrap();
        assert_eq!(id, "breaker/recloser closed");
        assert_eq!(counted, Allocations { count: 0.5, bytes: 17.0, bytes_per_key: None });
        let (_, keyed) = parse("rate-limit/keyed\t0\t0\t35.5").unwrap();
        assert_eq!(keyed.bytes_per_key, Some(35.5));
        assert_eq!(parse("breaker/recloser closed\t0.5\t17"), None);
        assert_eq!(parse("thread 'main' panicked\tat\tsomething"), None);
    }
}
