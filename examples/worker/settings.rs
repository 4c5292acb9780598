//! What the environment says.

use std::{env, process, str::FromStr, time::Duration};

/// How a worker works.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// None: a throw-away server.
    pub(crate) database_url: Option<String>,
    /// Who holds a job, for whoever looks at the table.
    pub(crate) name: String,
    /// So many jobs at once.
    pub(crate) concurrency: u32,
    /// How long a job is this worker's without a word of its own; renewed three times as often.
    pub(crate) lease: Duration,
    /// How often it looks where no notification came.
    pub(crate) poll: Duration,
    /// How long an attempt may take.
    pub(crate) job_timeout: Duration,
    /// The wait after a first failure; it doubles, up to 5 minutes.
    pub(crate) backoff: Duration,
    /// How long running jobs may go on after SIGTERM.
    pub(crate) drain: Duration,
    /// How long the rows, and so the keys, of done jobs are kept.
    pub(crate) keep: Duration,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// One line that names the variable.
    pub(crate) fn from_env() -> Result<Self, String> {
        let settings = Self {
            database_url: variable("DATABASE_URL")?,
            name: variable("WORKER_NAME")?.unwrap_or_else(|| format!("worker-{}", process::id())),
            concurrency: parsed("WORKER_CONCURRENCY", "a number from 1 to 1000", 8, |text| {
                u32::from_str(text).ok().filter(|n| (1..=1_000).contains(n))
            })?,
            lease: duration("WORKER_LEASE", 30_000)?,
            poll: duration("WORKER_POLL", 1_000)?,
            job_timeout: duration("WORKER_JOB_TIMEOUT", 60_000)?,
            backoff: duration("WORKER_BACKOFF", 1_000)?,
            drain: duration("WORKER_DRAIN", 20_000)?,
            keep: duration("WORKER_KEEP", 86_400_000)?,
        };
        if settings.lease < Duration::from_millis(200) {
            return Err("WORKER_LEASE: below 200ms it would run out between two renewals".into());
        }
        Ok(settings)
    }
}

/// Set, and not empty.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

fn parsed<T>(name: &str, like: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    match variable(name)? {
        Some(text) => parse(&text).ok_or_else(|| format!("{name}: {text:?} must be {like}")),
        None => Ok(default),
    }
}

fn duration(name: &str, default_millis: u64) -> Result<Duration, String> {
    let default = Duration::from_millis(default_millis);
    parsed(name, "like 250ms, 30s or 5m: above zero, and at most a year", default, |text| {
        let digits = text.find(|it: char| !it.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return None,
        };
        let millis = u64::from_str(number).ok()?.checked_mul(millis)?;
        (1..=31_536_000_000).contains(&millis).then(|| Duration::from_millis(millis))
    })
}
