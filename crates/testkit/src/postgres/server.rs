//! One Postgres server, to be killed and restarted.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::{Config, NoTls};

use super::cluster::Installation;
use crate::launch::{self, Launch};
use crate::ports::Port;
use crate::{background, workspace};

/// A commit has to survive a killed server, not a machine that loses power: so it is written at once
/// (`synchronous_commit` stays on) and never forced to disk.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_wal_size=1GB",
    "max_connections=200",
];

/// A Postgres server of a test's own, on a unix socket and on a TCP port of 127.0.0.1, for tests that
/// [kill](Self::kill) it. All others share one and take a [`TestDatabase`](crate::TestDatabase) each.
///
/// The user is `postgres`, without a password. What was committed survives [`kill`](Self::kill) and
/// [`restart`](Self::restart). Dropped, the server is ended and its folder removed; it cannot outlive the
/// process. It starts in about 0.15 s (0.6 s more for the first one on a machine).
#[derive(Debug)]
pub struct PostgresServer {
    inner: Arc<Inner>,
}

/// What a server has beside what all have.
#[derive(Debug, Default)]
pub(super) struct Extras {
    settings: Vec<String>,
    files: Vec<(String, String)>,
}

#[derive(Debug)]
struct Inner {
    launch: Launch,
    port: Port,
    child: Mutex<Option<Child>>,
}

impl PostgresServer {
    /// Starts a server and waits until it answers a query.
    ///
    /// # Panics
    /// When it cannot be started; see [`try_start`](Self::try_start).
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a server and waits until it answers a query.
    ///
    /// # Errors
    /// `NotFound` when `postgres`, `initdb` or `setpriv` is missing: the message names the command to run.
    /// Otherwise the message ends with the server's log.
    pub async fn try_start() -> io::Result<Self> {
        background::run(Self::start_here(Extras::default())).await
    }

    /// Starts a server with settings (`ssl=on`) beside its own, and with files in its data folder, which it alone can
    /// read: certificates, or another `pg_hba.conf`, which must let `postgres` in by the unix socket.
    ///
    /// # Panics
    /// When it cannot be started; see [`try_start`](Self::try_start).
    pub async fn start_with(settings: &[&str], files: &[(&str, &str)]) -> Self {
        let extras = Extras {
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            files: files.iter().map(|&(name, content)| (name.to_owned(), content.to_owned())).collect(),
        };
        background::run(Self::start_here(extras)).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// [`try_start`](Self::try_start) for callers that are on the background thread already.
    pub(super) async fn start_here(extras: Extras) -> io::Result<Self> {
        let installation = Installation::find()?;
        let port = Port::reserve()?;
        let dir = workspace::server_dir("postgres-")?;
        launch::check_socket(&dir.join(format!(".s.PGSQL.{}.lock", port.number())))?;
        installation.hand_over(&dir)?;
        let data = dir.join("data");
        let launch = Launch {
            setpriv: installation.setpriv.clone(),
            program: installation.postgres.clone(),
            args: arguments(port.number(), &data, &dir, &extras.settings),
            dir,
            account: installation.account.clone(),
            // The immediate shutdown: the postmaster takes its backends with it.
            last_signal: Signal::SIGQUIT,
        };
        let server = Self { inner: Arc::new(Inner { launch, port, child: Mutex::new(None) }) };
        let create = move || {
            installation.create_cluster(&data)?;
            extras
                .files
                .iter()
                .try_for_each(|(name, content)| installation.add_file(&data.join(name), content))
        };
        tokio::task::spawn_blocking(create).await??;
        server.inner.run().await?;
        Ok(server)
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// As [`url`](Self::url), for another database of this server.
    pub(super) fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.addr())
    }

    /// How to reach the database `postgres` over the unix socket.
    pub fn config(&self) -> Config {
        self.inner.config("postgres")
    }

    /// As [`config`](Self::config), for another database of this server.
    pub(super) fn config_of(&self, database: &str) -> Config {
        self.inner.config(database)
    }

    /// The TCP address.
    pub fn addr(&self) -> SocketAddr {
        self.inner.port.addr()
    }

    /// The TCP port; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.inner.port.number()
    }

    /// The folder of the unix socket, which is what Postgres calls the host.
    pub fn unix_dir(&self) -> &Path {
        &self.inner.launch.dir
    }

    /// The process id of the postmaster, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.inner.child().as_ref().map(Child::id)
    }

    /// Pulls the plug: postmaster and backends are killed in the middle of whatever they do, without a
    /// word to their clients, and are gone when this returns. Does nothing when the server is down already.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub async fn kill(&self) {
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.pull_the_plug().await })
            .await
            .expect("a signal to one's own child");
    }

    /// Stops postmaster and backends where they stand (SIGSTOP): connections stay open and new ones are accepted by the
    /// kernel, but nothing is answered. The hang that no error reports.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn pause(&self) {
        self.inner.signal_all(Signal::SIGSTOP).expect("a signal to one's own child");
    }

    /// Lets a [paused](Self::pause) server go on; it answers what has piled up.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn resume(&self) {
        self.inner.signal_all(Signal::SIGCONT).expect("a signal to one's own child");
    }

    /// Shuts down as an administrator does (the fast shutdown): transactions are rolled back and clients
    /// are told `57P01`. Does nothing when the server is down already.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub async fn stop(&self) {
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.shut_down().await }).await.expect("a signal to one's own child");
    }

    /// Starts the server again on the same port and socket, with its data; [stops](Self::stop) it first
    /// when it still runs.
    ///
    /// # Panics
    /// When it does not come up again.
    pub async fn restart(&self) {
        let inner = Arc::clone(&self.inner);
        let restarted = background::run(async move {
            inner.shut_down().await?;
            inner.run().await
        });
        restarted.await.unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Inner {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.launch.dir).port(self.port.number()).user("postgres").dbname(database);
        config
    }

    async fn run(&self) -> io::Result<()> {
        let config = self.config("postgres");
        let child = self.launch.start(|| async { answers(&config).await.is_ok() }).await?;
        *self.child() = Some(child);
        Ok(())
    }

    /// To the postmaster first, so that it forks no backend meanwhile.
    fn signal_all(&self, signal: Signal) -> io::Result<()> {
        let child = self.child();
        let child = child.as_ref().ok_or_else(|| io::Error::other("the server does not run"))?;
        launch::send(child, signal)?;
        for backend in children(child.id()) {
            // One that has just ended is none of them any more.
            let _ = kill(backend, signal);
        }
        Ok(())
    }

    async fn shut_down(&self) -> io::Result<()> {
        // A paused one would not hear of its end. That it runs at all is seen in the next line.
        let _ = self.signal_all(Signal::SIGCONT);
        let Some(mut child) = self.child().take() else { return Ok(()) };
        launch::send(&child, Signal::SIGINT)?;
        while child.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn pull_the_plug(&self) -> io::Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        // Stopped first, so that it neither forks nor notices that its backends die.
        launch::send(&child, Signal::SIGSTOP)?;
        let backends = children(child.id());
        for backend in &backends {
            // One that ended by itself meanwhile is what we want.
            let _ = kill(*backend, Signal::SIGKILL);
        }
        launch::end(&mut child, Signal::SIGKILL)?;
        // A restart is refused for as long as any of them holds the shared memory.
        while backends.iter().any(|backend| runs(*backend)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// A killed postmaster leaves its System V segment behind, which it names in this file.
    fn forget_shared_memory(&self, data: &Path) {
        let Ok(postmaster) = fs::read_to_string(data.join("postmaster.pid")) else { return };
        let Some(id) = postmaster.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else {
            return;
        };
        let _ = Command::new("ipcrm").arg("-m").arg(id).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = self.signal_all(Signal::SIGCONT);
        if let Some(mut child) = self.child().take() {
            let _ = launch::end(&mut child, Signal::SIGQUIT);
        }
        self.forget_shared_memory(&self.launch.dir.join("data"));
        let _ = fs::remove_dir_all(&self.launch.dir);
    }
}

fn arguments(port: u16, data: &Path, socket_dir: &Path, extra: &[String]) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["-D".into(), data.into(), "-k".into(), socket_dir.into()];
    args.extend(["-p".into(), port.to_string().into()]);
    for setting in SETTINGS.into_iter().chain(extra.iter().map(String::as_str)) {
        args.extend(["-c".into(), setting.into()]);
    }
    args
}

pub(crate) async fn answers(config: &Config) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await.map(drop)
}

fn children(of: u32) -> Vec<Pid> {
    let list = PathBuf::from(format!("/proc/{of}/task/{of}/children"));
    let list = fs::read_to_string(list).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Whether the process still holds anything; one that nobody has waited for yet does not.
fn runs(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The program's name stands in parentheses and may hold anything.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}
