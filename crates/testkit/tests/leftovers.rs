//! Nothing outlives the process: neither one that is killed in the middle, nor one that ends.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use buttress_testkit::{PostgresServer, RedisCluster, RedisServer, TestDatabase};
use tokio_postgres::NoTls;

/// Set for a process that this file starts: where it reports what it has started.
const REPORT: &str = "BUTTRESS_TESTKIT_REPORT";
/// Set as well for one that shall not be killed but end.
const ENDS: &str = "BUTTRESS_TESTKIT_ENDS";

/// This test binary again, running one test alone.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The part of the process that is started: servers of every kind, busy and paused ones.
#[tokio::test]
async fn starts_servers_and_waits() {
    let Some(report) = std::env::var_os(REPORT) else {
        // Run by the harness itself: its purpose is to be run by the tests below.
        return;
    };
    let postgres = PostgresServer::start().await;
    let (client, connection) = postgres.config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let _busy = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    let database = TestDatabase::new().await;
    let (client, connection) = database.config().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let shared: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let (running, paused) = (RedisServer::start().await, RedisServer::start().await);
    paused.pause();
    let cluster = RedisCluster::start().await;

    let pids = [postgres.pid(), running.pid(), paused.pid()].map(Option::unwrap);
    let process_dir = running.unix_path().ancestors().nth(2).unwrap();
    let (sessions, nodes) = ([backend, shared], cluster.pids());
    let text = format!("{pids:?} {sessions:?} {nodes:?}\n{}\n", process_dir.display());
    let draft = PathBuf::from(&report).with_extension("draft");
    fs::File::create(&draft).unwrap().write_all(text.as_bytes()).unwrap();
    fs::rename(draft, report).unwrap();
    if std::env::var_os(ENDS).is_some() {
        // As a test harness may end: no destructor runs.
        std::process::exit(0);
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_process_leaves_nothing() {
    leaves_nothing(again("starts_servers_and_waits"), |child| child.kill().unwrap()).await;
}

#[tokio::test]
async fn a_process_that_ends_without_destructors_leaves_nothing() {
    let mut command = again("starts_servers_and_waits");
    command.env(ENDS, "1");
    leaves_nothing(command, |_| {}).await;
}

async fn leaves_nothing(mut command: Command, end: impl FnOnce(&mut Child)) {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut child = command.env(REPORT, &report).spawn().unwrap();
    until("servers were started", || report.exists() || child.try_wait().unwrap().is_some()).await;
    let text = fs::read_to_string(&report).expect("the process reports before it ends");
    let (pids, process_dir) = text.trim_end().split_once('\n').unwrap();
    let pids: Vec<u32> =
        pids.split(|c: char| !c.is_ascii_digit()).filter_map(|pid| pid.parse().ok()).collect();
    assert_eq!(pids.len(), 11, "{text}");
    end(&mut child);
    child.wait().unwrap();
    until("every server is gone", || pids.iter().all(|pid| !runs(*pid))).await;
    until("the folder is gone", || !Path::new(process_dir).exists()).await;
}

async fn until(what: &str, condition: impl FnMut() -> bool) {
    let mut condition = condition;
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// One that is dead but not waited for yet does not run any more.
fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X'])
}

/// The part of a process that cannot find the programs.
#[tokio::test]
async fn reports_what_is_missing() {
    let Some(report) = std::env::var_os(REPORT) else {
        // Run by the harness itself: its purpose is to be run by the tests below.
        return;
    };
    let redis = RedisServer::try_start().await.unwrap_err();
    let postgres = PostgresServer::try_start().await.unwrap_err();
    fs::write(report, format!("{redis}\n{postgres}\n")).unwrap();
}

#[test]
fn a_missing_program_is_one_line_that_names_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut command = again("reports_what_is_missing");
    assert!(command.env(REPORT, &report).env("PATH", dir.path()).status().unwrap().success());
    let text = fs::read_to_string(report).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0], "redis-server was not found: run `cargo xtask setup`");
    // Debian keeps Postgres outside PATH; then it is setpriv that is missed.
    assert!(["postgres", "setpriv"].iter().any(|name| lines[1].starts_with(name)), "{text}");
    assert!(lines[1].ends_with(" was not found: run `cargo xtask setup`"), "{text}");
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_by_the_next() {
    let server = RedisServer::start().await;
    let base = server.unix_path().ancestors().nth(3).unwrap();
    // No process ever has this id: it is above the kernel's limit.
    let stale = base.join("run-99999999-test");
    fs::create_dir_all(stale.join("postgres-x/data")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let mut command = again("starts_servers_and_waits");
    command.env(REPORT, &report).env(ENDS, "1");
    assert!(command.status().unwrap().success());
    assert!(!stale.exists());
}
