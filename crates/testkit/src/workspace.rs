//! The folders on disk: one base for each user, and in it one folder for each process.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// Removes the folder once the process is gone, however it went: standard input then reports its end.
/// A server may still write while it shuts down, hence the repetition.
const JANITOR: &str = r#"cat >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$0" && exit; sleep 0.2; done"#;

/// The folder that all processes of this user share: port reservations and the cluster template.
///
/// # Errors
/// When it cannot be made, or when it belongs to somebody else.
pub(crate) fn base() -> io::Result<PathBuf> {
    let me = nix::unistd::geteuid().as_raw();
    let base = std::env::temp_dir().join(format!("buttress-testkit-{me}"));
    fs::create_dir_all(&base)?;
    let owner = fs::metadata(&base)?.uid();
    if owner != me {
        return Err(io::Error::other(format!("{} belongs to user {owner}", base.display())));
    }
    // The user that Postgres runs as must get through, whatever the umask.
    fs::set_permissions(&base, Permissions::from_mode(0o755))?;
    Ok(base)
}

/// A new folder for one server, inside the folder of this process.
pub(crate) fn server_dir(kind: &str) -> io::Result<PathBuf> {
    let dir = tempfile::Builder::new()
        .prefix(kind)
        .rand_bytes(4)
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(process_dir()?)?;
    Ok(dir.keep())
}

/// The folder of this process, with its janitor.
fn process_dir() -> io::Result<PathBuf> {
    static DIR: Mutex<Option<(PathBuf, ChildStdin)>> = Mutex::new(None);
    let mut slot = DIR.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((dir, _)) = &*slot {
        return Ok(dir.clone());
    }
    let base = base()?;
    remove_stale(&base)?;
    let dir = tempfile::Builder::new()
        .prefix(&format!("run-{}-", std::process::id()))
        .rand_bytes(4)
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&base)?
        .keep();
    let mut janitor = Command::new("sh")
        .arg("-c")
        .arg(JANITOR)
        .arg(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C goes to the terminal's whole process group, and the janitor has to outlive it.
        .process_group(0)
        .spawn()?;
    let stdin = janitor.stdin.take().ok_or_else(|| io::Error::other("the janitor has no stdin"))?;
    *slot = Some((dir.clone(), stdin));
    Ok(dir)
}

/// Removes what processes left whose janitor was killed too: a container or machine that went down.
fn remove_stale(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix("run-")).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may be removing it at this moment.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
