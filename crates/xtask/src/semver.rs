//! `cargo xtask semver`: whether the crates' APIs fit their version numbers, beside the last release or any other revision.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use crate::package::published;
use crate::process::{Failure, cargo, read, root, run};
use crate::tools;

/// What is compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Semver {
    /// The last release where it is `None`.
    pub(crate) baseline: Option<OsString>,
    /// All published libraries where there are none.
    pub(crate) packages: Vec<OsString>,
}

pub(crate) fn semver(asked: &Semver) -> Result<(), Failure> {
    let baseline = match &asked.baseline {
        Some(revision) => commit(revision)?,
        None => last_release()?,
    };
    let packages = if asked.packages.is_empty() {
        published()?.into_iter().filter(|krate| krate.is_library()).map(|krate| krate.name.into()).collect()
    } else {
        asked.packages.clone()
    };
    tools::SEMVER_CHECKS.ensure()?;
    let mut checks = cargo(["semver-checks", "--baseline-rev", &baseline]);
    for package in packages {
        checks.arg("--package").arg(package);
    }
    run(&mut checks)
}

fn commit(revision: &OsStr) -> Result<String, Failure> {
    let mut spec = revision.to_owned();
    spec.push("^{commit}");
    let mut ask = git(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
    let found = read(ask.arg(spec).stderr(Stdio::null()));
    let found = found.map_err(|_| Failure::misuse(format!("git knows no commit {}", revision.display())))?;
    Ok(found.trim().to_owned())
}

/// The highest version among the tags before `HEAD`. One at `HEAD` is this very code, which always fits itself.
fn last_release() -> Result<String, Failure> {
    let before = ["tag", "--merged", "HEAD", "--no-contains", "HEAD"];
    let tags = read(git(before).args(["--sort=-version:refname", "--list", "v[0-9]*"]))?;
    newest(&tags).map(str::to_owned).ok_or_else(|| {
        Failure::misuse(
            "no release is tagged before HEAD (such as v0.1.0), so there is nothing to compare with. \
             To compare with any other revision: cargo xtask semver --baseline REVISION",
        )
    })
}

/// The first that is no pre-release.
fn newest(tags: &str) -> Option<&str> {
    tags.lines().find(|tag| !tag.is_empty() && !tag.contains('-'))
}

fn git<const N: usize>(args: [&str; N]) -> Command {
    let mut git = Command::new("git");
    git.args(args).current_dir(root());
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_no_pre_release() {
        assert_eq!(newest("v0.3.0-rc.1\nv0.2.10\nv0.2.9\n"), Some("v0.2.10"));
        assert_eq!(newest(""), None);
        assert_eq!(newest("v1.0.0-alpha\n"), None);
    }

    #[test]
    fn a_revision_that_is_none_is_a_misuse() {
        let failure = commit(OsStr::new("no-such-revision")).expect_err("there is none");
        assert_eq!(failure.to_string(), "git knows no commit no-such-revision");
        assert!(failure.is_misuse());
        let head = commit(OsStr::new("HEAD")).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(head.len() >= 40 && head.bytes().all(|byte| byte.is_ascii_hexdigit()), "{head}");
    }
}
