//! What the command line asks for.

use std::ffi::{OsStr, OsString};

use crate::ci::Step;

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Help,
    Setup,
    /// Further arguments go to `cargo test`.
    Test(Vec<OsString>),
    Ci(Vec<Step>),
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
        Some("setup" | "ci") if asks_for_help(&rest) => Ok(Action::Help),
        Some("setup") => match rest.first() {
            None => Ok(Action::Setup),
            Some(more) => Err(format!("setup takes no argument, found {}", more.display())),
        },
        Some("test") => Ok(Action::Test(rest)),
        Some("ci") => steps(&rest).map(Action::Ci),
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

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut help = String::from(
        "\
cargo xtask setup              install what the tests need: redis-server, Postgres, setpriv
cargo xtask test [ARGUMENTS]   setup, then `cargo test --workspace --all-features ARGUMENTS`;
                               -p PACKAGE takes the place of --workspace
cargo xtask ci [STEP]...       the checks that a change must pass, all or those named:
",
    );
    for step in Step::ALL {
        let usual = if step.is_usual() { "" } else { " (only when named)" };
        help.push_str(&format!("    {:<12}{}{usual}\n", step.name(), step.purpose()));
    }
    help.push_str(
        "
Exit codes: 0 all is well, 1 something failed, 2 the command line is wrong.",
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
    }

    #[test]
    fn what_follows_test_belongs_to_cargo() {
        let further = ["-p", "buttress-core", "--help", "--", "--nocapture"].map(OsString::from).to_vec();
        assert_eq!(parse("test -p buttress-core --help -- --nocapture"), Ok(Action::Test(further)));
    }

    #[test]
    fn ci_alone_takes_every_step_that_needs_no_outside_database() {
        let Ok(Action::Ci(steps)) = parse("ci") else { panic!("ci is a command") };
        assert!(!steps.contains(&Step::Advisories));
        assert_eq!(steps.len(), Step::ALL.len() - 1);
        assert_eq!(steps.first(), Some(&Step::Fmt));
    }

    #[test]
    fn named_steps_run_once_and_the_cheap_ones_first() {
        assert_eq!(parse("ci clippy fmt clippy"), Ok(Action::Ci(vec![Step::Fmt, Step::Clippy])));
        assert_eq!(parse("ci advisories"), Ok(Action::Ci(vec![Step::Advisories])));
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
        for line in ["", "tset", "setup now", "ci fmt everything"] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
