//! Rows that need a server: throughput by the wall clock.

mod http;
mod postgres;
mod redis;
mod system;

use std::{
    any::Any,
    collections::BTreeMap,
    env,
    fs::File,
    future::Future,
    io::{self, Write},
    pin::Pin,
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
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
    /// How long each call took, in nanoseconds; of rows that tell it.
    latencies: Option<Latencies>,
    work: Box<dyn Fn(u64) -> Boxed<()>>,
    /// Puts the server back to where it was; not timed.
    restore: Option<Box<dyn Fn() -> Boxed<()>>>,
}

type Latencies = Arc<Mutex<Vec<u64>>>;

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    group: String,
    name: String,
    ns: f64,
    per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ns: Option<f64>,
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
        Self { group, name, fixed: None, of_one_caller: false, latencies: None, work, restore: None }
    }

    fn telling(mut self, latencies: &Latencies) -> Self {
        self.latencies = Some(Arc::clone(latencies));
        self
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

/// Where rows are measured: each place but the last is a process of its own, named by its first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The rows of one caller, with one core for client and server. On two, most of what is measured is how long an idle
    /// core takes to wake, which depends on where the scheduler has put a backend, and may be a fifth of a round trip for
    /// hours.
    OneCore,
    /// The client has a core of its own, and the server another: what is measured is what the client costs.
    ClientsCore,
    AllCores,
}

impl Place {
    const CHILDREN: [Self; 2] = [Self::OneCore, Self::ClientsCore];

    const fn argument(self) -> &'static str {
        match self {
            Self::OneCore => "--one-core",
            Self::ClientsCore => "--clients-core",
            Self::AllCores => "--all-cores",
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let child = Place::CHILDREN
        .into_iter()
        .find(|place| arguments.first().is_some_and(|first| first == place.argument()));
    let args = Args::parse(arguments.iter().skip(usize::from(child.is_some())).cloned())?;
    if let Some(place) = child {
        return measured(&args, place)?.iter().try_for_each(|line| {
            let line = serde_json::to_string(line).map_err(|error| error.to_string())?;
            writeln!(io::stdout(), "{line}").map_err(text)
        });
    }
    let mut json = args.json.as_ref().map(File::create).transpose().map_err(text)?;
    let mut lines = Vec::new();
    for place in Place::CHILDREN {
        lines.extend(measured_by_a_child(&arguments, place)?);
    }
    lines.extend(measured(&args, Place::AllCores)?);
    let mut out = io::stdout().lock();
    let head = format!("\n{:<42}{:>12}{:>14}{:>12}", "on real servers", "ns/item", "items/s", "p99 us");
    writeln!(out, "{head}").map_err(text)?;
    for line in &lines {
        let Line { group, name, ns, per_second, p99_ns, .. } = line;
        let p99 = p99_ns.map_or_else(String::new, |nanos| format!("{:.0}", nanos / 1e3));
        writeln!(out, "{:<42}{ns:>12.0}{per_second:>14.0}{p99:>12}", format!("{group}/{name}"))
            .map_err(text)?;
        if let Some(json) = &mut json {
            let line = serde_json::to_string(line).map_err(|error| error.to_string())?;
            writeln!(json, "{line}").map_err(text)?;
        }
    }
    Ok(())
}

/// What this thread starts from now on stays there as well.
fn stay_on_core(core: usize) -> Result<(), String> {
    let mut cores = CpuSet::new();
    cores.set(core).map_err(|error| error.to_string())?;
    sched_setaffinity(Pid::from_raw(0), &cores).map_err(|error| error.to_string())
}

fn measured_by_a_child(arguments: &[String], place: Place) -> Result<Vec<Line>, String> {
    let program = env::current_exe().map_err(text)?;
    let mut command = Command::new(program);
    command.arg(place.argument()).args(arguments).stderr(Stdio::inherit());
    let output = command.output().map_err(text)?;
    if !output.status.success() {
        return Err(format!("the rows of {} could not be measured", place.argument()));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect()
}

fn measured(args: &Args, place: Place) -> Result<Vec<Line>, String> {
    let mut runtime =
        if place == Place::AllCores { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    match place {
        Place::OneCore => stay_on_core(0)?,
        // Where the server is started.
        Place::ClientsCore => stay_on_core(1)?,
        Place::AllCores => {}
    }
    let runtime = runtime.enable_all().build().map_err(text)?;
    let rounds = if args.quick { 5 } else { 21 };
    let (mut rows, _server): (Vec<ServerRow>, Box<dyn Any>) = if place == Place::ClientsCore {
        let (mut rows, server) = runtime.block_on(http::rows());
        rows.extend(runtime.block_on(system::http_rows(&server)));
        let (of_redis, redis) = runtime.block_on(redis::rows());
        rows.extend(of_redis);
        stay_on_core(0)?;
        (rows, Box::new((server, redis)))
    } else {
        let (mut rows, server) = runtime.block_on(postgres::rows());
        rows.retain(|row| row.of_one_caller == (place == Place::OneCore));
        (rows, Box::new(server))
    };
    rows.retain(|row| args.filter.matches(&row.id()));
    let mut times = runtime.block_on(measure(&rows, rounds));
    let line = |row: &ServerRow| {
        let ns = quantile(times.get_mut(&row.id())?, 0.5)?;
        let p99_ns = row.latencies.as_ref().and_then(|latencies| {
            let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
            let mut latencies: Vec<f64> = latencies.drain(..).map(|nanos| nanos as f64).collect();
            quantile(&mut latencies, 0.99)
        });
        let (group, name) = (row.group.into(), row.name.into());
        Some(Line { group, name, ns, per_second: 1e9 / ns, p99_ns, rounds })
    };
    Ok(rows.iter().filter_map(line).collect())
}

fn quantile(values: &mut [f64], quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * quantile) as usize).copied()
}

fn text(error: io::Error) -> String {
    error.to_string()
}

/// In rounds, each of all rows, so that what slows the machine for a while slows all of them.
async fn measure(rows: &[ServerRow], rounds: usize) -> BTreeMap<String, Vec<f64>> {
    let mut items = Vec::new();
    for row in rows {
        items.push(row.calibrate().await);
        // Of a row that was cold.
        if let Some(latencies) = &row.latencies {
            latencies.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
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

/// So many callers, each with the next call when it has its answer.
async fn callers<F>(callers: u64, items: u64, call: impl Fn() -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let (call, mine) = (call.clone(), items / callers + u64::from(caller < items % callers));
            tokio::spawn(async move {
                for _ in 0..mine {
                    call().await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no caller panics");
    }
}

/// Calls of so many callers, each of which takes the time of each of its calls.
fn timed<F>(
    group: &'static str,
    name: &'static str,
    callers_at_once: u64,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> ServerRow
where
    F: Future<Output = ()> + Send + 'static,
{
    let latencies = Latencies::default();
    let all = Arc::clone(&latencies);
    ServerRow::new(group, name, move |items| {
        let (call, all) = (call.clone(), Arc::clone(&all));
        async move {
            let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
            callers(callers_at_once, items, move || {
                let (call, send) = (call.clone(), send.clone());
                async move {
                    let start = Instant::now();
                    call().await;
                    _ = send.send(start.elapsed().as_nanos() as u64);
                }
            })
            .await;
            let mut taken = Vec::new();
            while receive.recv_many(&mut taken, usize::MAX).await > 0 {}
            all.lock().unwrap_or_else(PoisonError::into_inner).append(&mut taken);
        }
    })
    .telling(&latencies)
}
