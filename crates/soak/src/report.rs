//! The report, in Markdown.

use std::{
    fmt::{self, Write},
    fs,
    time::{Duration, SystemTime},
};

use crate::{
    checks::{Check, millis, told},
    outcome::Soaked,
    recovery::{Effect, FACTOR, FLOOR, RECOVERY},
    sample::{Class, Outcome, Sample},
};

/// So many kinds of failures are told in full.
const TOLD: usize = 30;

/// Writes it.
///
/// # Errors
/// When `out` fails.
pub(crate) fn write(
    out: &mut impl Write,
    soaked: &Soaked,
    effects: &[Effect],
    checks: &[Check],
    servers: &str,
) -> fmt::Result {
    let minutes = soaked.lasts.as_secs_f64() / 60.0;
    let failed = checks.iter().filter(|check| !check.held).count();
    writeln!(out, "# Soak: {minutes} minutes, seed {}\n", soaked.seed)?;
    let verdict =
        if failed == 0 { "Everything held.".into() } else { format!("**{failed} checks did not hold.**") };
    writeln!(out, "{verdict}\n")?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| date | {} |", humantime::format_rfc3339_seconds(now()))?;
    writeln!(out, "| machine | {} |", machine())?;
    writeln!(out, "| servers | {servers} |")?;
    writeln!(out, "| again | `cargo xtask soak --minutes {minutes} --seed {}` |\n", soaked.seed)?;
    totals(out, soaked)?;
    faults(out, soaked, effects)?;
    writeln!(out, "## Checks\n\n| | figure | allowed | |\n|---|---|---|---|")?;
    for Check { name, figure, allowed, held } in checks {
        let held = if *held { "held" } else { "**NOT HELD**" };
        writeln!(out, "| {} | {} | {} | {held} |", cell(name), cell(figure), cell(allowed))?;
    }
    words(out, soaked)
}

fn totals(out: &mut impl Write, soaked: &Soaked) -> fmt::Result {
    writeln!(out, "## Requests\n\n| | sent | good | refused by a limit | failed | median | p99 | longest |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for class in Class::ALL {
        let of_class: Vec<_> = soaked.samples.iter().filter(|sample| sample.class == class).collect();
        let count = |is: fn(&Sample) -> bool| of_class.iter().filter(|&&sample| is(sample)).count();
        let good = count(|sample| sample.outcome == Outcome::Good);
        let limited = count(|sample| sample.outcome == Outcome::Limited);
        let mut took: Vec<_> = of_class.iter().map(|sample| sample.took).collect();
        took.sort_unstable();
        let part = |percent: usize| {
            let place = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(place).copied().map_or("-".into(), tenths)
        };
        let (sent, failed) = (of_class.len(), count(Sample::is_failed));
        let (name, median, p99, longest) = (class.name(), part(50), part(99), part(100));
        writeln!(out, "| {name} | {sent} | {good} | {limited} | {failed} | {median} | {p99} | {longest} |")?;
    }
    let jobs = soaked.books.jobs.len();
    writeln!(
        out,
        "\nBesides, {jobs} jobs were enqueued past the gateway, and the upstream had {} requests.\n",
        soaked.upstream.requests
    )
}

fn faults(out: &mut impl Write, soaked: &Soaked, effects: &[Effect]) -> fmt::Result {
    writeln!(
        out,
        "## Faults\n\nThe p99 is that of good reads. Recovered is when, for a second, nothing fails and it is at most {FACTOR} \
         times that of the 3 s before, or {}: at most {} s after the fault's end. Errors are counted until then.\n",
        millis(FLOOR),
        RECOVERY.as_secs()
    )?;
    writeln!(
        out,
        "| at | what | for | errors | p99 before | during | after | recovered |\n|---|---|---|---|---|---|---|---|"
    )?;
    for (fault, effect) in soaked.faults.iter().zip(effects) {
        let p99 = |time: Option<Duration>| time.map_or("-".into(), tenths);
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let mut what = fault.planned.kind.name().to_owned();
        if let Some(delay) = fault.planned.delay {
            write!(what, ", by {}", millis(delay))?;
        }
        if let Some(wrong) = &fault.wrong {
            write!(what, ": **{wrong}**")?;
        }
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            seconds(fault.from),
            cell(&what),
            seconds(fault.until - fault.from),
            effect.failed,
            p99(effect.before),
            p99(effect.during),
            p99(effect.after),
            effect.recovered.map_or("**no**".into(), seconds)
        )?;
    }
    writeln!(out)
}

/// What failed, and how that was told to the clients.
fn words(out: &mut impl Write, soaked: &Soaked) -> fmt::Result {
    let told = told(soaked);
    if !told.is_empty() {
        writeln!(out, "\n## Errors outside of faults\n")?;
        for sample in told.iter().take(TOLD) {
            let (at, took) = (sample.at.as_secs_f64(), millis(sample.took));
            writeln!(out, "- at {at:.2} s: {}, {:?} after {took}", sample.class.name(), sample.outcome)?;
        }
    }
    writeln!(out, "\n## What clients were told\n\n| | times | first | last |\n|---|---|---|---|")?;
    let mut words: Vec<_> = soaked.words.iter().collect();
    words.sort_by_key(|(_, (times, ..))| std::cmp::Reverse(*times));
    for (said, (times, first, last)) in words.into_iter().take(TOLD) {
        let (first, last) = (first.as_secs_f64(), last.as_secs_f64());
        writeln!(out, "| {} | {times} | {first:.1} s | {last:.1} s |", cell(said))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a report has a date")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn tenths(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

/// Whatever a server says, the table stays one.
fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|")
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory, kernel) =
        (read("/proc/cpuinfo"), read("/proc/meminfo"), read("/proc/sys/kernel/osrelease"));
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = value(&cpus, "model name").unwrap_or_else(|| "unknown processor".into());
    let count = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = value(&memory, "MemTotal").unwrap_or_else(|| "unknown memory".into());
    let load = read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    format!("{count} × {model}, {memory}, Linux {}, load at the end {load}", kernel.trim())
}
