//! Who stops a soak has nothing of it left.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

/// Stands for a worker. It is never what a gateway says once it is ready.
const PROGRAM: &str =
    "#!/bin/sh\necho $$ >> \"$(dirname \"$0\")/pids\"\necho 'it works, and waits'\nexec sleep 600\n";

/// Longer than servers take to start.
const LIMIT: Duration = Duration::from_secs(60);

fn pids(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("pids")).unwrap_or_default();
    text.lines().map(|pid| pid.parse().unwrap()).collect()
}

/// One that has ended, and that nobody has asked for its exit code, has no command any more.
fn runs(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty())
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let late = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < late, "not in {LIMIT:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn stopped_by(signal: Signal) {
    let folder = tempfile::tempdir().unwrap();
    // The servers may be another user's.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("program");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut soak = Command::new(env!("CARGO_BIN_EXE_buttress-soak"))
        .args(["--minutes", "1", "--gateway"])
        .arg(&program)
        .arg("--worker")
        .arg(&program)
        .env("TMPDIR", folder.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("three workers and a gateway", || pids(folder.path()).len() == 4).await;
    kill(Pid::from_raw(soak.id().try_into().unwrap()), signal).unwrap();
    let mut status = None;
    until("its end", || {
        status = soak.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{signal}");
    until("the end of its programs", || !pids(folder.path()).into_iter().any(runs)).await;
    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("buttress-soak-")).collect();
    assert!(left.is_empty(), "{signal}: {left:?}");
}

#[tokio::test]
async fn a_soak_that_is_stopped_leaves_neither_programs_nor_a_folder() {
    tokio::join!(stopped_by(Signal::SIGINT), stopped_by(Signal::SIGTERM));
}
