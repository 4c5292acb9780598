//! What the command line asks for.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// What it takes.
pub(crate) const USAGE: &str =
    "buttress-soak --minutes N [--seed S] [--report FILE] --gateway PROGRAM --worker PROGRAM";

/// The least that holds a warm-up, some faults with their recoveries, and the end, whatever the seed.
pub(crate) const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// How long the load lasts. Start and end come on top.
    pub(crate) lasts: Duration,
    /// None: one by chance, which the report tells.
    pub(crate) seed: Option<u64>,
    /// Where the report is written to, beside standard output.
    pub(crate) report: Option<PathBuf>,
    pub(crate) gateway: PathBuf,
    pub(crate) worker: PathBuf,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// One line.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, String> {
    let (mut lasts, mut seed, mut report, mut gateway, mut worker) = (None, None, None, None, None);
    let mut args = args.into_iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{} has no value", name.display()))?;
        match name.to_str() {
            Some("--minutes") => lasts = Some(minutes(&value)?),
            Some("--seed") => {
                let number = value.to_str().and_then(|text| text.parse().ok());
                seed = Some(number.ok_or_else(|| format!("--seed {} is no whole number", value.display()))?);
            }
            Some("--report") => report = Some(value.into()),
            Some("--gateway") => gateway = Some(value.into()),
            Some("--worker") => worker = Some(value.into()),
            _ => return Err(format!("there is no argument {}", name.display())),
        }
    }
    Ok(Args {
        lasts: lasts.ok_or("--minutes is missing")?,
        seed,
        report,
        gateway: gateway.ok_or("--gateway is missing")?,
        worker: worker.ok_or("--worker is missing")?,
    })
}

fn minutes(value: &OsString) -> Result<Duration, String> {
    let minutes = value.to_str().and_then(|text| text.parse::<f64>().ok());
    let lasts = minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
    lasts
        .filter(|lasts| (LEAST..=MOST).contains(lasts))
        .ok_or_else(|| format!("--minutes {} must be a number from 1 to 1440", value.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn all_of_them_are_understood() {
        let args = parse("--minutes 3 --seed 7 --report r.md --gateway g --worker w").unwrap();
        let expected = Args {
            lasts: Duration::from_secs(180),
            seed: Some(7),
            report: Some("r.md".into()),
            gateway: "g".into(),
            worker: "w".into(),
        };
        assert_eq!(args, expected);
        assert_eq!(parse("--minutes 1 --gateway g --worker w").unwrap().seed, None);
    }

    #[test]
    fn misuse_is_refused() {
        for line in ["", "--minutes", "--minutes 3", "--minutes 0.9 --gateway g --worker w", "--minutes x"] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in ["--minutes inf", "--minutes -1", "--minutes 3 --seed x", "--hours 3"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
