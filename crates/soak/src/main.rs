#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod args;
mod checks;
mod configuration;
mod jobs;
mod ledger;
mod load;
mod outcome;
mod processes;
mod recovery;
mod report;
mod sample;
mod schedule;
mod soak;
mod upstream;
mod watch;
mod world;

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
};

use tokio::signal::unix::{SignalKind, signal};

use self::args::Args;

const NOT_HELD: u8 = 1;
const MISUSED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(misuse) => {
            eprintln!("soak: {misuse}\n\n{}", args::USAGE);
            return ExitCode::from(MISUSED);
        }
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000));
    eprintln!("soak: seed {seed}");
    // What is dropped then ends its programs and removes its folder.
    let ran = tokio::select! {
        ran = run(&args, seed) => ran,
        stopped = stopped() => stopped.and_then(|signal| Err(format!("stopped by {signal}: nothing is judged"))),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_HELD),
        Err(error) => {
            eprintln!("soak: {error}\nsoak: again with --seed {seed}");
            ExitCode::from(NOT_HELD)
        }
    }
}

/// Waits until somebody stops it: the gateway and the workers would outlive it.
async fn stopped() -> Result<&'static str, String> {
    let on = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut interrupt, mut terminate, mut hangup) =
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = hangup.recv() => Ok("SIGHUP"),
    }
}

/// Whether everything held.
async fn run(args: &Args, seed: u64) -> Result<bool, String> {
    let folder =
        tempfile::Builder::new().prefix("buttress-soak-").tempdir().map_err(|error| error.to_string())?;
    let soaked = soak::soak(args, seed, folder.path()).await;
    let (soaked, servers) = match soaked {
        Ok(soaked) => soaked,
        Err(error) => return Err(format!("{error}\nsoak: logs are in {}", folder.keep().display())),
    };
    let effects = recovery::effects(&soaked.faults, &soaked.samples);
    let checks = checks::checks(&soaked, &effects);
    let mut report = String::new();
    report::write(&mut report, &soaked, &effects, &checks, &servers).map_err(|error| error.to_string())?;
    // Where nobody reads it, the file and the exit code still tell.
    let _ = io::stdout().write_all(report.as_bytes());
    if let Some(file) = &args.report {
        fs::write(file, &report).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let held = checks.iter().all(|check| check.held);
    if !held {
        for check in checks.iter().filter(|check| !check.held) {
            eprintln!("soak: not held: {}: {} (allowed: {})", check.name, check.figure, check.allowed);
        }
        eprintln!("soak: again with --seed {seed}; logs are in {}", folder.keep().display());
    }
    Ok(held)
}
