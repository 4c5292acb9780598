//! Eight processes share one limit on one Redis, by leases, and want four times as much as it allows: what they are
//! admitted together, millisecond by millisecond, also while Redis dies, comes back empty, and is cut off.
//!
//! It takes as many seconds as `BUTTRESS_LEASED_SECONDS` says.
#![cfg(feature = "rate-limit")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use buttress_rate_limit::{
    Limit, Rate,
    cluster::{ClusterLayer, ClusterLimiter, WhenAway},
};
use buttress_redis::{Redis, RedisConfig, rate_limit::RedisStore};
use buttress_testkit::{Fault, FaultProxy, RedisServer};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

const LIMIT: u32 = 10_000;
const NODES: u32 = 8;
/// Of each node, in a second.
const DEMAND: u32 = 4 * LIMIT / NODES;

/// As it is by default.
const TIMEOUT: Duration = Duration::from_millis(50);

/// Set for a process that this file starts: the server, where it reports, when it begins and ends, and how long it waits for
/// the server.
const NODE: &str = "BUTTRESS_LEASED_NODE";
const SECONDS: &str = "BUTTRESS_LEASED_SECONDS";
/// The policy while the server is away: `fail_open` or `fail_closed` instead of the default.
const POLICY: &str = "BUTTRESS_LEASED_POLICY";

/// Milliseconds of the wall clock, which all processes of a machine share.
#[expect(clippy::disallowed_methods, reason = "processes share no other clock, and it is not paused here")]
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn seconds(by_default: u64) -> u64 {
    env::var(SECONDS).map_or(by_default, |seconds| seconds.parse().unwrap())
}

/// All processes have the same environment.
fn policy() -> WhenAway {
    match env::var(POLICY).as_deref() {
        Err(_) => WhenAway::LocalShare,
        Ok("fail_open") => WhenAway::FailOpen,
        Ok("fail_closed") => WhenAway::FailClosed,
        Ok(other) => panic!("{POLICY} is fail_open or fail_closed, not {other}"),
    }
}

/// What a node has seen.
struct Tally {
    begin: u64,
    admitted: Vec<u32>,
    refused: u64,
    longest: Duration,
    /// The longest time that the process did not get its turn.
    stalled: Duration,
    /// All such times together.
    lost: Duration,
}

/// A call's decision, and when it was made.
struct Decided {
    at: u64,
    after: Duration,
    is_admitted: bool,
}

impl Decided {
    fn now(asked: Instant, is_admitted: bool) -> Self {
        Self { at: wall(), after: asked.elapsed(), is_admitted }
    }
}

impl Tally {
    fn note(&mut self, decided: Decided) {
        self.longest = self.longest.max(decided.after);
        if decided.is_admitted {
            let at = (decided.at.saturating_sub(self.begin)) as usize;
            self.admitted.resize(self.admitted.len().max(at + 1), 0);
            self.admitted[at] += 1;
        } else {
            self.refused += 1;
        }
    }
}

/// The part of a process that is started: one node.
#[tokio::test]
async fn one_node() {
    let Ok(order) = env::var(NODE) else {
        // Run by the harness itself: its purpose is to be run by the tests below.
        return;
    };
    let parts: Vec<&str> = order.split(' ').collect();
    let [url, report, begin, end, timeout] = parts[..] else { panic!("an order of five parts: {order}") };
    let (begin, end): (u64, u64) = (begin.parse().unwrap(), end.parse().unwrap());
    let config = RedisConfig::from_url(url)
        .unwrap()
        .with_reconnect(Duration::from_millis(50), Duration::from_millis(500));
    let store = RedisStore::new(Redis::connect(config).await.unwrap());
    let limiter = ClusterLayer::builder("together", Limit::from(Rate::per_second(LIMIT)), store)
        .leased()
        .when_away(policy())
        .timeout(Duration::from_millis(timeout.parse().unwrap()))
        .build()
        .limiter();
    while wall() < begin {
        sleep(Duration::from_millis(1)).await;
    }
    let (longest, stalled) = (Duration::ZERO, Duration::ZERO);
    let lost = Duration::ZERO;
    let mut tally = Tally { begin, admitted: Vec::new(), refused: 0, longest, stalled, lost };
    let (late, mut answers) = mpsc::unbounded_channel();
    let (start, mut made) = (Instant::now(), 0);
    while wall() < end {
        // What should have been called by now, also where this process did not get its turn.
        let called = (start.elapsed().as_micros() * u128::from(DEMAND) / 1_000_000) as u64;
        for _ in made..called {
            call(&limiter, &mut tally, &late);
        }
        made = called;
        while let Ok(decided) = answers.try_recv() {
            tally.note(decided);
        }
        let before = Instant::now();
        sleep(Duration::from_millis(1)).await;
        let stalled = before.elapsed().saturating_sub(Duration::from_millis(3));
        tally.stalled = tally.stalled.max(stalled);
        tally.lost += stalled;
    }
    // It looks for a store that is away while somebody calls.
    for _ in 0..200 {
        sleep(Duration::from_millis(10)).await;
        if !limiter.snapshot().store_is_away {
            break;
        }
        let _ = limiter.acquire(1).await;
    }
    while let Ok(decided) = answers.try_recv() {
        tally.note(decided);
    }
    let snapshot = limiter.snapshot();
    let counts: Vec<String> = tally.admitted.iter().map(ToString::to_string).collect();
    let text = format!(
        "{} {} {} {} {} {} {}\n{}",
        tally.refused,
        tally.longest.as_micros(),
        snapshot.asks,
        snapshot.absences,
        u8::from(snapshot.store_is_away),
        tally.stalled.as_micros(),
        tally.lost.as_micros(),
        counts.join(" ")
    );
    let draft = PathBuf::from(report).with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, report).unwrap();
}

/// Where nothing has to be waited for, without a task.
fn call(limiter: &ClusterLimiter, tally: &mut Tally, late: &mpsc::UnboundedSender<Decided>) {
    let asked = Instant::now();
    let limiter = limiter.clone();
    let mut call = Box::pin(async move { limiter.acquire(1).await });
    if let Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        tally.note(Decided::now(asked, result.is_ok()));
        return;
    }
    let late = late.clone();
    tokio::spawn(async move {
        let is_admitted = call.await.is_ok();
        let decided = Decided::now(asked, is_admitted);
        // Nobody listens any more when the test ends.
        let _ = late.send(decided);
    });
}

/// Ended with its test, whatever becomes of that.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All nodes together.
struct Report {
    admitted: Vec<u64>,
    each: Vec<u64>,
    refused: u64,
    longest: Duration,
    stalled: Duration,
    /// Of a node, on the average.
    lost: Duration,
    asks: u64,
    absences: Vec<u64>,
    are_away: u64,
}

impl Report {
    fn total(&self) -> u64 {
        self.each.iter().sum()
    }

    fn decisions_each(&self) -> u64 {
        (self.total() + self.refused) / self.asks
    }

    /// The most in a second that begins in that time.
    fn worst(&self, from: u64, to: u64) -> u64 {
        let seconds = |begin: u64| {
            let begin = begin as usize;
            self.admitted.iter().skip(begin).take(1_000).sum::<u64>()
        };
        (from..to).map(seconds).max().unwrap()
    }

    fn in_time(&self, from: u64, to: u64) -> u64 {
        self.admitted[from as usize..to as usize].iter().sum()
    }
}

/// Starts the nodes, and says when they begin.
fn start(url: &str, dir: &Path, seconds: u64, timeout: Duration) -> (Vec<Node>, u64) {
    let begin = wall() + 1_000;
    let nodes = (0..NODES).map(|node| {
        let report = dir.join(node.to_string());
        let (end, timeout) = (begin + seconds * 1_000, timeout.as_millis());
        let order = format!("{url} {} {begin} {end} {timeout}", report.display());
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "one_node", "--nocapture"])
            .env(NODE, order)
            .stdout(Stdio::null())
            .spawn();
        Node(child.unwrap())
    });
    (nodes.collect(), begin)
}

async fn reports(mut nodes: Vec<Node>, dir: &Path) -> Report {
    for node in &mut nodes {
        while node.0.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let mut all = Report {
        admitted: Vec::new(),
        each: Vec::new(),
        refused: 0,
        longest: Duration::ZERO,
        stalled: Duration::ZERO,
        lost: Duration::ZERO,
        asks: 0,
        absences: Vec::new(),
        are_away: 0,
    };
    for node in 0..NODES {
        let text = fs::read_to_string(dir.join(node.to_string())).expect("each node reports");
        let (head, counts) = text.split_once('\n').unwrap();
        let head: Vec<u64> = head.split(' ').map(|n| n.parse().unwrap()).collect();
        let counts: Vec<u64> =
            counts.split(' ').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
        all.refused += head[0];
        all.longest = all.longest.max(Duration::from_micros(head[1]));
        all.asks += head[2];
        all.absences.push(head[3]);
        all.are_away += head[4];
        all.stalled = all.stalled.max(Duration::from_micros(head[5]));
        all.lost += Duration::from_micros(head[6]) / NODES;
        all.each.push(counts.iter().sum());
        all.admitted.resize(all.admitted.len().max(counts.len()), 0);
        all.admitted.iter_mut().zip(&counts).for_each(|(sum, n)| *sum += n);
    }
    eprintln!(
        "admitted {} ({:?}), refused {}, longest decision {:?}, longest stall of a process {:?}, {} asks: one for {} \
         decisions; away {:?} times",
        all.total(),
        all.each,
        all.refused,
        all.longest,
        all.stalled,
        all.asks,
        all.decisions_each(),
        all.absences
    );
    all
}

async fn until(begin: u64, after: u64) {
    sleep(Duration::from_millis((begin + after).saturating_sub(wall()))).await;
}

#[tokio::test]
async fn eight_processes_use_the_limit_up_and_seldom_ask() {
    let seconds = seconds(8);
    let server = RedisServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    // So long that a busy machine is not taken for a store that is away.
    let (nodes, _) = start(&server.url(), dir.path(), seconds, Duration::from_millis(500));
    let report = reports(nodes, dir.path()).await;
    let end = seconds * 1_000 - 1_000;
    eprintln!("worst second {}, after the first {}", report.worst(0, end), report.worst(250, end));
    let limit = u64::from(LIMIT);
    if report.absences.iter().all(|times| *times == 0) {
        // Half as much again as a sixteenth, while they do not know of each other.
        assert!(report.worst(0, end) <= limit + limit / 16 * 3 / 2);
        assert!(report.worst(250, end) <= limit + limit / 16);
    } else {
        // A machine so busy that Redis did not get its turn for half a second: then each node held its part.
        assert!(report.stalled > TIMEOUT, "{:?}", report.stalled);
        assert!(report.worst(0, end) <= 2 * limit + limit / 16);
    }
    let wanted = limit * seconds;
    // On a machine that is busy with other things, units lie idle until the nodes get their turn.
    let lost = limit * report.lost.as_millis() as u64 / 1_000;
    eprintln!("worth {lost} units the nodes did not get their turn");
    assert!(report.total() + lost >= wanted / 100 * 99, "{} of {wanted}", report.total());
    assert!(report.total() * 100 <= wanted * 101, "{} of {wanted}", report.total());
    assert!(report.decisions_each() >= 100);
    for admitted in &report.each {
        let share = *admitted as f64 * f64::from(NODES) / report.total() as f64;
        assert!((0.85..1.15).contains(&share), "{share}");
    }
}

#[tokio::test]
async fn redis_dies_comes_back_empty_and_is_cut_off() {
    let seconds = seconds(16).max(16);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let dir = tempfile::tempdir().unwrap();
    let (nodes, begin) = start(&format!("redis://{}", proxy.addr()), dir.path(), seconds, TIMEOUT);
    let dies = seconds * 1_000 / 4;
    until(begin, dies).await;
    server.kill().await;
    until(begin, dies + 1_500).await;
    server.restart().await;
    let cut_off = seconds * 1_000 * 6 / 10;
    until(begin, cut_off).await;
    proxy.set(Fault::BlackHole);
    until(begin, cut_off + 1_500).await;
    proxy.set(Fault::Pass);
    // What has lost a byte is dead for ever.
    proxy.cut();
    let report = reports(nodes, dir.path()).await;
    let end = seconds * 1_000 - 1_000;
    let limit = u64::from(LIMIT);
    let lease = limit / 16;
    eprintln!(
        "worst second: undisturbed {}, at the death {}, at the return {}, between {}, at the cut {}, after it {}",
        report.worst(250, dies - 1_000),
        report.worst(dies - 1_000, dies + 500),
        report.worst(dies + 500, dies + 4_000),
        report.worst(dies + 4_000, cut_off - 1_000),
        report.worst(cut_off - 1_000, cut_off + 500),
        report.worst(cut_off + 500, end),
    );
    // A process that does not get its turn for longer than its timeout takes the store for one that is away.
    if report.stalled < TIMEOUT {
        // Undisturbed: the store's limit and what was leased.
        assert!(report.worst(250, dies - 1_000) <= limit + lease);
        // When it goes away, each node has had its part of what the store gave; with a part's rounding for each.
        if policy() != WhenAway::FailOpen {
            assert!(report.worst(dies - 1_000, dies + 500) <= limit + limit / 4);
            assert!(report.worst(cut_off - 1_000, cut_off + 500) <= limit + limit / 4);
        }
    }
    // When it comes back, node by node: never more than what it gives and what the others' parts are.
    if policy() != WhenAway::FailOpen {
        assert!(report.worst(0, end) <= 2 * limit + lease);
    }
    // Nothing is lost meanwhile either.
    for (from, to) in [(dies, dies + 1_500), (cut_off, cut_off + 1_500), (dies + 4_000, cut_off)] {
        let share = report.in_time(from, to) as f64 / (u64::from(LIMIT) * (to - from)) as f64 * 1e3;
        eprintln!("of the limit used from {from} to {to} ms: {share:.3}");
        if policy() != WhenAway::FailClosed || from == dies + 4_000 {
            assert!(share > 0.6, "{share}");
        }
    }
    assert_eq!(report.are_away, 0, "all have found it again");
    assert!(report.absences.iter().all(|times| *times >= 2), "{:?}", report.absences);
    // Fifty milliseconds, a timer's granularity, and the time that a busy machine took away.
    let most = Duration::from_millis(60) + 2 * report.stalled;
    assert!(report.longest <= most, "{:?}, {:?}", report.longest, report.stalled);
}
