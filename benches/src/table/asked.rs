use std::path::PathBuf;

use crate::args::{Args, from_the_workspace};

/// What the command line of `table` asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) args: Args,
    /// A file that `--json` wrote, instead of measuring.
    pub(super) from: Option<PathBuf>,
    write: bool,
}

impl Asked {
    /// Reads the arguments after the program's name.
    pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut from, mut write, mut rest) = (None, false, Vec::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--from" => {
                    let file = args.next().ok_or("--from needs a value: a file that --json wrote")?;
                    from = Some(from_the_workspace(file.as_ref()));
                }
                "--write" => write = true,
                _ => rest.push(arg),
            }
        }
        let asked = Self { args: Args::parse(rest)?, from, write };
        if asked.from.is_some() && asked.args != Args::default() {
            return Err("--from measures nothing: it goes with no other argument".into());
        }
        if asked.write && asked.is_part() {
            return Err("--write goes with no --filter: RESULTS.md holds every row".into());
        }
        Ok(asked)
    }

    /// Whether it is about some of the rows only.
    pub(super) fn is_part(&self) -> bool {
        self.args.filter.texts().next().is_some()
    }

    /// Whether RESULTS.md and its charts are written.
    pub(super) fn writes(&self) -> bool {
        self.write || !(self.args.quick || self.is_part())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Asked::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_whole_run_writes_and_another_does_not() {
        assert!(parse("--bench").unwrap().writes());
        assert!(parse("--json target/r.json").unwrap().writes());
        assert!(!parse("--quick").unwrap().writes());
        assert!(parse("--quick --write").unwrap().writes());
        assert!(!parse("--filter breaker").unwrap().writes());
        assert!(parse("--from target/r.json").unwrap().writes());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(parse("--write --filter breaker").unwrap_err().contains("--filter"));
        assert!(parse("--from r.json --quick").unwrap_err().contains("--from"));
        assert!(parse("--from").unwrap_err().contains("--from needs a value"));
        assert!(parse("--fliter x").unwrap_err().contains("--fliter"));
    }
}
