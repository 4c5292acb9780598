//! What the processes hold, second by second.

use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::jobs::connect;

const PATIENCE: Duration = Duration::from_secs(2);

/// What one process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Resident memory, in KiB.
    pub(crate) memory: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
    /// Of the files, those that are connections.
    pub(crate) sockets: u64,
    /// tokio's, where the process tells.
    pub(crate) tasks: Option<u64>,
}

/// One look at all of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// After the beginning of the load.
    pub(crate) at: Duration,
    pub(crate) gateway: Option<Held>,
    /// The workers that run, as one.
    pub(crate) workers: Option<Held>,
    /// Connections to Postgres. None while it does not answer.
    pub(crate) postgres: Option<u64>,
    /// Connections to Redis.
    pub(crate) redis: Option<u64>,
}

/// What a process holds, by `/proc`. None where it has ended.
pub(crate) fn held(pid: u32) -> Option<Held> {
    let process = Path::new("/proc").join(pid.to_string());
    let status = fs::read_to_string(process.join("status")).ok()?;
    let of = |name: &str| number_after(&status, name);
    let names =
        fs::read_dir(process.join("fd")).ok()?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let (mut files, mut sockets) = (0, 0);
    for name in names {
        files += 1;
        sockets += u64::from(name.to_string_lossy().starts_with("socket:"));
    }
    Some(Held { memory: of("VmRSS:")?, threads: of("Threads:")?, files, sockets, tasks: None })
}

/// All of them together.
pub(crate) fn together(all: impl Iterator<Item = Held>) -> Option<Held> {
    all.reduce(|one, other| Held {
        memory: one.memory + other.memory,
        threads: one.threads + other.threads,
        files: one.files + other.files,
        sockets: one.sockets + other.sockets,
        tasks: None,
    })
}

/// How many tasks the gateway has, by its page for Prometheus.
pub(crate) async fn tasks(metrics: SocketAddr) -> Option<u64> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{metrics}/metrics")).body(Empty::<Bytes>::new()).ok()?;
    let page = async {
        let response = client.request(request).await.ok()?;
        Some(response.into_body().collect().await.ok()?.to_bytes())
    };
    let page = timeout(PATIENCE, page).await.ok()??;
    number_after(&String::from_utf8_lossy(&page), "\ntokio_alive_tasks ")
}

/// How many clients Postgres has, without our own.
pub(crate) async fn postgres_clients(database: &tokio_postgres::Config) -> Option<u64> {
    let count = "select count(*) from pg_stat_activity where backend_type = 'client backend' and application_name <> 'soak'";
    let count =
        async { connect(database).await.ok()?.query_one(count, &[]).await.ok()?.try_get::<_, i64>(0).ok() };
    timeout(PATIENCE, count).await.ok()??.try_into().ok()
}

/// How many clients Redis has, without our own.
pub(crate) async fn redis_clients(socket: &Path) -> Option<u64> {
    let info = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"INFO clients\r\nQUIT\r\n").await?;
        let mut info = String::new();
        stream.read_to_string(&mut info).await?;
        Ok::<_, io::Error>(info)
    };
    let info = timeout(PATIENCE, info).await.ok()?.ok()?;
    number_after(&info, "connected_clients:")?.checked_sub(1)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text[text.find(name)? + name.len()..].trim_start();
    rest[..rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The median of what is known of these looks.
pub(crate) fn median(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let mut values: Vec<_> = values.flatten().collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_names() {
        let text = "# HELP\ntokio_alive_tasks 17\nVmRSS:\t   2048 kB\nThreads:\t4\n";
        assert_eq!(number_after(text, "\ntokio_alive_tasks "), Some(17));
        assert_eq!(number_after(text, "VmRSS:"), Some(2048));
        assert_eq!(number_after("connected_clients:3", "connected_clients:"), Some(3));
        assert_eq!(number_after(text, "nothing"), None);
    }

    #[test]
    fn a_file_that_is_open_shows() {
        let before = held(std::process::id()).unwrap();
        let _files: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/status").unwrap()).collect();
        let after = held(std::process::id()).unwrap();
        assert!(after.files >= before.files + 15, "{before:?} {after:?}");
        assert!(after.memory > 0 && after.threads > 0 && after.sockets <= after.files);
    }

    #[test]
    fn the_median_leaves_out_what_is_not_known() {
        assert_eq!(median([Some(9), None, Some(1), Some(2)].into_iter()), Some(2));
        assert_eq!(median([None].into_iter()), None);
    }
}
