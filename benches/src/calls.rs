use std::{env, io, process::ExitCode, thread};

use crate::{
    allocations::{self, Allocations},
    args::Args,
    body::{Body, runtime},
    clean::Plan,
    groups, one_thread,
    report::{self, Measured, Report},
    row::Row,
    two_threads,
};

/// The `main` of the bench: measures the rows that the command line asks for, and prints them. `counter` is the path
/// of the `count-allocations` program.
pub fn calls(counter: &str) -> ExitCode {
    report::exit(run(counter))
}

fn run(counter: &str) -> Result<(), String> {
    let args = Args::parse(env::args().skip(1))?;
    let rows = args.filter.select(groups::rows())?;
    let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
    let allocations = allocations::counted_by(counter, &args)?;
    let mut bare = groups::bare().build(&runtime().map_err(text)?)?;
    let mut report = Report::new(io::stdout().lock(), args.json).map_err(text)?;
    for row in rows {
        match measure(&row, bare.as_mut(), plan, allocations.get(&row.id())) {
            Ok(measured) => report.add(&row, &measured),
            Err(error) => report.failed(&row, error),
        }
        .map_err(text)?;
    }
    report.finish()
}

fn measure(
    row: &Row,
    bare: &mut dyn Body,
    plan: Plan,
    allocations: Option<&Allocations>,
) -> Result<Measured, String> {
    let runtime = runtime().map_err(text)?;
    let mut body = row.build(&runtime)?;
    let allocations =
        *allocations.ok_or_else(|| format!("{}: its allocations were not counted", row.id()))?;
    let pairs = one_thread::measure(body.as_mut(), bare, &runtime, plan).map_err(text)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let scale =
        if cores < 2 { None } else { two_threads::scale(body.as_mut(), &runtime, plan).map_err(text)? };
    row.check(body.as_mut(), &runtime)?;
    Ok(Measured { pairs, scale, allocations })
}

fn text(error: io::Error) -> String {
    error.to_string()
}
