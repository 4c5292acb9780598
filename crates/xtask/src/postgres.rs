//! Where Postgres' programs are, sought as the test kit seeks them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::process::{find_in, is_executable};

/// Where Debian and its children keep one folder per major version, outside `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";

/// What a throw-away server takes: a machine with the client alone has neither.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// Whether a server can be made: by the programs on `PATH`, or by those that Debian installed.
pub(crate) fn is_installed() -> bool {
    is_found(&std::env::var_os("PATH").unwrap_or_default(), Path::new(VERSIONS))
}

fn is_found(path: &OsStr, versions: &Path) -> bool {
    PROGRAMS.iter().all(|program| find_in(path, program).is_some()) || holds_server(versions)
}

/// Whether a version is there in whole.
fn holds_server(versions: &Path) -> bool {
    let Ok(folders) = fs::read_dir(versions) else { return false };
    folders.flatten().filter(|folder| is_version(&folder.file_name())).any(|folder| {
        let bin = folder.path().join("bin");
        PROGRAMS.iter().all(|program| is_executable(&bin.join(program)))
    })
}

fn is_version(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A directory that is gone when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary directory can be made");
            Self(path)
        }

        fn install(&self, bin: &str, programs: &[&str]) -> PathBuf {
            let bin = self.0.join(bin);
            fs::create_dir_all(&bin).expect("a directory can be made");
            for program in programs {
                let file = bin.join(program);
                fs::write(&file, "").expect("a file can be written");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is our file");
            }
            bin
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("the scratch directory is ours");
        }
    }

    #[test]
    fn a_server_on_the_path_is_enough() {
        let scratch = Scratch::new("path");
        let path = scratch.install("anywhere", &PROGRAMS);
        assert!(is_found(path.as_os_str(), Path::new("/nowhere")));
    }

    #[test]
    fn a_server_of_any_version_is_enough() {
        let scratch = Scratch::new("versions");
        assert!(!is_found(OsStr::new("/nowhere"), &scratch.0));
        scratch.install("15/bin", &PROGRAMS);
        scratch.install("17/bin", &["psql"]);
        assert!(is_found(OsStr::new("/nowhere"), &scratch.0));
    }

    #[test]
    fn a_lone_client_is_no_server() {
        let scratch = Scratch::new("client");
        let path = scratch.install("path", &["psql", "postgres"]);
        scratch.install("17/bin", &["psql"]);
        scratch.install("common/bin", &PROGRAMS);
        assert!(!is_found(path.as_os_str(), &scratch.0));
    }
}
