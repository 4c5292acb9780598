//! Two real processes on one Redis: how soon a read in one sees what the other writes.

use std::{
    env, fs,
    future::{pending, ready},
    ops::Range,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use buttress_core::BoxError;
use buttress_testkit::RedisServer;
use tokio::{
    runtime::Handle,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::support::{Users, builder, load, ms, redis, run, store, users};

/// Set for a process that this file starts: the server, and what it is to write.
const WRITER: &str = "BUTTRESS_CACHE_WRITER";
const WRITES: u64 = 1_500;
/// What is asked for of 99 in a hundred.
const SOON: Duration = ms(5);

/// Nanoseconds of the wall clock, which all processes of a machine share.
#[expect(clippy::disallowed_methods, reason = "processes share no other clock, and it is not paused here")]
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The part of a process that is started: it writes each key once, and reports when each write began and when it was done. Or it
/// begins to load one, and never ends.
#[tokio::test]
async fn the_writer() {
    let Ok(order) = env::var(WRITER) else {
        // Run by the harness itself: its purpose is to be run by the test below.
        return;
    };
    let parts: Vec<&str> = order.split(' ').collect();
    let [url, what, report] = parts[..] else { panic!("an order of three parts: {order}") };
    if what == "hang" {
        return hang(url).await;
    }
    let (cache, _) = users(url).await;
    sleep(ms(300)).await;
    let mut times = Vec::new();
    for key in 0..WRITES {
        sleep(ms(2)).await;
        let begin = wall();
        if what == "insertions" {
            cache.insert(key, "new".to_owned()).await.unwrap();
        } else {
            cache.invalidate(&key).await.unwrap();
        }
        times.push(format!("{begin} {}", wall()));
    }
    assert_eq!(cache.stats().store_errors, 0);
    fs::write(report, times.join("\n")).unwrap();
}

/// Ended with its test, whatever becomes of that.
struct Writer(Child);

impl Writer {
    fn start(url: &str, what: &str, report: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "processes::the_writer", "--nocapture"]).stdout(Stdio::null());
        Self(command.env(WRITER, format!("{url} {what} {}", report.display())).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long a write took to be seen.
struct Seen {
    /// From its beginning to the end of the read that saw it.
    since_begin: Duration,
    /// From its end to the beginning of the last read that did not see it.
    unseen: Duration,
}

/// A thread that reads key after key until each is new: when the last read began that was not, and when the first was done that
/// was.
#[expect(
    clippy::disallowed_methods,
    reason = "a timer of tokio's is too coarse, and to spin would stop those who write"
)]
fn look(cache: &Users, runtime: &Handle) -> Vec<Range<u64>> {
    let until_new = |key| {
        let mut last_old = 0;
        loop {
            let begin = wall();
            // As any other read: of the memory, or else of the store.
            let gone = || ready(Ok::<_, BoxError>("new".to_owned()));
            let value = cache.get(&key);
            let value = value.unwrap_or_else(|| runtime.block_on(cache.get_or_load(key, gone)).unwrap());
            if value != "old" {
                return last_old..wall();
            }
            last_old = begin;
            std::thread::sleep(Duration::from_micros(100));
        }
    };
    (0..WRITES).map(until_new).collect()
}

async fn seen(url: &str, what: &str, report: &Path) -> Vec<Seen> {
    let (cache, _) = users(url).await;
    for key in 0..WRITES {
        load(&cache, key, "old").await;
    }
    let mut writer = Writer::start(url, what, report);
    let looks = {
        let (cache, runtime) = (cache.clone(), Handle::current());
        spawn_blocking(move || look(&cache, &runtime)).await.unwrap()
    };
    while writer.0.try_wait().unwrap().is_none() {
        sleep(ms(5)).await;
    }
    assert_eq!(cache.stats().store_errors, 0);
    let times = fs::read_to_string(report).expect("the writer reports");
    let since = |at: u64, time: u64| Duration::from_nanos(at.saturating_sub(time));
    let all = times.lines().zip(looks).map(|(line, look)| {
        let (begin, done) = line.split_once(' ').unwrap();
        let (begin, done): (u64, u64) = (begin.parse().unwrap(), done.parse().unwrap());
        Seen { since_begin: since(look.end, begin), unseen: since(look.start, done) }
    });
    all.collect()
}

fn show(name: &str, times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1_000];
    let (median, p99, most) = (at(500), at(990), times[times.len() - 1]);
    eprintln!("{name}: {} writes, p50 {median:?}, p99 {p99:?}, most {most:?}", times.len());
    p99
}

#[tokio::test]
async fn a_write_is_seen_by_another_process_within_five_milliseconds() {
    for what in ["insertions", "invalidations"] {
        let (server, dir) = (RedisServer::start().await, tempfile::tempdir().unwrap());
        let all = seen(&server.url(), what, &dir.path().join("report")).await;
        assert_eq!(all.len() as u64, WRITES);
        show(
            &format!("{what}, from the write's beginning to the read's end"),
            all.iter().map(|seen| seen.since_begin),
        );
        let p99 =
            show(&format!("{what}, still old after the write's end"), all.iter().map(|seen| seen.unseen));
        assert!(p99 <= SOON, "{what}: {p99:?}");
    }
}

/// The lease of the one that hangs.
const LEASE: Duration = ms(1_500);

async fn hang(url: &str) {
    let cache = builder().store(store(url).await.with_lease(LEASE)).build();
    let never = || pending::<Result<String, BoxError>>();
    let _ = cache.get_or_load(1, never).await;
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_loads_keeps_the_others_for_its_lease_at_most() {
    let (server, dir) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let ((cache, watch), redis) = (users(&server.url()).await, redis(&server).await);
    let holder = Writer::start(&server.url(), "hang", &dir.path().join("report"));
    while run(&redis, "EXISTS users:l:1").await.convert::<u32>().unwrap() == 0 {
        sleep(ms(5)).await;
    }
    let waiting = tokio::spawn(async move { load(&cache, 1, "other").await });
    // So long that it was renewed, and that it lives.
    sleep(LEASE * 2).await;
    assert!(!waiting.is_finished());
    let begin = Instant::now();
    drop(holder);
    assert_eq!(waiting.await.unwrap(), "other");
    let (waited, waits) = (begin.elapsed(), watch.stats().waits);
    eprintln!(
        "handed over {waited:?} after the holder was killed, its lease being {LEASE:?}; it was asked {waits} times"
    );
    assert!(waited <= LEASE + ms(500), "{waited:?}");
    // With each renewal.
    assert!(waits <= 10, "{waits}");
}
