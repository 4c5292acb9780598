//! What the tests need beside Rust: real servers, and the means to start them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::postgres;
use crate::process::{Failure, find, run};

/// A part of the machine without which the tests cannot run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Redis,
    Postgres,
    PgBouncer,
    Nginx,
    Dnsmasq,
    Setpriv,
    Chromium,
    ChromiumDriver,
    Promtool,
    Valgrind,
}

impl Need {
    const ALL: [Self; 10] = [
        Self::Redis,
        Self::Postgres,
        Self::PgBouncer,
        Self::Nginx,
        Self::Dnsmasq,
        Self::Setpriv,
        Self::Chromium,
        Self::ChromiumDriver,
        Self::Promtool,
        Self::Valgrind,
    ];

    /// Debian's package that brings it.
    fn package(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Postgres => "postgresql",
            Self::PgBouncer => "pgbouncer",
            Self::Nginx => "nginx-light",
            // Not `dnsmasq`, which would start a server on the machine.
            Self::Dnsmasq => "dnsmasq-base",
            Self::Setpriv => "util-linux",
            Self::Chromium => "chromium",
            Self::ChromiumDriver => "chromium-driver",
            // There is no package of promtool alone. Where systemd runs, this one starts a server on port 9090.
            Self::Promtool => "prometheus",
            Self::Valgrind => "valgrind",
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Redis => find("redis-server").is_some(),
            Self::Postgres => postgres::is_installed(),
            // Debian puts these two where only root looks.
            Self::PgBouncer => find("pgbouncer").is_some() || Path::new("/usr/sbin/pgbouncer").is_file(),
            Self::Nginx => find("nginx").is_some() || Path::new("/usr/sbin/nginx").is_file(),
            Self::Dnsmasq => find("dnsmasq").is_some() || Path::new("/usr/sbin/dnsmasq").is_file(),
            Self::Setpriv => find("setpriv").is_some(),
            Self::Chromium => find("chromium").is_some(),
            Self::ChromiumDriver => find("chromedriver").is_some(),
            Self::Promtool => find("promtool").is_some(),
            Self::Valgrind => find("valgrind").is_some(),
        }
    }
}

/// Installs what is missing; at once when nothing is.
///
/// # Errors
/// When something is missing that this program may not or cannot install: the message names it.
pub(crate) fn setup() -> Result<(), Failure> {
    let root = is_root()?;
    if root {
        let passwd = fs::read_to_string("/etc/passwd")
            .map_err(|error| Failure::new(format!("the users are unknown: /etc/passwd: {error}")))?;
        require_server_user(&passwd)?;
    }
    let missing = missing();
    if missing.is_empty() {
        eprintln!("setup: nothing is missing");
        return Ok(());
    }
    eprintln!("setup: missing {}", packages(&missing));
    install(&missing, root)?;
    let left = self::missing();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{} is installed, yet its programs are not found", packages(&left))))
}

fn missing() -> Vec<Need> {
    Need::ALL.into_iter().filter(|need| !need.is_met()).collect()
}

fn packages(needs: &[Need]) -> String {
    needs.iter().map(|need| need.package()).collect::<Vec<_>>().join(" ")
}

fn install(missing: &[Need], root: bool) -> Result<(), Failure> {
    if find("apt-get").is_none() {
        return Err(by_hand(missing, "this machine has no apt-get"));
    }
    if !root && !has_free_sudo() {
        return Err(by_hand(missing, "it takes root, or a sudo that asks for no password"));
    }
    let refused = |failure| by_hand(missing, &format!("{failure}"));
    run(apt_get(root).arg("update")).map_err(refused)?;
    let install = ["install", "--yes", "--no-install-recommends"];
    run(apt_get(root).args(install).args(missing.iter().map(|need| need.package()))).map_err(refused)
}

fn by_hand(missing: &[Need], why: &str) -> Failure {
    let packages = packages(missing);
    Failure::new(format!(
        "the tests need Debian's {packages}, or the same from elsewhere on PATH, \
         and {why}. Run: sudo apt-get install {packages}"
    ))
}

/// An apt-get that asks nobody anything, and waits for another one that is at work.
fn apt_get(root: bool) -> Command {
    let mut command = if root { Command::new("env") } else { Command::new("sudo") };
    if !root {
        command.args(["--non-interactive", "env"]);
    }
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"])
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"])
        .stdin(Stdio::null());
    command
}

fn has_free_sudo() -> bool {
    find("sudo").is_some()
        && Command::new("sudo")
            .args(["--non-interactive", "true"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Whether this process may act for everybody: the owner of a process' folder is its effective user.
fn is_root() -> Result<bool, Failure> {
    let folder = fs::metadata("/proc/self")
        .map_err(|error| Failure::new(format!("the tests need Linux: /proc/self: {error}")))?;
    Ok(folder.uid() == 0)
}

/// Postgres refuses to run as root, so the tests start it as another user.
fn require_server_user(passwd: &str) -> Result<(), Failure> {
    let names = passwd.lines().filter_map(|line| line.split(':').next());
    if names.into_iter().any(|name| name == "postgres" || name == "nobody") {
        return Ok(());
    }
    Err(Failure::new(
        "Postgres does not run as root, and there is no user postgres or nobody. Run: useradd postgres",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_needs_somebody_to_run_postgres() {
        assert!(
            require_server_user("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n").is_ok()
        );
        assert!(require_server_user("root:x:0:0::/root:/bin/sh\npostgres:x:101:104::/:/bin/sh\n").is_ok());
        assert!(require_server_user("root:x:0:0:nobody:/root:/bin/sh\n").is_err());
        assert!(require_server_user("").is_err());
    }

    #[test]
    fn the_advice_can_be_pasted() {
        let advice = by_hand(&[Need::Redis, Need::Postgres], "why").to_string();
        assert!(advice.ends_with("Run: sudo apt-get install redis-server postgresql"), "{advice}");
    }
}
