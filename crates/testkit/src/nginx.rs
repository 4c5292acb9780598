//! A throw-away nginx.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;

use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::launch::{self, Account, Launch};
use crate::ports::Port;
use crate::{background, programs, workspace};

/// An nginx of a test's own, with one worker, on a TCP port of 127.0.0.1.
///
/// Without a certificate it speaks HTTP/1.1; with one TLS, and HTTP/2 where the client offers it. Dropped, it is stopped
/// and its folder removed; it cannot outlive the process.
///
/// ```
/// # use buttress_testkit::Nginx;
/// # async fn example() {
/// let nginx = Nginx::start("location /hello { return 200 'hello'; }").await;
/// // ... a client asks for nginx.url() + "/hello" ...
/// # }
/// ```
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    dir: PathBuf,
    port: Port,
    tls: bool,
}

impl Nginx {
    /// Starts one whose `server` block holds these directives, such as `location / { return 204; }`. A relative path in
    /// them is below [`dir`](Self::dir). Waits until it listens.
    ///
    /// # Panics
    /// When it cannot be started: the message ends with its log, and names the command to run where `nginx` is missing.
    pub async fn start(site: &str) -> Self {
        Self::start_as(site, None).await
    }

    /// The same behind TLS, with this chain and key in PEM.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_tls(site: &str, chain: &str, key: &str) -> Self {
        Self::start_as(site, Some((chain, key))).await
    }

    async fn start_as(site: &str, certificate: Option<(&str, &str)>) -> Self {
        let site = site.to_owned();
        let certificate = certificate.map(|(chain, key)| (chain.to_owned(), key.to_owned()));
        let started = background::run(Self::start_here(site, certificate)).await;
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn start_here(site: String, certificate: Option<(String, String)>) -> io::Result<Self> {
        // Not on everybody's `PATH`.
        let program = programs::find("nginx", &[PathBuf::from("/usr/sbin")])?;
        let setpriv = programs::find("setpriv", &[])?;
        // As root it would start its worker as another user, who could not read its folder.
        let account = Account::other_than_root()?;
        let port = Port::reserve()?;
        let dir = workspace::server_dir("nginx-")?;
        let tls = certificate.is_some();
        let (chain, key) = certificate.unwrap_or_default();
        for (name, content) in
            [("chain.pem", chain), ("key.pem", key), ("nginx.conf", configuration(&site, port.addr(), tls))]
        {
            let path = dir.join(name);
            fs::write(&path, content)?;
            give(&path, account.as_ref())?;
        }
        give(&dir, account.as_ref())?;
        let prefix = dir.clone().into_os_string();
        let args = vec!["-p".into(), prefix, "-c".into(), "nginx.conf".into(), "-e".into(), "stderr".into()];
        // The master ends its worker with it.
        let launch = Launch { setpriv, program, args, dir, account, last_signal: Signal::SIGTERM };
        let addr = port.addr();
        let child = launch.start(|| async { TcpStream::connect(addr).await.is_ok() }).await?;
        Ok(Self { child, dir: launch.dir, port, tls })
    }

    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT` with a certificate; without a slash at its end.
    pub fn url(&self) -> String {
        let port = self.addr().port();
        if self.tls { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") }
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Its folder: files that are put here can be served. They must be readable for everybody.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes it start a new worker, as after a change of its configuration. The old one finishes what it is doing, tells
    /// HTTP/2 clients to go away, closes idle connections, and ends.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub fn reload(&self) {
        launch::send(&self.child, Signal::SIGHUP).expect("a signal to one's own child");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = launch::end(&mut self.child, Signal::SIGTERM);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn give(path: &Path, account: Option<&Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

fn configuration(site: &str, listen: SocketAddr, tls: bool) -> String {
    let (how, certificate) = if tls {
        (" ssl http2", "ssl_certificate chain.pem; ssl_certificate_key key.pem;")
    } else {
        ("", "")
    };
    format!(
        "daemon off;
pid nginx.pid;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type text/plain;
    server {{
        listen {listen}{how};
        root .;
        {certificate}
        {site}
    }}
}}
"
    )
}
