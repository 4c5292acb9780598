//! What the command line asks for.

use std::ffi::{OsStr, OsString};

use crate::ci::Step;
use crate::fuzz::Plan;
use crate::semver::Semver;

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Help,
    Setup,
    /// Further arguments go to `cargo test`.
    Test(Vec<OsString>),
    /// The arguments go to the soak.
    Soak(Vec<OsString>),
    Ci(Vec<Step>),
    Instructions {
        /// Whether what is counted becomes the baseline.
        accept: bool,
    },
    Semver(Semver),
    Fuzz(Plan),
}

/// Reads the arguments after the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut args = args.into_iter();
    let Some(command) = args.next() else {
        return Err("a command is missing".to_owned());
    };
    let rest: Vec<OsString> = args.collect();
    match command.to_str() {
        Some("help" | "--help" | "-h") => Ok(Action::Help),
        // `cargo test --help` answers for what is passed through to it.
        Some("setup" | "ci" | "soak" | "fuzz" | "instructions" | "semver") if asks_for_help(&rest) => {
            Ok(Action::Help)
        }
        Some("setup") => match rest.first() {
            None => Ok(Action::Setup),
            Some(more) => Err(format!("setup takes no argument, found {}", more.display())),
        },
        Some("test") => Ok(Action::Test(rest)),
        Some("soak") if rest.is_empty() => Err("soak needs --minutes N".to_owned()),
        Some("soak") => Ok(Action::Soak(rest)),
        Some("ci") => steps(&rest).map(Action::Ci),
        Some("instructions") => match rest.as_slice() {
            [] => Ok(Action::Instructions { accept: false }),
            [accept] if accept == "--accept" => Ok(Action::Instructions { accept: true }),
            [.., last] => Err(format!("instructions takes --accept or nothing, found {}", last.display())),
        },
        Some("semver") => semver(&rest).map(Action::Semver),
        Some("fuzz") => Plan::parse(&rest).map(Action::Fuzz),
        _ => Err(format!("there is no command {}", command.display())),
    }
}

fn asks_for_help(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg == "--help" || arg == "-h")
}

/// The steps named, in the order of `Step::ALL` and each once; the usual ones where none is named.
fn steps(names: &[OsString]) -> Result<Vec<Step>, String> {
    if names.is_empty() {
        return Ok(Step::usual().collect());
    }
    let named = names.iter().map(|name| step(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Step::ALL.into_iter().filter(|step| named.contains(step)).collect())
}

fn step(name: &OsStr) -> Result<Step, String> {
    Step::ALL
        .into_iter()
        .find(|step| name == step.name())
        .ok_or_else(|| format!("ci has no step {}", name.display()))
}

fn semver(args: &[OsString]) -> Result<Semver, String> {
    let mut asked = Semver::default();
    let mut args = args.iter();
    while let Some(option) = args.next() {
        let mut value = || args.next().cloned().ok_or_else(|| format!("{} needs a value", option.display()));
        match option.to_str() {
            Some("--baseline") => asked.baseline = Some(value()?),
            Some("-p" | "--package") => asked.packages.push(value()?),
            _ => return Err(format!("semver knows no {}", option.display())),
        }
    }
    Ok(asked)
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut help = String::from(
        "\
cargo xtask setup              install what the tests need: servers, a browser, valgrind
cargo xtask test [ARGUMENTS]   setup, then `cargo test --workspace --all-features ARGUMENTS`;
                               -p PACKAGE takes the place of --workspace
cargo xtask soak --minutes N [--seed S] [--report FILE]
                               the gateway and the worker under load, on real servers that fail
cargo xtask fuzz [TARGET]... [--minutes N]
                               each parser of outside input by libFuzzer, 10 minutes each,
                               up to the first finding
cargo xtask instructions       hold the instructions of a call to benches/instructions.tsv;
                               with --accept: write that file anew
cargo xtask ci [STEP]...       the checks that a change must pass, all or those named:
",
    );
    for step in Step::ALL {
        let usual = if step.is_usual() { "" } else { " (only when named)" };
        help.push_str(&format!("    {:<14}{}{usual}\n", step.name(), step.purpose()));
    }
    help.push_str(
        "\
cargo xtask semver [--baseline REVISION] [-p PACKAGE]...
                               whether the APIs fit the version numbers, beside the last release or REVISION

Exit codes: 0 all is well, 1 something failed, 2 the command line is wrong, or there is nothing to compare with.",
    );
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Action, String> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn each_command_is_understood() {
        assert_eq!(parse("setup"), Ok(Action::Setup));
        assert_eq!(parse("test"), Ok(Action::Test(Vec::new())));
        assert_eq!(parse("help"), Ok(Action::Help));
        assert_eq!(parse("--help"), Ok(Action::Help));
        assert_eq!(parse("ci --help"), Ok(Action::Help));
        assert_eq!(parse("instructions"), Ok(Action::Instructions { accept: false }));
        assert_eq!(parse("instructions --accept"), Ok(Action::Instructions { accept: true }));
        assert_eq!(parse("fuzz --help"), Ok(Action::Help));
        assert_eq!(parse("fuzz"), Ok(Action::Fuzz(Plan::parse(&[]).unwrap())));
    }

    #[test]
    fn what_follows_test_belongs_to_cargo() {
        let further = ["-p", "buttress-core", "--help", "--", "--nocapture"].map(OsString::from).to_vec();
        assert_eq!(parse("test -p buttress-core --help -- --nocapture"), Ok(Action::Test(further)));
    }

    #[test]
    fn what_follows_soak_is_the_soak_s() {
        let further = ["--minutes", "3", "--seed", "7"].map(OsString::from).to_vec();
        assert_eq!(parse("soak --minutes 3 --seed 7"), Ok(Action::Soak(further)));
        assert_eq!(parse("soak --help"), Ok(Action::Help));
    }

    #[test]
    fn ci_alone_takes_every_step_but_those_that_only_run_when_named() {
        let Ok(Action::Ci(steps)) = parse("ci") else { panic!("ci is a command") };
        assert!(!steps.contains(&Step::Advisories) && !steps.contains(&Step::Verify));
        assert_eq!(steps.len(), Step::ALL.len() - 2);
        assert_eq!(steps.first(), Some(&Step::Fmt));
    }

    #[test]
    fn named_steps_run_once_and_the_cheap_ones_first() {
        assert_eq!(parse("ci clippy fmt clippy"), Ok(Action::Ci(vec![Step::Fmt, Step::Clippy])));
        assert_eq!(parse("ci advisories"), Ok(Action::Ci(vec![Step::Advisories])));
    }

    #[test]
    fn what_is_compared_can_be_named() {
        assert_eq!(parse("semver"), Ok(Action::Semver(Semver::default())));
        let asked = Semver {
            baseline: Some("HEAD~3".into()),
            packages: vec!["buttress-core".into(), "buttress-retry".into()],
        };
        let line = "semver -p buttress-core --baseline HEAD~3 --package buttress-retry";
        assert_eq!(parse(line), Ok(Action::Semver(asked)));
    }

    #[test]
    fn every_step_can_be_named_and_is_in_the_help() {
        for step in Step::ALL {
            assert_eq!(parse(&format!("ci {}", step.name())), Ok(Action::Ci(vec![step])));
            assert!(help().contains(step.purpose()));
        }
    }

    #[test]
    fn misuse_is_refused() {
        for line in [
            "",
            "tset",
            "setup now",
            "soak",
            "ci fmt everything",
            "instructions --except",
            "instructions --accept x",
            "semver HEAD",
            "semver --baseline",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
