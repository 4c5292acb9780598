use std::{collections::BTreeMap, path::Path, process::Command, thread, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{hand_over, package, read};

/// Where and with what it was measured. Nothing that tells whose machine it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) date: String,
    pub(super) quick: bool,
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_gib: u64,
    /// From one processor to another.
    pub(super) hand_over_nanos: f64,
    pub(super) kernel: String,
    pub(super) rustc: String,
    pub(super) postgres: String,
    pub(super) redis: String,
    pub(super) nginx: String,
    /// Packages with their versions.
    pub(super) peers: BTreeMap<String, String>,
}

/// The peers, and what they and we stand upon.
const PEERS: [&str; 23] = [
    "deadpool-postgres",
    "failsafe",
    "fred",
    "governor",
    "hyper-util",
    "moka",
    "opentelemetry_sdk",
    "quick_cache",
    "recloser",
    "reqwest",
    "reqwest-middleware",
    "reqwest-retry",
    "tokio",
    "tower",
    "tower-batch",
    "tower-resilience-adaptive",
    "tower-resilience-bulkhead",
    "tower-resilience-cache",
    "tower-resilience-circuitbreaker",
    "tower-resilience-hedge",
    "tower-resilience-ratelimiter",
    "tower-resilience-retry",
    "tower-resilience-timelimiter",
];

impl About {
    pub(super) fn of_this_machine(quick: bool) -> Result<Self, String> {
        let lock = read(&package().join("../Cargo.lock"))?;
        let server =
            |name| buttress_testkit::version(name).map_err(|error| format!("{name}: {error}")).map(short);
        Ok(Self {
            date: date(),
            quick,
            cpu: cpu(&read(Path::new("/proc/cpuinfo"))?)?,
            cores: thread::available_parallelism().map_err(|error| error.to_string())?.get(),
            memory_gib: memory(&read(Path::new("/proc/meminfo"))?)?,
            hand_over_nanos: hand_over::nanos(),
            kernel: read(Path::new("/proc/sys/kernel/osrelease"))?.trim().to_owned(),
            rustc: rustc()?,
            postgres: server("postgres")?,
            redis: server("redis-server")?,
            nginx: server("nginx")?,
            peers: PEERS
                .iter()
                .map(|peer| Ok(((*peer).to_owned(), locked(&lock, peer)?)))
                .collect::<Result<_, String>>()?,
        })
    }
}

/// Redis tells its build as well.
fn short(version: String) -> String {
    version.split(" sha=").next().unwrap_or_default().to_owned()
}

/// In UTC, as `2026-01-31`.
#[expect(clippy::disallowed_methods, reason = "who reads it elsewhere knows no other clock")]
fn date() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// `model name : X`, and whether it is a guest's.
fn cpu(cpuinfo: &str) -> Result<String, String> {
    let field = |name| {
        let values = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        values.into_iter().find(|(field, _)| field.trim() == name).map(|(_, value)| value.trim())
    };
    let model = field("model name").ok_or("/proc/cpuinfo does not name the processor")?;
    let is_guest = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    Ok(if is_guest { format!("{model}, of a virtual machine") } else { model.to_owned() })
}

/// In GiB, rounded.
fn memory(meminfo: &str) -> Result<u64, String> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse().ok());
    kib.map(|kib| (kib + (1 << 19)) >> 20).ok_or_else(|| "/proc/meminfo does not tell the memory".into())
}

fn rustc() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.map_err(|error| format!("rustc --version: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a package that this one depends on, by Cargo.lock.
fn locked(lock: &str, package: &str) -> Result<String, String> {
    let mut packages = lock.split("[[package]]\n").map(Locked::of);
    let ours = packages.clone().find(|found| found.name == env!("CARGO_PKG_NAME"));
    let named = ours.and_then(|ours| {
        ours.dependencies.into_iter().find(|dependency| dependency.split(' ').next() == Some(package))
    });
    let named =
        named.ok_or_else(|| format!("Cargo.lock does not say that the benches depend on {package}"))?;
    // Where there are several, the version stands beside the name.
    if let Some((_, version)) = named.split_once(' ') {
        return Ok(version.to_owned());
    }
    let found = packages.find(|found| found.name == package);
    found.map(|found| found.version.to_owned()).ok_or_else(|| format!("Cargo.lock does not hold {package}"))
}

struct Locked<'a> {
    name: &'a str,
    version: &'a str,
    dependencies: Vec<&'a str>,
}

impl<'a> Locked<'a> {
    fn of(block: &'a str) -> Self {
        let quoted = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.unwrap_or_default().trim_matches('"')
        };
        let entries = block.lines().filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","));
        Self { name: quoted("name"), version: quoted("version"), dependencies: entries.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_names_the_version_of_each_peer() {
        let lock = read(&package().join("../Cargo.lock")).unwrap();
        for peer in PEERS {
            let version = locked(&lock, peer).unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{peer} {version}");
        }
        assert!(locked(&lock, "left-pad").unwrap_err().contains("left-pad"));
    }

    #[test]
    fn of_two_versions_ours_is_meant() {
        let lock = "version = 4\n\n[[package]]\nname = \"buttress-benches\"\nversion = \"0.1.0\"\ndependencies = [\n \"http 1.5.0\",\n \"moka\",\n]\n\n\
                    [[package]]\nname = \"http\"\nversion = \"0.2.1\"\n\n[[package]]\nname = \"http\"\nversion = \"1.5.0\"\n\n\
                    [[package]]\nname = \"moka\"\nversion = \"0.12.16\"\ndependencies = [\n \"http 0.2.1\",\n]\n";
        assert_eq!(locked(lock, "http").unwrap(), "1.5.0");
        assert_eq!(locked(lock, "moka").unwrap(), "0.12.16");
    }

    #[test]
    fn the_machine_is_described_without_its_name() {
        assert_eq!(
            cpu("processor : 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu sse\n").unwrap(),
            "Some CPU @ 2.0GHz"
        );
        let guest = cpu("model name : X\nflags : fpu hypervisor\n").unwrap();
        assert_eq!(guest, "X, of a virtual machine");
        assert!(cpu("processor : 0\n").is_err());
        assert_eq!(memory("MemTotal:       24676000 kB\nMemFree: 1 kB\n").unwrap(), 24);
        assert!(memory("MemFree: 1 kB\n").is_err());
    }

    #[test]
    fn the_date_is_a_day() {
        let date = date();
        assert_eq!((date.len(), date.matches('-').count()), (10, 2), "{date}");
    }
}
