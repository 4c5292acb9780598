//! A throw-away Chromium, driven by WebDriver.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use crate::launch::{self, Launch};
use crate::ports::Port;
use crate::{background, programs, workspace};

/// How long it may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// A chromedriver of a test's own, on a port of 127.0.0.1. It starts a headless Chromium, with a new profile, for every
/// session that a WebDriver client asks for.
///
/// Dropped, it is ended, with every browser that it started, and its folder removed. It cannot outlive the process: a
/// browser ends when its pipe to chromedriver does.
///
/// ```no_run
/// # use buttress_testkit::{Chromium, Screen};
/// # async fn example() {
/// let chromium = Chromium::start().await;
/// let (url, capabilities) = (chromium.url(), chromium.capabilities(Screen::PHONE.dark()));
/// // fantoccini::ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&url).await
/// # }
/// ```
#[derive(Debug)]
pub struct Chromium {
    child: Child,
    dir: PathBuf,
    port: Port,
    browser: PathBuf,
}

/// What a page is looked at on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    width: u32,
    height: u32,
    is_phone: bool,
    is_dark: bool,
}

impl Screen {
    /// 1280 by 900 pixels.
    pub const DESKTOP: Self = Self { width: 1280, height: 900, is_phone: false, is_dark: false };
    /// 360 by 800 pixels, of double density, with touch.
    pub const PHONE: Self = Self { width: 360, height: 800, is_phone: true, is_dark: false };

    /// The same where the user prefers dark pages.
    #[must_use]
    pub const fn dark(mut self) -> Self {
        self.is_dark = true;
        self
    }
}

impl Chromium {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it cannot be started: the message names the command to run where a program is missing.
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`start`](Self::start).
    ///
    /// # Errors
    /// `NotFound` where Chromium or chromedriver is missing; else what else is wrong, with chromedriver's log.
    pub async fn try_start() -> io::Result<Self> {
        background::run(Self::start_here()).await
    }

    async fn start_here() -> io::Result<Self> {
        let browser = programs::find("chromium", &[])?;
        let driver = programs::find("chromedriver", &[])?;
        let setpriv = programs::find("setpriv", &[])?;
        let program = programs::find("env", &[])?;
        let port = Port::reserve()?;
        let dir = workspace::server_dir("chromium-")?;
        let mut args: Vec<OsString> = vec![home(&dir)];
        // Profiles, caches and sockets, which would else be the user's own.
        for name in ["TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            args.push(assignment(name, &dir));
        }
        args.push(driver.into());
        args.push(format!("--port={}", port.number()).into());
        let launch = Launch { setpriv, program, args, dir, account: None, last_signal: Signal::SIGTERM };
        let addr = port.addr();
        let child = launch.start(|| async { TcpStream::connect(addr).await.is_ok() }).await?;
        Ok(Self { child, dir: launch.dir, port, browser })
    }

    /// Where a WebDriver client connects to.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.addr())
    }

    /// What the client has to ask for.
    pub fn capabilities(&self, screen: Screen) -> Map<String, Value> {
        let mut args = vec![
            "--headless=new".to_owned(),
            // Thus it ends when chromedriver does, however that went.
            "--remote-debugging-pipe".to_owned(),
            "--disable-gpu".to_owned(),
            // Shared memory is small in many containers.
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={},{}", screen.width, screen.height),
            // In Blink's words: 0 is dark, 1 is light.
            format!("--blink-settings=preferredColorScheme={}", u8::from(!screen.is_dark)),
        ];
        // Chromium refuses to make a sandbox as root.
        if geteuid().is_root() {
            args.push("--no-sandbox".to_owned());
        }
        let mut options = json!({ "binary": self.browser, "args": args });
        if screen.is_phone {
            let metrics =
                json!({ "width": screen.width, "height": screen.height, "pixelRatio": 2.0, "touch": true });
            options["mobileEmulation"] = json!({ "deviceMetrics": metrics });
        }
        let mut capabilities = Map::new();
        capabilities.insert("browserName".into(), "chrome".into());
        capabilities.insert("goog:chromeOptions".into(), options);
        capabilities
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = launch::end(&mut self.child, Signal::SIGTERM);
        end_all(&self.dir);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Ends what was started with this home, and waits for the end. It is nobody's child any more.
fn end_all(dir: &Path) {
    let deadline = tokio::time::Instant::now() + GRACE;
    while tokio::time::Instant::now() < deadline {
        let left = started_with(dir);
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::yield_now();
    }
}

fn started_with(dir: &Path) -> Vec<Pid> {
    use std::os::unix::ffi::OsStrExt;

    let home = home(dir);
    let is_ours = |environment: &[u8]| environment.split(|byte| *byte == 0).any(|one| one == home.as_bytes());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| fs::read(process.path().join("environ")).is_ok_and(|all| is_ours(&all)))
        .filter_map(|process| process.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .collect()
}

fn home(dir: &Path) -> OsString {
    assignment("HOME", dir)
}

fn assignment(name: &str, dir: &Path) -> OsString {
    let mut assignment = OsString::from(name);
    assignment.push("=");
    assignment.push(dir);
    assignment
}
