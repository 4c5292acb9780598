use std::{
    env,
    fs::File,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use serde::Serialize;

use crate::{args::Args, callgrind, exit::exit, groups};

/// The `main` of the bench that counts the instructions of every row.
pub fn instructions() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    exit(callgrind::watched(&args, groups::rows).unwrap_or_else(|| print(args)))
}

/// A line of the JSON file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    group: &'a str,
    name: &'a str,
    instructions: f64,
}

fn print(args: Vec<String>) -> Result<(), String> {
    let args = Args::parse(args)?;
    if args.quick {
        return Err("instructions are counted one way: there is no --quick".into());
    }
    callgrind::require_valgrind()?;
    let mut json = args.json.as_ref().map(File::create).transpose().map_err(text)?.map(BufWriter::new);
    let mut out = io::stdout().lock();
    writeln!(out, "{:<52}{:>18}", "", "instructions/call").map_err(text)?;
    for row in args.filter.select(groups::rows())? {
        let instructions = callgrind::instructions_a_call(&row)?;
        writeln!(out, "{:<52}{instructions:>18.1}", row.id()).map_err(text)?;
        if let Some(json) = &mut json {
            let line = Line { group: row.group, name: row.name, instructions };
            serde_json::to_writer(&mut *json, &line).map_err(|error| error.to_string())?;
            writeln!(json).map_err(text)?;
        }
    }
    json.as_mut().map_or(Ok(()), Write::flush).map_err(text)
}

fn text(error: io::Error) -> String {
    error.to_string()
}
