//! Every row by every measure, in one table: the parts run one after the other, each in a process of its own.

mod about;
mod asked;
mod chart;
mod hand_over;
mod layout;
mod markdown;
mod peers;
mod reasons;
mod record;
mod svg;
mod targets;
mod text;

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use self::{
    about::About,
    asked::Asked,
    reasons::Reasons,
    record::Measured,
    targets::{Judged, Target},
};
use crate::{
    args::Args, callgrind, calls::calls, exit::exit, groups, instructions::instructions, row::Row,
    servers::servers,
};

/// Which part this process is. Not an argument: the parts start themselves again, with arguments of their own.
const PART: &str = "BUTTRESS_BENCH_PART";

/// The `main` of the bench: measures everything that the command line asks for, prints the table, and writes RESULTS.md
/// and its charts. `counter` is the path of the `count-allocations` program.
pub fn table(counter: &str) -> ExitCode {
    match env::var(PART).as_deref() {
        Ok("calls") => calls(counter),
        Ok("instructions") => instructions(),
        Ok("servers") => servers(),
        Ok(other) => exit(Err(format!("{PART} is {other}, and there is no such part"))),
        Err(_) => exit(run()),
    }
}

fn run() -> Result<(), String> {
    let asked = Asked::parse(env::args().skip(1))?;
    // What is wrong with them is to be known before an hour of measuring.
    let (targets, reasons) = (Target::all()?, Reasons::read()?);
    reasons.belong_to(&targets)?;
    let (about, measured, mut missing) = match &asked.from {
        Some(file) => record::read(file)?,
        None => measure(&asked.args)?,
    };
    let judged: Vec<Judged<'_>> = targets.iter().map(|target| target.judge(&measured)).collect();
    let mut out = io::stdout().lock();
    out.write_all(text::table(&measured, &targets).as_bytes()).map_err(said)?;
    if let Some(json) = &asked.args.json {
        // Who makes RESULTS.md of the file later must not take it for whole.
        let left_out = asked.is_part().then(|| "what --filter left out".to_owned());
        let missing: Vec<_> = missing.iter().cloned().chain(left_out).collect();
        record::write(json, &about, &measured, &missing)?;
        writeln!(out, "\nwrote {}", json.display()).map_err(said)?;
    }
    if !asked.is_part() {
        out.write_all(text::verdicts(&judged, &reasons).as_bytes()).map_err(said)?;
        missing.extend(
            judged.iter().filter(|judged| judged.value.is_none()).map(|judged| judged.target.label()),
        );
    }
    if asked.writes() && missing.is_empty() {
        let charts = chart::all(&measured, &targets)?;
        for (file, drawing) in &charts {
            write(&package().join("svg").join(file), drawing)?;
        }
        write(
            &package().join("RESULTS.md"),
            &markdown::results(&about, &measured, &targets, &judged, &reasons),
        )?;
        writeln!(out, "\nwrote benches/RESULTS.md and {} charts in benches/svg", charts.len())
            .map_err(said)?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    let unwritten = if asked.writes() { "\nbenches/RESULTS.md stays as it was" } else { "" };
    Err(format!("\nnot measured:\n  {}{unwritten}", missing.join("\n  ")))
}

/// What was measured, and what could not be.
fn measure(args: &Args) -> Result<(About, Measured, Vec<String>), String> {
    let about = About::of_this_machine(args.quick)?;
    callgrind::require_valgrind()?;
    let folder = tempfile::tempdir().map_err(said)?;
    let rows = groups::rows();
    // A text may mean rows of servers alone, whose names are known when they run; the other parts would call it a mistake.
    let (mut of_calls, mut all) = (Vec::new(), Vec::new());
    for filter in args.filter.texts() {
        all.extend(["--filter", filter]);
        if rows.iter().any(|row| row.id().contains(filter)) {
            of_calls.extend(["--filter", filter]);
        }
    }
    let quick = if args.quick { &["--quick"][..] } else { &[] };
    let calls_too = all.is_empty() || !of_calls.is_empty();
    let parts = [
        ("calls", calls_too, [&of_calls[..], quick].concat()),
        ("instructions", calls_too, of_calls),
        ("servers", true, [&all[..], quick].concat()),
    ];
    let (mut measured, mut missing) = (Measured::default(), Vec::new());
    for (part, wanted, arguments) in parts {
        if !wanted {
            continue;
        }
        let json = folder.path().join(part);
        if let Err(why) = run_part(part, &arguments, &json) {
            missing.push(why);
        }
        if json.exists() {
            measured.merge(record::lines(&json)?);
        }
    }
    // A row of calls whose time could not be had comes with its instructions first.
    measured.put_in_order(&rows.iter().map(Row::id).collect::<Vec<_>>());
    for filter in args.filter.texts() {
        if !measured.rows().iter().any(|row| row.id().contains(filter)) {
            missing.push(format!("no row contains `{filter}`"));
        }
    }
    Ok((about, measured, missing))
}

/// What a part prints goes to stderr, as progress: the table comes at the end.
fn run_part(part: &str, arguments: &[&str], json: &Path) -> Result<(), String> {
    let program = env::current_exe().map_err(said)?;
    writeln!(io::stderr(), "\n=== {part}").map_err(said)?;
    let status = Command::new(program)
        .env(PART, part)
        .args(arguments)
        .arg("--json")
        .arg(json)
        .stdout(Stdio::from(io::stderr()))
        .status()
        .map_err(|error| format!("{part}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the part `{part}` failed ({status}); it says above why"))
    }
}

/// This package's folder.
fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn said(error: io::Error) -> String {
    error.to_string()
}
