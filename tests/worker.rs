//! The worker example as processes that are killed, frozen and stopped, on a real Postgres that dies as well.

#[path = "../examples/worker/job.rs"]
#[expect(dead_code, reason = "the example uses more of it")]
mod job;
#[path = "../examples/worker/jobs.rs"]
#[expect(dead_code, reason = "the example uses more of it")]
mod jobs;
#[path = "worker/process.rs"]
mod process;
#[path = "../examples/worker/queue.rs"]
mod queue;
#[path = "worker/surroundings.rs"]
mod surroundings;

use std::{process::Stdio, time::Duration};

use buttress_postgres::{Error, Query};
use buttress_testkit::{FaultProxy, PostgresServer, TestDatabase, example};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use self::{
    job::{Attempt, Failure, NewJob},
    process::{Process, eventually, one, queue, until},
    queue::Queue,
};

const SECOND: Duration = Duration::from_secs(1);

/// A job that works for so long, and then holds its transaction open for so long.
fn book(work_ms: u64, hold_ms: u64) -> NewJob {
    NewJob::new("book", &json!({ "work_ms": work_ms, "hold_ms": hold_ms }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_every_job_is_done_exactly_once() {
    const WORKERS: usize = 4;
    const BATCHES: u64 = 20;
    let server = PostgresServer::start().await;
    let url = server.url();
    let queue = queue(&url, SECOND).await;
    let settings = [("WORKER_CONCURRENCY", "4")];
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Process::start(&url, &settings).await);
    }

    // 20 batches of 16: 15 that work between 0 and 300 ms, and hold their transaction up to 50 ms; and one that makes another
    // job. The kills meet them anywhere.
    let mut kills = 0;
    for batch in 0..BATCHES {
        let mut jobs: Vec<_> =
            (0..15).map(|n| (batch * 15 + n) * 37).map(|n| book(n % 300, n % 50)).collect();
        jobs.push(NewJob::new("order", &json!({})));
        let jobs: Vec<_> = (0..)
            .zip(jobs)
            .map(|(n, job)| job.with_key(format!("{batch}-{n}")).with_attempts(1_000))
            .collect();
        // Until it is sure that they are there: the keys keep a second try from enqueueing anything twice.
        while let Err(error) = queue.enqueue(&jobs).await {
            eprintln!("enqueued again: {error}");
            sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(queue.enqueue(&jobs).await.unwrap(), 0, "they are all there");
        let victim = workers.remove(0);
        victim.kill().await;
        kills += 1;
        if batch % 8 == 5 {
            server.kill().await;
            sleep(Duration::from_millis(300)).await;
            server.restart().await;
        }
        workers.push(Process::start(&url, &settings).await);
        sleep(Duration::from_millis(150)).await;
    }
    let since = Instant::now();
    while !one::<(bool,)>(&queue, "select count(*) = 340 from worker_jobs where state = 'done'").await.0 {
        let counts = "select state, count(*), max(attempts) from worker_jobs group by state";
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{:?}",
            queue.database.query(Query::new(counts)).await
        );
        workers.remove(0).kill().await;
        kills += 1;
        workers.push(Process::start(&url, &settings).await);
        // Some must be given the time to end what takes 350 ms.
        sleep(Duration::from_millis(500)).await;
    }

    let jobs = "select count(*), count(*) filter (where state = 'done'), count(*) filter (where attempts > 1) from worker_jobs";
    let (jobs, done, repeated): (i64, i64, i64) = one(&queue, jobs).await;
    let ledger = "select count(*), count(distinct job), count(distinct key) from worker_ledger";
    let ledger: (i64, i64, i64) = one(&queue, ledger).await;
    eprintln!("{kills} kills, {repeated} jobs were taken more than once");
    assert_eq!((jobs, done), (340, 340), "none is lost, and each order made one receipt");
    assert_eq!(ledger, (340, 340, 340), "none was done twice");
    assert!(kills >= 20 && repeated >= 10, "{kills} kills hit {repeated} jobs: this proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_jobs_end_and_gives_the_leases_of_the_rest_back() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    queue.enqueue(&[book(600, 0), book(60_000, 0), book(0, 60_000)]).await.unwrap();
    let settings = [("WORKER_LEASE", "5m"), ("WORKER_DRAIN", "1s"), ("WORKER_CONCURRENCY", "4")];
    let mut worker = Process::start(&database.url(), &settings).await;
    until(&queue, "select count(*) = 3 from worker_jobs where state = 'running'").await;
    until(&queue, HOLDS).await;

    let since = Instant::now();
    worker.signal(Signal::SIGTERM);
    worker.says("Stopping").await;
    queue.enqueue(&[book(0, 0)]).await.unwrap();
    let said = worker.says("Stopped").await;
    assert!(said.contains("1 done, 0 failed, 0 dead, 0 lost, 2 given back"), "{said}");
    assert_eq!(worker.ends().await, Some(0));
    assert!(since.elapsed() < 4 * SECOND, "{:?}", since.elapsed());
    let left = "select count(*) filter (where state = 'done'),
        count(*) filter (where state = 'queued' and attempts = 0 and leased_until is null) from worker_jobs";
    assert_eq!(one::<(i64, i64)>(&queue, left).await, (1, 3), "what came late was not taken");
    assert_eq!(one::<(i64,)>(&queue, "select count(*) from worker_ledger").await, (1,));

    // The lease of 5 min is in nobody's way.
    let _next = Process::start(&database.url(), &[]).await;
    until(&queue, "select count(*) = 2 from worker_jobs where state = 'running'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_postgres_is_asked_now_and_then_and_found_again() {
    let server = PostgresServer::start().await;
    let queue = queue(&server.url(), SECOND).await;
    let proxy = FaultProxy::start(server.addr()).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    // It looks a hundred times a second.
    let _worker = Process::start(&url, &[("WORKER_POLL", "10ms")]).await;
    queue.enqueue(&[book(800, 0)]).await.unwrap();
    until(&queue, "select count(*) = 1 from worker_jobs where state = 'running'").await;
    server.kill().await;
    // Past the failures that open the breaker.
    sleep(SECOND / 2).await;
    let before = proxy.accepted();
    sleep(2 * SECOND).await;
    let asked = proxy.accepted() - before;
    eprintln!("{asked} connections in two seconds");
    assert!(asked <= 40, "{asked} connections in two seconds");

    server.restart().await;
    eventually("the queue answers again", async || {
        queue.enqueue(&[book(0, 0).with_key("after")]).await.is_ok()
    })
    .await;
    until(&queue, "select count(*) = 2 from worker_jobs where state = 'done'").await;
    let ledger = "select count(*), count(distinct job) from worker_ledger";
    assert_eq!(one::<(i64, i64)>(&queue, ledger).await, (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_takes_its_time_keeps_no_other_job_from_being_renewed() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    let mut jobs: Vec<_> = (0..4).map(|n| book(n * 650, 700)).collect();
    jobs.push(book(3_000, 0));
    queue.enqueue(&jobs).await.unwrap();
    let _worker = Process::start(&database.url(), &[]).await;
    until(&queue, "select count(*) = 5 from worker_jobs where state = 'running'").await;
    let _other = Process::start(&database.url(), &[]).await;
    until(&queue, "select count(*) = 5 from worker_jobs where state = 'done'").await;
    assert_eq!(one::<(i32,)>(&queue, "select max(attempts) from worker_jobs").await, (1,));
}

/// A job is in its transaction.
const HOLDS: &str = "select exists (select from pg_stat_activity where datname = current_database()
    and state = 'idle in transaction' and query like 'insert into worker_ledger%')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_frozen_cannot_finish_what_others_took_over() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    // The one freezes at its work. The other has locked its row, and done its effect, but for the commit.
    queue.enqueue(&[book(600, 0), book(0, 600)]).await.unwrap();
    let mut frozen = Process::start(&database.url(), &[]).await;
    until(&queue, "select count(*) = 2 from worker_jobs where state = 'running'").await;
    until(&queue, HOLDS).await;
    frozen.signal(Signal::SIGSTOP);
    assert_eq!(one::<(i64,)>(&queue, "select count(*) from worker_ledger").await, (0,));

    let _other = Process::start(&database.url(), &[]).await;
    until(&queue, "select count(*) = 2 from worker_jobs where state = 'done' and attempts = 2").await;
    frozen.signal(Signal::SIGCONT);
    sleep(2 * SECOND).await;
    frozen.signal(Signal::SIGTERM);
    let said = frozen.says("Stopped").await;
    assert!(said.contains("0 done, 0 failed, 0 dead, 2 lost"), "{said}");
    let ledger = "select count(*), count(distinct job), min(attempt) from worker_ledger";
    assert_eq!(one::<(i64, i64, i32)>(&queue, ledger).await, (2, 2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_others_took_fences_whatever_its_holder_does() {
    let database = TestDatabase::new().await;
    // A statement has a quarter of it, on a loaded machine too.
    let queue = queue(&database.url(), 3 * SECOND).await;
    queue.enqueue(&[book(0, 0)]).await.unwrap();
    let take = async || queue.take(&["book"], "test", 10).await.unwrap().pop();
    let old = take().await.unwrap();
    assert!(take().await.is_none(), "it is held");
    sleep(3 * SECOND + SECOND / 10).await;
    let new = take().await.expect("its lease ran out");
    assert_eq!((new.id, new.key.clone(), new.attempt), (old.id, old.key.clone(), 2));

    let held = [(old.id, old.lease)];
    assert_eq!(queue.renew(&held).await.unwrap(), held);
    assert_eq!(queue.give_back(&held).await.unwrap(), 0);
    assert_eq!(queue.fail(&old, "too late", None).await.unwrap(), None);
    let effect = async |job| {
        let attempt = Attempt { queue: queue.clone(), job };
        let sql = "insert into worker_ledger values (1, '', 1, '')";
        attempt.finish(async |tx| tx.query(Query::new(sql)).await.map(|_| ()).map_err(Failure::from)).await
    };
    assert!(matches!(effect(old).await, Err(Failure::Fenced)));
    assert_eq!(one::<(i64,)>(&queue, "select count(*) from worker_ledger").await, (0,));
    assert!(queue.renew(&[(new.id, new.lease)]).await.unwrap().is_empty());
    assert!(effect(new.clone()).await.is_ok());
    assert!(matches!(effect(new).await, Err(Failure::Fenced)), "not twice by the same one either");
    assert_eq!(one::<(i64,)>(&queue, "select count(*) from worker_ledger").await, (1,));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_dead_and_says_why() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    let killer = book(60_000, 0).with_key("killer").with_attempts(1);
    queue.enqueue(&[killer]).await.unwrap();
    let victim = Process::start(&database.url(), &[("WORKER_NAME", "victim")]).await;
    until(&queue, "select count(*) = 1 from worker_jobs where state = 'running'").await;
    victim.kill().await;

    let jobs = [
        NewJob::new("poison", &json!({})).with_attempts(3),
        NewJob::new("panic", &json!({})).with_attempts(2),
        NewJob::new("book", &json!({ "work_ms": "pa55word" })),
        NewJob::new("flaky", &json!({})),
        book(60_000, 0).with_key("slow").with_attempts(1),
        NewJob::new("of another program", &json!({})),
        // Longer than its lease: it is renewed, and so taken once.
        book(1_800, 0).with_key("renewed"),
    ];
    queue.enqueue(&jobs).await.unwrap();
    let mut worker = Process::start(&database.url(), &[("WORKER_JOB_TIMEOUT", "2s")]).await;
    let _other = Process::start(&database.url(), &[("WORKER_JOB_TIMEOUT", "2s")]).await;
    until(&queue, "select count(*) = 1 from worker_jobs where state in ('queued', 'running')").await;
    let all = "select kind, state, attempts, coalesce(last_error, '') from worker_jobs order by id";
    let all = queue.database.query(Query::new(all)).await.unwrap();
    let all: Vec<(String, String, i32, String)> = all.read_all().unwrap();
    let expected = [
        ("book", "dead", 1, "attempt 1 of 1 had no end: its worker victim died, froze or lost the database"),
        ("poison", "dead", 3, "nobody can do this one"),
        ("panic", "dead", 2, "it panicked: this job panics"),
        ("book", "dead", 1, "its payload is none of a \"book\""),
        ("flaky", "done", 3, ""),
        ("book", "dead", 1, "timeout `jobs`"),
        ("of another program", "queued", 0, ""),
        ("book", "done", 1, ""),
    ];
    assert_eq!(all.len(), expected.len());
    // The keys decide about the order within a batch.
    for (kind, state, attempts, why) in expected {
        let found =
            all.iter().any(|it| it.0 == kind && it.1 == state && it.2 == attempts && it.3.starts_with(why));
        assert!(found, "{kind} {state} {attempts} {why:?} in {all:#?}");
    }
    assert!(all.iter().all(|it| !it.3.contains("pa55word")), "{all:#?}");
    worker.signal(Signal::SIGINT);
    worker.says("Stopped").await;
    assert_eq!(worker.ends().await, Some(0), "neither panic nor poison took it down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_one_job_and_a_transaction_takes_its_jobs_along() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    let ada = book(0, 0).with_key("ada");
    assert_eq!(queue.enqueue(&[ada.clone(), ada.clone(), book(0, 0)]).await.unwrap(), 2);
    assert_eq!(queue.enqueue(std::slice::from_ref(&ada)).await.unwrap(), 0);
    assert_eq!(queue.enqueue(&[]).await.unwrap(), 0);

    // Callers who bring the same keys at the same moment, in another order.
    let mut many: Vec<_> = (0..50).map(|n| book(0, 0).with_key(format!("many-{n}"))).collect();
    let (one_way, other) = (many.clone(), {
        many.reverse();
        many
    });
    let added =
        futures_util::future::join_all([&one_way, &other, &one_way, &other].map(|jobs| queue.enqueue(jobs)))
            .await;
    assert_eq!(added.into_iter().map(Result::unwrap).sum::<i64>(), 50);

    let outbox = async |commit: bool| {
        let work = queue.database.transaction(async |tx| {
            let added = Queue::enqueue_in(tx, &[book(0, 0).with_key("outbox")]).await?;
            if commit { Ok(added) } else { Err(Failure::Failed("rolled back".into())) }
        });
        work.await
    };
    assert!(outbox(false).await.is_err());
    let count = "select count(*) from worker_jobs";
    assert_eq!(one::<(i64,)>(&queue, count).await, (52,), "it went with its transaction");
    assert_eq!(outbox(true).await.unwrap(), 1);
    assert_eq!(outbox(true).await.unwrap(), 0, "the key still holds");

    // Whatever is refused enqueues nothing: a NUL is no text of Postgres.
    let refused = queue.enqueue(&[book(0, 0), NewJob::new("book", &json!({ "note": "\0" }))]).await;
    assert!(matches!(refused, Err(Error::Database { .. })), "{refused:?}");
    assert_eq!(one::<(i64,)>(&queue, count).await, (53,));

    // A worker that never looks by itself is woken: by a new job, and by one whose transaction commits.
    let _worker = Process::start(&database.url(), &[("WORKER_POLL", "60m")]).await;
    until(&queue, "select count(*) = 53 from worker_jobs where state = 'done'").await;
    let since = Instant::now();
    queue.enqueue(&[book(0, 0)]).await.unwrap();
    until(&queue, "select count(*) = 54 from worker_jobs where state = 'done'").await;
    assert!(since.elapsed() < 2 * SECOND, "{:?}", since.elapsed());
    queue.enqueue(&[book(0, 0).after(60 * SECOND)]).await.unwrap();
    sleep(SECOND / 2).await;
    assert_eq!(one::<(i64,)>(&queue, "select count(*) from worker_jobs where state = 'queued'").await, (1,));

    // What was done is forgotten, and its key with it.
    assert_eq!(queue.tidy(60 * SECOND).await.unwrap(), 0);
    assert_eq!(one::<(i64,)>(&queue, count).await, (55,));
    queue.tidy(Duration::ZERO).await.unwrap();
    assert_eq!(one::<(i64,)>(&queue, count).await, (1,));
    assert_eq!(queue.enqueue(&[ada]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_settings_it_shows_what_it_does_and_wrong_ones_are_one_line() {
    let secret = "pa55word";
    for (name, value, says) in [
        ("DATABASE_URL", format!("mysql://root:{secret}@localhost/x"), "must begin with postgres://"),
        (
            "DATABASE_URL",
            format!("postgres://root:{secret}@127.0.0.1:1/x"),
            "DATABASE_URL: postgres `jobs-db`",
        ),
        ("WORKER_CONCURRENCY", "0".into(), "WORKER_CONCURRENCY: \"0\" must be a number from 1 to 1000"),
        ("WORKER_LEASE", "30".into(), "WORKER_LEASE: \"30\" must be like 250ms, 30s or 5m"),
        ("WORKER_LEASE", "1ms".into(), "WORKER_LEASE: below 200ms"),
        ("WORKER_POLL", "0s".into(), "WORKER_POLL: \"0s\" must be"),
        ("WORKER_DRAIN", "99999999999999999999m".into(), "WORKER_DRAIN: "),
        ("WORKER_KEEP", "soon".into(), "WORKER_KEEP: "),
    ] {
        let output =
            Command::new(example("worker")).env(name, &value).stdin(Stdio::null()).output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("worker: ") && stderr.contains(says) && !stderr.contains(secret),
            "{stderr}"
        );
        assert!(output.stdout.is_empty());
    }

    let mut demonstration = Process::start("", &[]).await;
    demonstration.says("A throw-away Postgres at postgres://").await;
    sleep(SECOND).await;
    demonstration.signal(Signal::SIGINT);
    demonstration.says("Stopped. Attempts: ").await;
    demonstration.says("buttress_worker_attempts_total").await;
    demonstration.says("panic    dead").await;
    demonstration.says("receipt sent").await;
    assert_eq!(demonstration.ends().await, Some(0));
}
