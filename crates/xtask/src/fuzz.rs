//! `cargo xtask fuzz`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use crate::process::target as build_folder;
use crate::process::{Failure, cargo, root, run};
use crate::tools;

/// What is fuzzed, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// All, where none is named.
    targets: Vec<String>,
    minutes: u32,
}

const MINUTES: u32 = 10;
/// A week. libFuzzer counts seconds in 31 bits.
const MOST_MINUTES: u32 = 7 * 24 * 60;

impl Plan {
    pub(crate) fn parse(args: &[OsString]) -> Result<Self, String> {
        let mut plan = Self { targets: Vec::new(), minutes: MINUTES };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let text = arg.to_str().ok_or_else(|| format!("fuzz does not know {}", arg.display()))?;
            if text == "--minutes" {
                let minutes = args.next().and_then(|minutes| minutes.to_str()?.parse().ok());
                plan.minutes = minutes
                    .filter(|minutes| (1..=MOST_MINUTES).contains(minutes))
                    .ok_or_else(|| format!("--minutes takes a number from 1 to {MOST_MINUTES}"))?;
            } else if text.starts_with('-') {
                return Err(format!("fuzz has no option {text}"));
            } else {
                plan.targets.push(text.to_owned());
            }
        }
        Ok(plan)
    }
}

const PROGRAMS: &str = "crates/fuzz/targets/fuzz_targets";

/// Fuzzes each target in turn, up to the first finding.
pub(crate) fn fuzz(plan: &Plan) -> Result<(), Failure> {
    let known = known()?;
    if let Some(unknown) = plan.targets.iter().find(|target| !known.contains(target)) {
        return Err(Failure::misuse(format!("there is no target {unknown}, but {}", known.join(", "))));
    }
    tools::FUZZ.ensure()?;
    let targets = if plan.targets.is_empty() { &known } else { &plan.targets };
    for target in targets {
        fuzz_one(target, plan.minutes)?;
    }
    eprintln!("nothing was found in {} minutes each of {}", plan.minutes, targets.join(", "));
    Ok(())
}

/// The names of all targets.
fn known() -> Result<Vec<String>, Failure> {
    let unreadable = |error| Failure::new(format!("{PROGRAMS} cannot be read: {error}"));
    let mut names = Vec::new();
    for file in fs::read_dir(root().join(PROGRAMS)).map_err(unreadable)? {
        let path = file.map_err(unreadable)?.path();
        if path.extension() == Some(OsStr::new("rs"))
            && let Some(name) = path.file_stem().and_then(OsStr::to_str)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn fuzz_one(target: &str, minutes: u32) -> Result<(), Failure> {
    let kept = format!("crates/fuzz/corpus/{target}");
    let build = build_folder().join("fuzz");
    // What is new is not kept with the sources, unless it is a finding.
    let grown = build.join("corpus").join(target);
    fs::create_dir_all(&grown)
        .map_err(|error| Failure::new(format!("{} cannot be made: {error}", grown.display())))?;
    // Sanitizers need a nightly compiler, and watch over unsafe code, of which there is none here. The coverage that
    // leads the fuzzer does not.
    let mut command = cargo(["fuzz", "run", "--fuzz-dir", "crates/fuzz/targets", "--sanitizer", "none"]);
    command.arg("--target-dir").arg(&build).arg(target).arg(&grown).arg(&kept).arg("--");
    command.args([
        format!("-max_total_time={}", 60 * minutes),
        "-max_len=2048".to_owned(),
        // A slow input is a finding, and so is one that takes all memory.
        "-timeout=10".to_owned(),
        "-rss_limit_mb=2048".to_owned(),
        format!("-dict=crates/fuzz/dictionaries/{target}"),
        // So it is in the corpus already, which the tests feed to the target.
        format!("-artifact_prefix={kept}/found-"),
        "-print_final_stats=1".to_owned(),
    ]);
    let before = findings(&root().join(&kept));
    run(&mut command).map_err(|failure| {
        let new = findings(&root().join(&kept)).into_iter().find(|finding| !before.contains(finding));
        match new {
            Some(new) => Failure::new(found(target, &kept, &new)),
            // It could not be built, for example.
            None => failure,
        }
    })
}

fn found(target: &str, kept: &str, finding: &str) -> String {
    format!(
        "{target}: something does not hold, see above. The input is {kept}/{finding}.\n\
         To repeat it: cargo test -p buttress-fuzz the_kept_corpus\n\
         Once that is mended, fuzz it again: cargo xtask fuzz {target}"
    )
}

/// The names of the findings that are kept. Where there is no such folder, there are none.
fn findings(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    names
        .filter_map(|file| file.file_name().into_string().ok())
        .filter(|name| name.starts_with("found-"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Plan, String> {
        Plan::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn targets_and_minutes_are_understood() {
        let plan = |targets: &[&str], minutes| {
            Ok(Plan { targets: targets.iter().map(|target| (*target).to_owned()).collect(), minutes })
        };
        assert_eq!(parse(""), plan(&[], MINUTES));
        assert_eq!(parse("vary --minutes 3 config"), plan(&["vary", "config"], 3));
        for misuse in ["--minutes", "--minutes 0", "--minutes many", "--jobs 2", "--minutes 99999999"] {
            assert!(parse(misuse).is_err(), "{misuse}");
        }
    }

    #[test]
    fn the_targets_are_those_that_have_a_corpus() {
        let known = known().unwrap();
        assert!(known.len() > 5, "{known:?}");
        for target in known {
            assert!(root().join("crates/fuzz/corpus").join(&target).is_dir(), "{target}");
            assert!(root().join("crates/fuzz/dictionaries").join(&target).is_file(), "{target}");
        }
    }

    #[test]
    fn a_target_that_there_is_not_is_refused_before_anything_is_built() {
        let refused = fuzz(&Plan { targets: vec!["vry".to_owned()], minutes: 1 }).unwrap_err();
        assert!(refused.to_string().starts_with("there is no target vry, but api_urls, "), "{refused}");
        assert!(refused.is_misuse());
    }
}
