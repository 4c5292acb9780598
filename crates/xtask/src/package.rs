//! Whether every published crate can be packaged, and what its package holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Failure, cargo, read, root, run};

/// What each package must hold. The licences lie in the root; links bring them into the crates' folders.
const FILES: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];

/// What a registry shows of a crate, and its rustdoc builder reads.
const KEYS: [&str; 6] = ["description", "license", "categories", "keywords", "readme", "rust-version"];

/// A larger file is a recording or a dump that nobody meant to publish.
const LARGEST: u64 = 256 * 1024;

/// A crate that is for others.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) name: String,
    folder: PathBuf,
    manifest: String,
}

impl Published {
    /// Whether others compile against it. A macro has no API that could be compared.
    pub(crate) fn is_library(&self) -> bool {
        !self.manifest.contains("proc-macro = true")
    }
}

/// The crates without `publish = false`, by their folders.
pub(crate) fn published() -> Result<Vec<Published>, Failure> {
    let mut all = Vec::new();
    for folder in folders(&root().join("crates"))? {
        let path = folder.join("Cargo.toml");
        let manifest = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        if is_private(&manifest) {
            continue;
        }
        let name = name(&manifest)
            .ok_or_else(|| Failure::new(format!("{} names no package", path.display())))?
            .to_owned();
        all.push(Published { name, folder, manifest });
    }
    Ok(all)
}

fn folders(crates: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(crates).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(|error| unreadable(crates, &error))?;
    let mut folders: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    folders.sort();
    Ok(folders)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be read: {error}", path.display()))
}

/// Packages all of them, without building them.
pub(crate) fn package() -> Result<(), Failure> {
    let all = published()?;
    for krate in &all {
        check(krate)?;
    }
    run(packaging(&all).arg("--no-verify"))
}

/// Packages all of them, and builds each from its package, against the packages of the others in their order.
pub(crate) fn verify() -> Result<(), Failure> {
    // The packages do not have the workspace's profiles, so nothing that is built already fits.
    run(packaging(&published()?).env("CARGO_PROFILE_DEV_DEBUG", "0"))
}

fn packaging(all: &[Published]) -> Command {
    let mut package = cargo(["package", "--allow-dirty"]);
    for krate in all {
        package.args(["--package", &krate.name]);
    }
    package.env("CARGO_TARGET_DIR", crate::process::target().join("packages"));
    package
}

fn check(krate: &Published) -> Result<(), Failure> {
    let Published { name, folder, manifest } = krate;
    let missing = missing_keys(manifest);
    if !missing.is_empty() {
        return Err(Failure::new(format!("the manifest of {name} has no {}", missing.join(", "))));
    }
    let listed = read(&mut cargo(["package", "--allow-dirty", "--list", "--package", name]))?;
    let missing = missing_files(&listed);
    if !missing.is_empty() {
        return Err(Failure::new(format!("the package of {name} has no {}", missing.join(", "))));
    }
    // What is not in the folder is made by cargo.
    let size = |file: &str| fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.len());
    match listed.lines().find(|file| size(file) > LARGEST) {
        None => Ok(()),
        Some(large) => Err(Failure::new(format!(
            "the package of {name} has {large}, which is larger than {} KiB",
            LARGEST / 1024
        ))),
    }
}

fn missing_files(listed: &str) -> Vec<&'static str> {
    FILES.into_iter().filter(|file| !listed.lines().any(|line| line == *file)).collect()
}

fn missing_keys(manifest: &str) -> Vec<&'static str> {
    let has = |key: &str| {
        let own = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.']));
        manifest.lines().any(own)
    };
    KEYS.into_iter().filter(|key| !has(key)).collect()
}

fn is_private(manifest: &str) -> bool {
    manifest.lines().any(|line| line == "publish = false")
}

fn name(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_others_is_found() {
        let all = published().unwrap_or_else(|failure| panic!("{failure}"));
        let has = |name: &str| all.iter().any(|krate| krate.name == name);
        assert!(has("buttress") && has("buttress-core") && has("buttress-postgres-derive"), "{all:?}");
        assert!(!has("xtask") && !has("buttress-testkit"), "{all:?}");
        let macros: Vec<_> =
            all.iter().filter(|krate| !krate.is_library()).map(|krate| &*krate.name).collect();
        assert_eq!(macros, ["buttress-postgres-derive"]);
    }

    #[test]
    fn a_manifest_is_read() {
        let manifest =
            "[package]\nname = \"a\"\ndescription = \"b\"\nlicense.workspace = true\npublish = false\n";
        assert_eq!(name(manifest), Some("a"));
        assert!(is_private(manifest) && !is_private("[package]\nname = \"a\"\n"));
        assert_eq!(missing_keys(manifest), ["categories", "keywords", "readme", "rust-version"]);
    }

    #[test]
    fn files_that_are_missing_are_named() {
        assert!(missing_files("Cargo.toml\nLICENSE-APACHE\nLICENSE-MIT\nREADME.md\nsrc/lib.rs\n").is_empty());
        assert_eq!(missing_files("LICENSE-APACHE\nREADME.md\nsrc/lib.rs\n"), ["LICENSE-MIT"]);
    }
}
