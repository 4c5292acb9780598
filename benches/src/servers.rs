//! Rows that need a server: throughput by the wall clock.

mod postgres;

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    future::Future,
    io::{self, Write},
    pin::Pin,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Builder, time::Instant};

use crate::{args::Args, report};

/// The `main` of the bench: measures the rows that the command line asks for, and prints them.
pub fn servers() -> ExitCode {
    report::exit(run())
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A line of the table: something that handles so many items.
pub(crate) struct ServerRow {
    group: &'static str,
    name: &'static str,
    /// Whether it is handed all items at once, and is measured with so many.
    fixed: Option<u64>,
    of_one_caller: bool,
    work: Box<dyn Fn(u64) -> Boxed<()>>,
    /// Puts the server back to where it was; not timed.
    restore: Option<Box<dyn Fn() -> Boxed<()>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    group: String,
    name: String,
    ns: f64,
    per_second: f64,
    rounds: usize,
}

/// Of each row at a time. Long enough for many round trips, short enough for all rows of a round to see the same machine.
const SLICE: Duration = Duration::from_millis(250);

impl ServerRow {
    fn new<F>(group: &'static str, name: &'static str, work: impl Fn(u64) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work: Box<dyn Fn(u64) -> Boxed<()>> = Box::new(move |items| Box::pin(work(items)));
        Self { group, name, fixed: None, of_one_caller: false, work, restore: None }
    }

    fn of_one_caller(mut self) -> Self {
        self.of_one_caller = true;
        self
    }

    /// Measured with so many items at once.
    fn with(mut self, items: u64) -> Self {
        self.fixed = Some(items);
        self
    }

    fn restored_by<F>(mut self, restore: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.restore = Some(Box::new(move || Box::pin(restore())));
        self
    }

    fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    async fn time(&self, items: u64) -> Duration {
        let start = Instant::now();
        (self.work)(items).await;
        let time = start.elapsed();
        if let Some(restore) = &self.restore {
            restore().await;
        }
        time
    }

    /// As many items as take about a slice.
    async fn calibrate(&self) -> u64 {
        if let Some(items) = self.fixed {
            return items;
        }
        let mut items = 256;
        loop {
            let time = self.time(items).await;
            if time >= SLICE / 4 {
                return (items as f64 * SLICE.as_secs_f64() / time.as_secs_f64()) as u64;
            }
            items *= 2;
        }
    }
}

/// The rows of one caller run in a process of its own that has one core, and its server too. On two, most of what is measured
/// is how long an idle core takes to wake, which depends on where the scheduler has put a backend, and may be a fifth of a
/// round trip for hours.
const ONE_CORE: &str = "--one-core";

fn run() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let pinned = arguments.first().is_some_and(|first| first == ONE_CORE);
    let args = Args::parse(arguments.iter().skip(usize::from(pinned)).cloned())?;
    if pinned {
        stay_on_one_core()?;
        let lines = measured(&args, tokio::runtime::Builder::new_current_thread(), true)?;
        return lines.iter().try_for_each(|line| {
            let line = serde_json::to_string(line).map_err(|error| error.to_string())?;
            writeln!(io::stdout(), "{line}").map_err(text)
        });
    }
    let mut json = args.json.as_ref().map(File::create).transpose().map_err(text)?;
    let mut lines = on_one_core(&arguments)?;
    lines.extend(measured(&args, tokio::runtime::Builder::new_multi_thread(), false)?);
    let mut out = io::stdout().lock();
    writeln!(out, "\n{:<42}{:>12}{:>14}", "on real servers", "ns/item", "items/s").map_err(text)?;
    for line in &lines {
        let Line { group, name, ns, per_second, .. } = line;
        writeln!(out, "{:<42}{ns:>12.0}{per_second:>14.0}", format!("{group}/{name}")).map_err(text)?;
        if let Some(json) = &mut json {
            let line = serde_json::to_string(line).map_err(|error| error.to_string())?;
            writeln!(json, "{line}").map_err(text)?;
        }
    }
    Ok(())
}

/// What is started from now on stays there as well.
fn stay_on_one_core() -> Result<(), String> {
    let mut cores = CpuSet::new();
    cores.set(0).map_err(|error| error.to_string())?;
    sched_setaffinity(Pid::from_raw(0), &cores).map_err(|error| error.to_string())
}

fn on_one_core(arguments: &[String]) -> Result<Vec<Line>, String> {
    let program = env::current_exe().map_err(text)?;
    let mut command = Command::new(program);
    command.arg(ONE_CORE).args(arguments).stderr(Stdio::inherit());
    let output = command.output().map_err(text)?;
    if !output.status.success() {
        return Err("the rows of one caller could not be measured".into());
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect()
}

fn measured(args: &Args, mut runtime: Builder, of_one_caller: bool) -> Result<Vec<Line>, String> {
    let runtime = runtime.enable_all().build().map_err(text)?;
    let rounds = if args.quick { 5 } else { 21 };
    let (mut rows, _server) = runtime.block_on(postgres::rows());
    rows.retain(|row| row.of_one_caller == of_one_caller && args.filter.matches(&row.id()));
    let mut times = runtime.block_on(measure(&rows, rounds));
    let line = |row: &ServerRow| {
        let nanos = times.get_mut(&row.id())?;
        nanos.sort_by(f64::total_cmp);
        let ns = nanos[nanos.len() / 2];
        Some(Line { group: row.group.into(), name: row.name.into(), ns, per_second: 1e9 / ns, rounds })
    };
    Ok(rows.iter().filter_map(line).collect())
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// In rounds, each of all rows, so that what slows the machine for a while slows all of them.
async fn measure(rows: &[ServerRow], rounds: usize) -> BTreeMap<String, Vec<f64>> {
    let mut items = Vec::new();
    for row in rows {
        items.push(row.calibrate().await);
    }
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for at in order {
            let nanos = rows[at].time(items[at]).await.as_nanos() as f64 / items[at] as f64;
            times.entry(rows[at].id()).or_default().push(nanos);
        }
    }
    times
}
