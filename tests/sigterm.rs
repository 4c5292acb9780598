//! The gateway as a process: SIGTERM under load, and what else its signals do.

#![expect(clippy::print_stdout, reason = "the figures are half of what this test is for")]

#[path = "sigterm/client.rs"]
mod client;
#[path = "sigterm/process.rs"]
mod process;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::postgres::{Postgres, PostgresConfig, Query};
use buttress_testkit::{RedisServer, Reply, TestDatabase, Upstream};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use self::{
    client::{Client, Fate},
    process::Gateway,
};

const CLIENTS: usize = 32;

/// What a client saw.
#[derive(Default)]
struct Seen {
    answers: usize,
    /// Connections whose last answer said so.
    told: usize,
    /// Mails of which the gateway said that they are written.
    acknowledged: BTreeSet<String>,
    /// Requests on a connection that ended without a byte: on one that had brought an answer, and on a new one.
    unanswered: [usize; 2],
    failed: Vec<String>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.told += other.told;
        self.acknowledged.extend(other.acknowledged);
        self.unanswered[0] += other.unanswered[0];
        self.unanswered[1] += other.unanswered[1];
        self.failed.extend(other.failed);
    }
}

/// Writes users and reads them, as fast as it can, until nobody listens.
async fn call(address: SocketAddr, number: usize, done: Arc<AtomicUsize>) -> Seen {
    let (mut client, mut seen) = (Client::new(address), Seen::default());
    let mut id = None;
    let mut turn = 0;
    loop {
        let mail = format!("{number}-{turn}@example.com");
        let new = json!({ "name": "Ada", "email": mail }).to_string();
        let (method, path, body, expected) = match id.take() {
            None => ("POST", "/users".to_owned(), new.as_str(), 201),
            // Every third comes from the upstream, too.
            Some(id) if turn % 3 == 0 => ("GET", format!("/users/{id}/profile"), "", 200),
            Some(id) => ("GET", format!("/users/{id}"), "", 200),
        };
        match client.ask(method, &path, body).await {
            Fate::Answered { status, body } if status == expected => {
                seen.answers += 1;
                done.fetch_add(1, Relaxed);
                if method == "POST" {
                    seen.acknowledged.insert(mail);
                    id = body["id"].as_i64();
                } else {
                    turn += 1;
                }
            }
            Fate::Answered { status, body } => {
                seen.failed.push(format!("{method} {path}: {status} {body}"));
                turn += 1;
            }
            // Nothing came back, so it is asked again: a read does no harm, and a mail is unique.
            Fate::Unanswered { reused } => {
                seen.unanswered[usize::from(!reused)] += 1;
                id = path.split('/').nth(2).and_then(|id| id.parse().ok());
            }
            Fate::Torn(why) => {
                seen.failed.push(format!("{method} {path}: {why}"));
                turn += 1;
            }
            Fate::Refused => {
                seen.told = client.told;
                return seen;
            }
        }
    }
}

async fn mails(database: &TestDatabase) -> BTreeSet<String> {
    let postgres = Postgres::new(PostgresConfig::from_url(&database.url()).unwrap()).unwrap();
    let rows = postgres.query(Query::new("select email from users")).await.unwrap();
    rows.iter().map(|row| row.get("email").unwrap()).collect()
}

/// In the middle of it: after so many answers.
async fn stop_under_load(after: usize) {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (database_url, redis_url) = (database.url(), redis.url());
    let gateway = Gateway::start(&[("DATABASE_URL", &database_url), ("REDIS_URL", &redis_url)]).await;
    let done = Arc::default();
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(call(gateway.address, number, Arc::clone(&done)))).collect();
    while done.load(Relaxed) < after {
        sleep(Duration::from_millis(1)).await;
    }
    let stopped = Instant::now();
    gateway.signal(Signal::SIGTERM);
    let mut seen = Seen::default();
    for client in clients {
        seen.add(client.await.unwrap());
    }
    let ended = gateway.ended().await;
    let took = stopped.elapsed();
    let Seen { answers, told, acknowledged, unanswered, failed } = seen;
    println!(
        "after {after}: {answers} answers, {} writes, {told} connections told, unanswered {unanswered:?} \
         (kept, new), ended in {took:?}: {:?}",
        acknowledged.len(),
        ended.stdout.last()
    );
    assert_eq!(failed, Vec::<String>::new(), "an accepted request failed");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.last().unwrap().ends_with("everything came to its end."), "{ended:?}");
    // No client was asked to guess: whoever had a connection was told on it that it ends.
    assert_eq!(unanswered[0], 0, "requests on connections that were kept");
    assert_eq!(told + unanswered[1], CLIENTS, "one connection each");
    // What was acknowledged is there, and nothing that was not.
    let written = mails(&database).await;
    assert_eq!(written.difference(&acknowledged).next(), None, "written, and not said so");
    assert_eq!(acknowledged.difference(&written).next(), None, "acknowledged, and lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_request_fails() {
    for after in [100, 1000, 3000] {
        stop_under_load(after).await;
    }
}

/// Sends the beginning of a request and no more.
async fn begin(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_unready_first_then_deaf_then_gone() {
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (database_url, redis_url) = (database.url(), redis.url());
    let mut gateway = Gateway::start(&[("DATABASE_URL", &database_url), ("REDIS_URL", &redis_url)]).await;
    let address = gateway.address;
    let mut kept = Client::new(address);
    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    let answer = kept.ask("POST", "/users", ada).await;
    assert!(matches!(answer, Fate::Answered { status: 201, .. }), "{answer:?}");
    let grace = r#"{"name":"Grace","email":"grace@example.com"}"#;
    let head = "POST /users HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: ";
    // On its way for as long as the test likes, and the deadline of a request lets it.
    let mut slow = begin(address, &format!("{head}{}\r\n\r\n", grace.len())).await;
    let mut idle = begin(address, "").await;

    gateway.signal(Signal::SIGTERM);
    gateway.says("Stopping").await;
    // The word comes a moment before the answers say so, too.
    while kept.told == 0 {
        let answer = kept.ask("GET", "/readyz", "").await;
        assert!(matches!(answer, Fate::Answered { status: 503, .. }), "{answer:?}");
    }
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(2), refused).await.expect("nobody listens, while a request is on its way");
    let closed = timeout(Duration::from_secs(5), idle.read(&mut [0])).await.unwrap();
    assert_eq!(closed.unwrap(), 0, "an idle connection is closed in peace");
    slow.write_all(grace.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "not by the program's end: {answer}");
    assert_eq!(gateway.ended().await.code, Some(0));
}

/// Ctrl-C reaches all of `gateway 2>&1 | tee log`, and whoever reads is gone first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_46_a_gateway_whose_words_nobody_reads_answers_what_is_on_its_way() {
    let upstream = Upstream::start().await;
    upstream.on("/profiles/1", Reply::ok("{}").after(Duration::from_millis(400)));
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (database_url, redis_url, url) = (database.url(), redis.url(), upstream.url());
    let variables = [
        ("DATABASE_URL", &*database_url),
        ("REDIS_URL", &redis_url),
        ("UPSTREAM_URL", &url),
        ("RUST_LOG", "debug"),
    ];
    let gateway = Gateway::start(&variables).await;
    let address = gateway.address;
    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    let answer = Client::new(address).ask("POST", "/users", ada).await;
    assert!(matches!(answer, Fate::Answered { status: 201, .. }), "{answer:?}");
    let slow = tokio::spawn(async move { Client::new(address).ask("GET", "/users/1/profile", "").await });
    while upstream.requests().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(gateway.ended_unread(Signal::SIGINT).await, Some(0));
    let answer = slow.await.unwrap();
    assert!(matches!(answer, Fate::Answered { status: 200, .. }), "{answer:?}");
}

/// There is room again for some of those who stand in line, and not for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_47_whom_a_gateway_without_files_could_take_last_it_answers() {
    const ASK: &str = "GET /livez HTTP/1.1\r\nhost: gateway\r\n\r\n";
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (database_url, redis_url) = (database.url(), redis.url());
    let variables = [("DATABASE_URL", &*database_url), ("REDIS_URL", &redis_url), ("RUST_LOG", "off")];
    let gateway = Gateway::start_with_files(96, &variables).await;
    let (mut answered, mut in_line) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        let mut stream = begin(gateway.address, ASK).await;
        // Whoever once waits for so long stands in line, and so does everybody behind him.
        let patience = if in_line.is_empty() { Duration::from_secs(2) } else { Duration::ZERO };
        match timeout(patience, stream.read(&mut [0; 64])).await {
            Ok(read) => answered.push((stream, read.unwrap())),
            Err(_) => in_line.push(stream),
        }
    }
    assert!(answered.len() > 20 && in_line.len() > 20, "{}, {}", answered.len(), in_line.len());
    answered.truncate(answered.len() - 10);
    sleep(Duration::from_millis(200)).await;
    gateway.signal(Signal::SIGTERM);
    let mut last = 0;
    for mut stream in in_line {
        let mut text = String::new();
        let read = timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await.unwrap();
        last += usize::from(read.is_ok() && text.starts_with("HTTP/1.1 200"));
    }
    assert!(last > 0, "nobody in line got an answer");
    assert_eq!(gateway.ended().await.code, Some(0));
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_end_is_cut_off() {
    let upstream = Upstream::start().await;
    upstream.on("/profiles/1", Reply::never());
    let (database, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let (database_url, redis_url, url) = (database.url(), redis.url(), upstream.url());
    let variables = [
        ("DATABASE_URL", &*database_url),
        ("REDIS_URL", &redis_url),
        ("UPSTREAM_URL", &url),
        ("GATEWAY_DEADLINE", "400ms"),
    ];
    let gateway = Gateway::start(&variables).await;
    let address = gateway.address;
    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    let answer = Client::new(address).ask("POST", "/users", ada).await;
    assert!(matches!(answer, Fate::Answered { status: 201, .. }), "{answer:?}");
    let _half = begin(address, "POST /users HTTP/1.1\r\nhost: gateway\r\ncontent-length: 40\r\n\r\n{").await;
    let _hung = begin(address, "GET /users/1/profile HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    while upstream.requests().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    let stopped = Instant::now();
    gateway.signal(Signal::SIGTERM);
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(stopped.elapsed() < Duration::from_millis(1500), "{:?}: {ended:?}", stopped.elapsed());
    assert!(ended.stdout.last().unwrap().contains("1 calls were cut off"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_reads_the_file_anew_and_a_wrong_one_changes_nothing() {
    let (old, new) = (Upstream::start().await, Upstream::start().await);
    old.on("/profiles/1", Reply::ok(r#"{"from":"old"}"#));
    new.on("/profiles/1", Reply::ok(r#"{"from":"new"}"#));
    let database = TestDatabase::new().await;
    let redis = RedisServer::start().await;
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("gateway-reload.toml");
    let text = |upstream: &Upstream, more: &str| {
        format!(
            "[database]\nurl = \"{}\"\n[redis]\nurl = \"{}\"\n[http.profiles]\nbase_url = \"{}\"\n{more}",
            database.url(),
            redis.url(),
            upstream.url()
        )
    };
    write(&file, &text(&old, ""));
    let mut gateway = Gateway::start(&[("GATEWAY_CONFIG", file.to_str().unwrap())]).await;
    let mut client = Client::new(gateway.address);
    let ada = r#"{"name":"Ada","email":"ada@example.com"}"#;
    client.ask("POST", "/users", ada).await;
    for (now, more, says, from) in [
        (&old, "", "Reloaded.", "old"),
        (&new, "timeout = \"soon\"", "Not reloaded: ", "old"),
        (
            &new,
            "connect_timeout = \"4s\"",
            "Not reloaded: nothing was changed: restart, or leave as they were what only a start reads: `http.profiles.connect_timeout`",
            "old",
        ),
        (&new, "", "Reloaded.", "new"),
    ] {
        write(&file, &text(now, more));
        gateway.signal(Signal::SIGHUP);
        let told = gateway.says(says.split(':').next().unwrap()).await;
        assert!(told.starts_with(says), "{told}");
        match client.ask("GET", "/users/1/profile", "").await {
            Fate::Answered { status: 200, body } => {
                assert_eq!(body["profile"]["from"], from, "after {more:?}")
            }
            other => panic!("after {more:?}: {other:?}"),
        }
    }
    std::fs::remove_file(&file).unwrap();
}
