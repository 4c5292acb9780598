//! Starting other programs.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

/// Why a command ended early: a sentence for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    sentence: String,
    is_misuse: bool,
}

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_misuse: false }
    }

    /// Nothing was tried: what was asked for cannot be done.
    pub(crate) fn misuse(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_misuse: true }
    }

    pub(crate) fn is_misuse(&self) -> bool {
        self.is_misuse
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lies two folders below the root")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    target_of(std::env::var_os("CARGO_TARGET_DIR"))
}

/// Our cargo runs in the root, so that is where a relative one begins.
fn target_of(variable: Option<OsString>) -> PathBuf {
    root().join(variable.unwrap_or_else(|| "target".into()))
}

/// A cargo of the toolchain that runs this program, in the workspace's root.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(root());
    // `cargo run` described this package to us. Build scripts that watch these variables would
    // otherwise run anew whenever somebody changes between `cargo test` and `cargo xtask test`.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_this_package) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn describes_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// Runs it on our terminal, and fails unless it ends well.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    ended(command, |_| false)
}

/// The same of a program of ours, whose exit code 2 says that its command line is wrong, as our own does.
pub(crate) fn run_told(command: &mut Command) -> Result<(), Failure> {
    ended(command, |status| status.code() == Some(2))
}

fn ended(command: &mut Command, is_misuse: fn(ExitStatus) -> bool) -> Result<(), Failure> {
    let shown = describe(command);
    eprintln!("$ {shown}");
    let status =
        command.status().map_err(|error| Failure::new(format!("`{shown}` did not start: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure { sentence: format!("`{shown}` failed ({status})"), is_misuse: is_misuse(status) })
}

/// Runs it and returns what it wrote to its standard output; the rest goes to our terminal.
pub(crate) fn read(command: &mut Command) -> Result<String, Failure> {
    let shown = describe(command);
    let Output { status, stdout, .. } = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("`{shown}` did not start: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!("`{shown}` failed ({status})")));
    }
    String::from_utf8(stdout).map_err(|_| Failure::new(format!("`{shown}` wrote something else than UTF-8")))
}

/// The command as one would type it.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={} ", name.display(), quoted(value?))))
        .collect::<String>();
    let mut shown = environment;
    shown.push_str(&program.file_name().unwrap_or(program.as_os_str()).to_string_lossy());
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&quoted(arg));
    }
    shown
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains(char::is_whitespace) {
        format!("'{word}'")
    } else {
        word.into_owned()
    }
}

/// The variable's value with `more` behind it: what the caller's environment asks for stays in force.
pub(crate) fn extended(variable: &str, more: &str) -> String {
    match std::env::var(variable) {
        Ok(present) if !present.trim().is_empty() => format!("{present} {more}"),
        _ => more.to_owned(),
    }
}

/// The first executable file of this name in the directories of `path`.
pub(crate) fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(program)).find(|file| is_executable(file))
}

/// The first executable file of this name on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, program)
}

pub(crate) fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--", "two words"]).env("RUSTFLAGS", "--cfg x").env_remove("CARGO_PKG_NAME");
        assert_eq!(describe(&command), "RUSTFLAGS='--cfg x' cargo test -- 'two words'");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root has a manifest");
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_relative_target_folder_begins_where_our_cargo_runs() {
        assert_eq!(target_of(None), root().join("target"));
        assert_eq!(target_of(Some("out".into())), root().join("out"));
        assert_eq!(target_of(Some("/elsewhere".into())), Path::new("/elsewhere"));
    }

    #[test]
    fn a_command_that_finds_its_arguments_wrong_is_a_misuse() {
        let ends_with = |code: &str| run_told(Command::new("sh").args(["-c", code])).expect_err("no 0");
        assert!(ends_with("exit 2").is_misuse());
        assert!(!ends_with("exit 1").is_misuse() && !ends_with("kill $$").is_misuse());
        assert!(run_told(&mut Command::new("true")).is_ok());
    }

    #[test]
    fn an_exit_code_is_a_failure() {
        assert!(run(&mut Command::new("true")).is_ok());
        let failure = run(&mut Command::new("false")).expect_err("false ends with 1");
        assert_eq!(failure.to_string(), "`false` failed (exit status: 1)");
        assert!(read(&mut Command::new("false")).is_err());
        assert_eq!(read(Command::new("echo").arg("text")).ok().as_deref(), Some("text\n"));
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        let failure = run(&mut Command::new("/nowhere/program")).expect_err("there is no such file");
        assert!(failure.to_string().starts_with("`program` did not start"), "{failure}");
    }

    #[test]
    fn only_executables_in_the_path_are_found() {
        assert!(find_in(OsStr::new("/nowhere:/usr/bin:/bin"), "sh").is_some());
        assert_eq!(find_in(OsStr::new("/nowhere"), "sh"), None);
        assert_eq!(find_in(OsStr::new("/etc"), "passwd"), None, "it is no program");
    }
}
