use std::path::{Path, PathBuf};

use crate::row::Filter;

/// What the command line of `calls` asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Args {
    pub(crate) quick: bool,
    pub(crate) filter: Filter,
    pub(crate) json: Option<PathBuf>,
}

pub(crate) const USAGE: &str = "[--quick] [--filter TEXT]... [--json FILE]";

impl Args {
    /// Reads the arguments after the program's name. `--bench`, which cargo adds, says nothing.
    pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value; usage: {USAGE}"));
            match arg.as_str() {
                "--bench" => {}
                "--quick" => parsed.quick = true,
                "--filter" => parsed.filter.add(value()?),
                "--json" => parsed.json = Some(from_the_workspace(value()?.as_ref())),
                _ => return Err(format!("unknown argument {arg}; usage: {USAGE}")),
            }
        }
        Ok(parsed)
    }
}

/// Cargo runs a bench in its package's folder, whereas whoever types a path stands in the workspace's.
pub(crate) fn from_the_workspace(path: &Path) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn every_argument_is_read_in_any_order() {
        let args = parse("--json /tmp/out.json --bench --filter breaker --quick --filter retry/").unwrap();
        assert!(args.quick);
        assert_eq!(args.json.as_deref(), Some(Path::new("/tmp/out.json")));
        assert!(args.filter.matches("breaker/buttress open"));
        assert!(args.filter.matches("retry/tower"));
        assert!(!args.filter.matches("timeout/tower"));
    }

    #[test]
    fn nothing_asked_is_everything_measured_at_length() {
        let args = parse("--bench").unwrap();
        assert_eq!(args, Args::default());
        assert!(args.filter.matches("timeout/tower"));
    }

    #[test]
    fn a_relative_file_lands_in_the_workspace() {
        let file = parse("--json target/out.json").unwrap().json.unwrap();
        assert_eq!(file, Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/out.json"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("--fliter breaker").unwrap_err().contains("--fliter"));
        assert!(parse("--quick --filter").unwrap_err().contains("--filter needs a value"));
        assert!(parse("--json").unwrap_err().contains("--json needs a value"));
    }
}
