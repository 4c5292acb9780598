//! What is around a worker and not well: a pipeline that is gone, a start that hangs, a lease of months, a table that fills fast.

use std::{collections::HashSet, process::Stdio};

use buttress_postgres::{Error, Query};
use buttress_testkit::{TestDatabase, example};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, time::timeout};

use crate::{
    HOLDS, SECOND, book,
    process::{Process, one, queue, until},
};

/// Ctrl-C reaches all of `worker 2>&1 | tee log`, and whoever reads is gone first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_42_a_worker_whose_words_nobody_reads_gives_its_leases_back_all_the_same() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    queue.enqueue(&[book(60_000, 0), book(500, 0)]).await.unwrap();
    let mut worker = Command::new(example("worker"))
        .envs([("DATABASE_URL", &*database.url()), ("RUST_LOG", "worker=info")])
        .envs([("WORKER_LEASE", "5m"), ("WORKER_DRAIN", "1s")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until(&queue, "select count(*) = 2 from worker_jobs where state = 'running'").await;
    drop((worker.stdout.take(), worker.stderr.take()));
    let pid = worker.id().expect("it still runs");
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGINT).unwrap();
    let ended = timeout(20 * SECOND, worker.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0));
    let states = "select count(*) filter (where state = 'done'), count(*) filter (where state = 'queued') from worker_jobs";
    assert_eq!(one::<(i64, i64)>(&queue, states).await, (1, 1), "one came to its end, one was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_43_a_worker_is_stopped_while_its_start_waits_for_another_one() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    let work = queue.database.transaction(async |tx| {
        // As one that froze while it made the table.
        tx.query(Query::new("select pg_advisory_xact_lock(hashtext('worker_ledger'))")).await?;
        let worker = Process::start(&database.url(), &[]).await;
        until(&queue, "select exists (select from pg_locks where locktype = 'advisory' and not granted)")
            .await;
        worker.signal(Signal::SIGTERM);
        assert_eq!(worker.ends().await, Some(0));
        Ok::<_, Error>(())
    });
    work.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_44_a_lease_of_months_lets_jobs_end() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    queue.enqueue(&[book(0, 0)]).await.unwrap();
    // More milliseconds than a setting of Postgres can be.
    let _worker = Process::start(&database.url(), &[("WORKER_LEASE", "525600m")]).await;
    until(&queue, "select count(*) = 1 from worker_jobs where state = 'done' and attempts = 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_45_a_key_that_is_there_is_not_waited_for_while_its_job_ends() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), SECOND).await;
    let jobs = [book(0, 60_000).with_key("ada")];
    queue.enqueue(&jobs).await.unwrap();
    let _worker = Process::start(&database.url(), &[("WORKER_LEASE", "5m")]).await;
    until(&queue, HOLDS).await;
    assert_eq!(queue.enqueue(&jobs).await.unwrap(), 0, "it does not wait for the other's transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_48_all_that_was_done_is_forgotten_however_much_it_is() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), 60 * SECOND).await;
    let done = "insert into worker_jobs (kind, payload, max_attempts, run_at, state, finished_at)
        select 'book', '{}', 1, now(), 'done', now() - interval '2 days' from generate_series(1, 2500)";
    queue.database.query(Query::new(done)).await.unwrap();
    assert_eq!(queue.tidy(24 * 60 * 60 * SECOND).await.unwrap(), 0);
    assert_eq!(one::<(i64,)>(&queue, "select count(*) from worker_jobs").await, (0,));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_49_a_key_of_a_caller_s_is_no_key_that_was_made_up() {
    let database = TestDatabase::new().await;
    let queue = queue(&database.url(), 60 * SECOND).await;
    queue.enqueue(&[book(0, 0)]).await.unwrap();
    queue.enqueue(&[book(0, 0).with_key("job-1"), book(0, 0).with_key("job-3")]).await.unwrap();
    let keys: HashSet<_> =
        queue.take(&["book"], "test", 10).await.unwrap().into_iter().map(|job| job.key).collect();
    assert_eq!(keys.len(), 3, "whoever is told the key takes them for one: {keys:?}");
}
