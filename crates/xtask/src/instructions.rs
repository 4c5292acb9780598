//! `cargo xtask instructions`: what a call through each of our hot paths costs, beside what it cost before.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Failure, cargo, read, root};

/// More than this over its baseline, and a row fails: of what the layer takes, without the call itself.
const TOLERANCE: f64 = 0.05;
/// Of a few dozen instructions, 5 % is less than where the compiler puts a move.
const INSTRUCTIONS: f64 = 3.0;
/// The call itself, without any layer.
const BARE: &str = "physical/bare";

const ACCEPT: &str = "cargo xtask instructions --accept";

/// Instructions a call, by row.
type Counts = BTreeMap<String, f64>;

/// What was counted before, and by which compiler.
#[derive(Debug, PartialEq)]
struct Baseline {
    rustc: String,
    counts: Counts,
}

/// Counts, and fails where a call costs more than it did.
///
/// # Errors
/// When a layer costs over 5 % more than its baseline, or nothing at all, or one of both is missing.
pub(crate) fn hold() -> Result<(), Failure> {
    let baseline = Baseline::read()?;
    let rustc = rustc()?;
    let counted = count()?;
    let Comparison { lines, failures } = compare(&baseline.counts, &counted);
    for line in lines {
        eprintln!("{line}");
    }
    if let Some(notice) = other_compiler(&baseline.rustc, &rustc) {
        eprintln!("{notice}");
    }
    if failures == 0 { Ok(()) } else { Err(Failure::new(complaint(failures))) }
}

/// Counts, and writes down what it found as the new baseline.
///
/// # Errors
/// When it cannot count, or the file cannot be written.
pub(crate) fn accept() -> Result<(), Failure> {
    let rustc = rustc()?;
    let counts = count()?;
    // A first baseline has nothing beside it.
    if let Ok(before) = Baseline::read() {
        compare(&before.counts, &counts).lines.iter().for_each(|line| eprintln!("{line}"));
    }
    let path = path();
    fs::write(&path, Baseline { rustc, counts }.written())
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn path() -> PathBuf {
    root().join("benches/instructions.tsv")
}

fn rustc() -> Result<String, Failure> {
    read(Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version"))
        .map(|version| version.trim().to_owned())
}

/// Optimised as users' programs are, but without the peers, which would take minutes to build.
fn count() -> Result<Counts, Failure> {
    let gate = ["bench", "--package", "buttress-benches", "--bench", "gate"];
    let counted = read(cargo(gate).args(["--no-default-features", "--features", "quanta"]))?;
    parse(&counted).map_err(|line| Failure::new(format!("the bench `gate` said `{line}`")))
}

/// Lines of `row TAB instructions`.
///
/// # Errors
/// The line that is none, or the row that stands twice.
fn parse(lines: &str) -> Result<Counts, &str> {
    let mut counts = Counts::new();
    for line in lines.lines() {
        let (row, count) = line.split_once('\t').ok_or(line)?;
        let count: f64 = count.parse().ok().filter(|count: &f64| count.is_finite()).ok_or(line)?;
        if counts.insert(row.to_owned(), count).is_some() {
            return Err(line);
        }
    }
    if counts.is_empty() { Err("nothing") } else { Ok(counts) }
}

const COUNTED_WITH: &str = "# counted with ";
const HEAD: &str = "row\tinstructions a call";

impl Baseline {
    fn read() -> Result<Self, Failure> {
        let path = path();
        let fault = |why: String| Failure::new(format!("{}: {why}; {ACCEPT} writes it anew", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(COUNTED_WITH).ok_or("its first line does not name the compiler")?;
        let (rustc, rest) = rest.split_once('\n').ok_or("it has no rows")?;
        let rows = rest.strip_prefix(HEAD).and_then(|rest| rest.strip_prefix('\n'));
        let rows = rows.ok_or("its second line does not name the columns")?;
        let counts = parse(rows).map_err(|line| format!("`{line}` is no row"))?;
        Ok(Self { rustc: rustc.to_owned(), counts })
    }

    fn written(&self) -> String {
        let rows = self.counts.iter().map(|(row, count)| format!("{row}\t{count:.1}\n"));
        format!("{COUNTED_WITH}{}\n{HEAD}\n{}", self.rustc, rows.collect::<String>())
    }
}

/// What to say of each row, and how many of them fail.
#[derive(Debug, Default, PartialEq)]
struct Comparison {
    lines: Vec<String>,
    failures: usize,
}

fn compare(before: &Counts, now: &Counts) -> Comparison {
    let bare = before.get(BARE).copied().unwrap_or_default();
    let bare_now = now.get(BARE);
    let mut comparison = Comparison::default();
    let mut fails = |line| {
        comparison.lines.push(line);
        comparison.failures += 1;
    };
    let gone = before.keys().filter(|row| !now.contains_key(*row));
    gone.for_each(|row| fails(format!("GONE    {row}: it has a baseline, and nothing counts it any more")));
    let new = now.iter().filter(|(row, _)| !before.contains_key(*row));
    new.for_each(|(row, count)| {
        fails(format!("NEW     {row}: {count:.1} instructions a call, and no baseline"))
    });
    for (row, before, now) in before.iter().filter_map(|(row, before)| Some((row, *before, *now.get(row)?))) {
        let change = format!(
            "{row}: {now:.1} instructions a call, {before:.1} before ({:+.1} %)",
            (now / before - 1.0) * 100.0
        );
        let tolerance = ((before - bare) * TOLERANCE).max(INSTRUCTIONS);
        if row != BARE && bare_now.is_some_and(|bare| now <= *bare) {
            comparison.failures += 1;
            comparison
                .lines
                .push(format!("NOTHING {change}: no more than the call itself, so no layer was measured"));
        } else if now - before > tolerance {
            comparison.failures += 1;
            comparison.lines.push(format!("DEARER  {change}"));
        } else if before - now > tolerance {
            comparison.lines.push(format!("cheaper {change}: keep it by `{ACCEPT}`"));
        } else {
            comparison.lines.push(format!("holds   {change}"));
        }
    }
    comparison
}

fn complaint(failures: usize) -> String {
    let rows = if failures == 1 { "1 row does not".into() } else { format!("{failures} rows do not") };
    format!(
        "{rows} hold to the baseline (5 % of what the layer takes, at least 3 instructions). Make the call cheaper again, or, \
         where it is worth its price, run `{ACCEPT}` and commit benches/instructions.tsv"
    )
}

fn other_compiler(baseline: &str, this: &str) -> Option<String> {
    (baseline != this).then(|| {
        format!(
            "The baseline was counted with {baseline}; this is {this}. A difference may be the compiler's: \
             count the code before your change with this compiler as well."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, f64)]) -> Counts {
        rows.iter().map(|(row, count)| ((*row).to_owned(), *count)).collect()
    }

    fn compared(before: &[(&str, f64)], now: &[(&str, f64)]) -> (String, usize) {
        let Comparison { lines, failures } = compare(&counts(before), &counts(now));
        (lines.join("\n"), failures)
    }

    #[test]
    fn over_five_percent_more_fails_and_says_before_and_now() {
        let (said, failures) = compared(&[("breaker/open", 100.0)], &[("breaker/open", 105.1)]);
        assert_eq!(failures, 1);
        assert_eq!(said, "DEARER  breaker/open: 105.1 instructions a call, 100.0 before (+5.1 %)");
        assert!(complaint(failures).contains(ACCEPT));
        assert_eq!(compared(&[("breaker/open", 100.0)], &[("breaker/open", 105.0)]).1, 0);
    }

    #[test]
    fn what_the_call_takes_without_the_layer_does_not_hide_a_change() {
        assert_eq!(compared(&[("a/b", 200.0), (BARE, 100.0)], &[("a/b", 205.1), (BARE, 100.0)]).1, 1);
        assert_eq!(compared(&[("a/b", 200.0), (BARE, 100.0)], &[("a/b", 205.0), (BARE, 103.0)]).1, 0);
    }

    #[test]
    fn a_layer_that_costs_nothing_was_not_measured() {
        let (said, failures) = compared(&[("a/b", 200.0), (BARE, 100.0)], &[("a/b", 100.0), (BARE, 100.0)]);
        assert_eq!(failures, 1);
        assert!(said.contains("NOTHING a/b: 100.0") && said.contains("holds   physical/bare"), "{said}");
        assert_eq!(compared(&[("a/b", 200.0), (BARE, 100.0)], &[("a/b", 101.0), (BARE, 100.0)]).1, 0);
    }

    #[test]
    fn a_tiny_row_has_three_instructions() {
        assert_eq!(compared(&[("tiny", 20.0)], &[("tiny", 23.0)]).1, 0);
        assert_eq!(compared(&[("tiny", 20.0)], &[("tiny", 23.1)]).1, 1);
    }

    #[test]
    fn a_cheaper_row_is_to_be_kept() {
        let (said, failures) = compared(&[("retry/ok", 100.0)], &[("retry/ok", 90.0)]);
        assert_eq!(failures, 0);
        assert!(said.starts_with("cheaper retry/ok: 90.0") && said.contains(ACCEPT), "{said}");
    }

    #[test]
    fn rows_and_baselines_belong_together() {
        let (said, failures) = compared(&[("a/old", 1.0), ("a/b", 9.0)], &[("a/b", 9.0), ("a/new", 2.0)]);
        assert_eq!(failures, 2);
        assert!(said.contains("GONE    a/old") && said.contains("NEW     a/new"), "{said}");
        assert!(said.contains("holds   a/b"), "{said}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let counts = counts(&[("cache/hit one key", 247.04), ("breaker/open", 236.0)]);
        let baseline = Baseline { rustc: "rustc 1.95.0 (abc 2026-04-14)".into(), counts };
        let written = baseline.written();
        let expected = "# counted with rustc 1.95.0 (abc 2026-04-14)\nrow\tinstructions a call\n\
                        breaker/open\t236.0\ncache/hit one key\t247.0\n";
        assert_eq!(written, expected);
        let read = Baseline::parse(&written).expect("it is what was written");
        assert_eq!((read.rustc, read.counts.len()), (baseline.rustc, 2));
    }

    #[test]
    fn a_damaged_file_is_no_baseline() {
        for text in
            ["", "breaker\t1.0\n", "# counted with x\n", "# counted with x\nrow\tinstructions a call\n"]
        {
            assert!(Baseline::parse(text).is_err(), "{text:?}");
        }
        for row in ["breaker 1.0", "breaker\tmany", "breaker\tNaN", "a\t1.0\na\t1.0"] {
            let text = format!("# counted with x\n{HEAD}\n{row}\n");
            assert!(Baseline::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn another_compiler_is_named() {
        assert_eq!(other_compiler("rustc 1", "rustc 1"), None);
        let notice = other_compiler("rustc 1", "rustc 2").expect("they differ");
        assert!(notice.contains("rustc 1") && notice.contains("rustc 2"), "{notice}");
    }

    #[test]
    fn the_baseline_that_is_checked_in_can_be_read() {
        assert!(Baseline::read().is_ok_and(|baseline| baseline.counts.len() >= 12));
    }
}
