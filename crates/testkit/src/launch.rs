//! Starts a server program so that it cannot outlive this process.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// The signal is armed after the process exists. If the owner died in between, the server is an orphan
/// already and must not start; `exec` keeps the signal armed.
const UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// The user that a server runs as.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// For programs that refuse to run as root: `postgres` or `nobody`. `None` for everybody but root.
    pub(crate) fn other_than_root() -> io::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        Err(io::Error::other("there is neither a user postgres nor a user nobody to run Postgres as"))
    }
}

/// How to start one server.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Of util-linux: it arms the parent-death signal, which this process cannot do without unsafe code.
    pub(crate) setpriv: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Working folder; the log is kept here too.
    pub(crate) dir: PathBuf,
    pub(crate) account: Option<Account>,
    /// What the kernel sends to the server when this process dies.
    pub(crate) last_signal: Signal,
}

impl Launch {
    /// Starts the server and waits until `ready` says so. Runs on the background thread alone, because the
    /// parent-death signal is tied to the thread that spawns.
    pub(crate) async fn start<F>(&self, ready: impl Fn() -> F) -> io::Result<Child>
    where
        F: Future<Output = bool>,
    {
        let mut child = self.spawn()?;
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            if let Ok(true) = tokio::time::timeout_at(deadline, ready()).await {
                return Ok(child);
            }
            if tokio::time::Instant::now() >= deadline {
                end(&mut child, Signal::SIGKILL)?;
                return Err(self.failure(&format!("did not answer within {START_LIMIT:?}")));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.setpriv);
        command.arg("--pdeathsig").arg(self.last_signal.as_str().trim_start_matches("SIG"));
        if let Some(account) = &self.account {
            command.arg(format!("--reuid={}", account.uid));
            command.arg(format!("--regid={}", account.gid));
            command.arg("--init-groups");
        }
        command.args(["sh", "-c", UNLESS_ORPHANED]).arg(std::process::id().to_string());
        command.arg(&self.program).args(&self.args).current_dir(&self.dir);
        plain_environment(&mut command);
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Away from the terminal's group: Ctrl-C ends the test, and that ends the server.
        command.process_group(0).spawn()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        io::Error::other(format!("{} {what}; its log:\n{}", self.program.display(), log.trim_end()))
    }
}

/// Runs a helper program to its end, as `account`.
pub(crate) fn run(
    program: &Path,
    args: &[OsString],
    account: Option<&Account>,
    dir: &Path,
) -> io::Result<()> {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    plain_environment(&mut command);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{} ended with {}: {}",
        program.display(),
        output.status,
        errors.trim_end()
    )))
}

/// Looks every few milliseconds, until it is so.
pub(crate) async fn wait_until(otherwise: &str, mut so: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    while !so() {
        if tokio::time::Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, otherwise));
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    Ok(())
}

/// Sends `signal` and waits for the end.
pub(crate) fn end(child: &mut Child, signal: Signal) -> io::Result<ExitStatus> {
    send(child, signal)?;
    child.wait()
}

/// Sends `signal`; one that has ended already, and is not waited for yet, takes it too.
pub(crate) fn send(child: &Child, signal: Signal) -> io::Result<()> {
    Ok(kill(pid(child), signal)?)
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Settings of the developer's shell (`PGPORT`, `LC_ALL`) must not change what a test sees.
fn plain_environment(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC");
}

/// Makes sure that a socket of this name fits into the kernel's address structure.
pub(crate) fn check_socket(path: &Path) -> io::Result<()> {
    const LONGEST: usize = 107;
    if path.as_os_str().len() > LONGEST {
        let message =
            format!("{} is too long for a unix socket: set TMPDIR to a shorter path", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
