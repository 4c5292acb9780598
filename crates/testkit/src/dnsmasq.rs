//! A throw-away DNS server.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::Signal;

use crate::launch::{self, Account, Launch};
use crate::ports::Port;
use crate::{background, programs, workspace};

/// A dnsmasq of a test's own, on a port (UDP and TCP) of 127.0.0.1: it knows the names that it was told, all below `test`,
/// and that there are no others there. Every answer has the same TTL.
///
/// Dropped, it is killed and its folder removed; it cannot outlive the process.
#[derive(Debug)]
pub struct DnsServer {
    process: Arc<Process>,
}

impl DnsServer {
    /// Starts one whose answers may be kept for so many seconds, and waits until it is up. It knows no name yet.
    ///
    /// # Panics
    /// When it cannot be started: the message tells why, and names the command to run where `dnsmasq` is missing.
    pub async fn start(ttl: u32) -> Self {
        let started = background::run(async move {
            let process = Process::new(ttl)?;
            process.run().await?;
            Ok::<_, io::Error>(Self { process: Arc::new(process) })
        });
        started.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where it answers.
    pub fn addr(&self) -> SocketAddr {
        self.process.port.addr()
    }

    /// Gives a name these addresses and no others; without any, the name is gone. It is so when this returns, or when
    /// the server is started again.
    ///
    /// # Panics
    /// When the file of names cannot be written, or the server does not read it.
    pub async fn set(&self, name: &str, addresses: &[IpAddr]) {
        let (process, name, addresses) = (Arc::clone(&self.process), name.to_owned(), addresses.to_vec());
        let set = background::run(async move { process.set(name, addresses).await });
        set.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Kills it: nothing answers any more. Does nothing when it is dead already.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub async fn kill(&self) {
        let process = Arc::clone(&self.process);
        background::run(async move { process.end() }).await.expect("a signal to one's own child");
    }

    /// Starts it again, on the same port and with the names that were set; kills it first when it still runs.
    ///
    /// # Panics
    /// When it does not come up again.
    pub async fn restart(&self) {
        let process = Arc::clone(&self.process);
        let restarted = background::run(async move {
            process.end()?;
            process.run().await
        });
        restarted.await.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[derive(Debug)]
struct Process {
    launch: Launch,
    port: Port,
    hosts: PathBuf,
    names: Mutex<Vec<(String, Vec<IpAddr>)>>,
    child: Mutex<Option<Child>>,
}

impl Process {
    fn new(ttl: u32) -> io::Result<Self> {
        // Not on everybody's `PATH`.
        let program = programs::find("dnsmasq", &[PathBuf::from("/usr/sbin")])?;
        let setpriv = programs::find("setpriv", &[])?;
        // As root it would look for a user of its own to become.
        let account = Account::other_than_root()?;
        let port = Port::reserve()?;
        let dir = workspace::server_dir("dnsmasq-")?;
        let hosts = dir.join("hosts");
        let args = [
            "--conf-file=/dev/null".into(),
            "--keep-in-foreground".into(),
            "--pid-file=".into(),
            "--log-facility=-".into(),
            "--no-resolv".into(),
            "--no-hosts".into(),
            "--local=/test/".into(),
            "--listen-address=127.0.0.1".into(),
            "--bind-interfaces".into(),
            format!("--port={}", port.number()),
            format!("--local-ttl={ttl}"),
            format!("--addn-hosts={}", hosts.display()),
        ];
        let args = args.into_iter().map(Into::into).collect();
        // It has no children and keeps nothing.
        let launch = Launch { setpriv, program, args, dir, account, last_signal: Signal::SIGKILL };
        let process = Self { launch, port, hosts, names: Mutex::default(), child: Mutex::new(None) };
        process.write()?;
        Ok(process)
    }

    async fn run(&self) -> io::Result<()> {
        let before = self.times_read();
        let child = self.launch.start(|| async { self.times_read() > before }).await?;
        *self.child() = Some(child);
        Ok(())
    }

    async fn set(&self, name: String, addresses: Vec<IpAddr>) -> io::Result<()> {
        {
            let mut names = self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            names.retain(|(known, _)| *known != name);
            names.push((name, addresses));
        }
        let before = self.times_read();
        self.write()?;
        match &*self.child() {
            Some(child) => launch::send(child, Signal::SIGHUP)?,
            None => return Ok(()),
        }
        launch::wait_until("dnsmasq did not read its names again", || self.times_read() > before).await
    }

    /// Under another name first: the server must never read half a file.
    fn write(&self) -> io::Result<()> {
        let mut lines = String::new();
        for (name, addresses) in &*self.names.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            for address in addresses {
                let _ = writeln!(lines, "{address} {name}");
            }
        }
        let new = self.hosts.with_extension("new");
        fs::write(&new, lines)?;
        // Whatever the umask: it runs as somebody else.
        fs::set_permissions(&new, Permissions::from_mode(0o644))?;
        fs::rename(new, &self.hosts)
    }

    /// It says so in its log each time that it has read the file. It does one thing at a time: whoever asks afterwards
    /// gets the new names.
    fn times_read(&self) -> usize {
        let read = format!("read {} - ", self.hosts.display());
        fs::read_to_string(self.launch.log()).map_or(0, |log| log.matches(&read).count())
    }

    fn end(&self) -> io::Result<()> {
        match self.child().take() {
            Some(mut child) => launch::end(&mut child, Signal::SIGKILL).map(drop),
            None => Ok(()),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = self.end();
        let _ = fs::remove_dir_all(&self.launch.dir);
    }
}
