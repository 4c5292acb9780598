//! The queue: a table of Postgres, and every statement that changes it but the one that finishes a job
//! ([`Attempt::finish`](crate::job::Attempt::finish)).
//!
//! All times are the server's, so that the workers' clocks need not agree.

use std::time::Duration;

use buttress_circuit_breaker::Breaker;
use buttress_core::Deadline;
use buttress_postgres::{Error, Postgres, Query, Rows, SqlStateClassifier, Transaction};
use tokio::time::Instant;

use crate::job::{Job, NewJob};

/// Where new jobs are notified.
pub(crate) const CHANNEL: &str = "worker_jobs";

/// `leased_until` of what is running and `run_at` of what waits are one order: that in which jobs become due.
const SCHEMA: [&str; 4] = [
    "create table worker_jobs (
        id bigint generated always as identity primary key,
        kind text not null,
        payload jsonb not null,
        key text unique,
        state text not null default 'queued' check (state in ('queued', 'running', 'done', 'dead')),
        attempts int not null default 0,
        max_attempts int not null check (max_attempts > 0),
        run_at timestamptz not null,
        lease bigint not null default 0,
        leased_until timestamptz,
        worker text,
        last_error text,
        enqueued_at timestamptz not null default now(),
        finished_at timestamptz
    )",
    "create index worker_jobs_due on worker_jobs (coalesce(leased_until, run_at), id)
        where state in ('queued', 'running')",
    "create index worker_jobs_done on worker_jobs (finished_at) where state = 'done'",
    // A job is rewritten several times. What it was before must not pile up where the next one is looked for.
    "alter table worker_jobs set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.05)",
];

/// A handle to the queue. Clones share the pool and the breaker.
#[derive(Clone)]
pub(crate) struct Queue {
    pub(crate) database: Postgres,
    /// Before every statement, so that a dead database is asked now and then instead of always.
    pub(crate) breaker: Breaker,
    /// How long a job is a worker's without a word of the worker's.
    pub(crate) lease: Duration,
}

impl Queue {
    /// Makes the table if it is missing, one process at a time.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn create(&self) -> Result<(), Error> {
        let work = async |tx: &Transaction<'_>| {
            tx.query(Query::new("select pg_advisory_xact_lock(hashtext('worker_jobs'))")).await?;
            // `create index if not exists` would lock the table, and all workers out, even where there is nothing to do.
            let there = tx.query(Query::new("select to_regclass('worker_jobs') is not null")).await?;
            if !there.one()?.get::<bool>(0)? {
                for statement in SCHEMA {
                    tx.query(Query::new(statement)).await?;
                }
            }
            Ok::<_, Error>(())
        };
        Deadline::after(Duration::from_secs(10)).scope(self.database.transaction(work)).await
    }

    /// Enqueues all or none, and tells how many are new: those whose key is there already are left out.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn enqueue(&self, jobs: &[NewJob]) -> Result<i64, Error> {
        self.ask(insert(jobs)).await?.one()?.get("added")
    }

    /// The same in a transaction of the caller's: the jobs are there if and only if it commits (a transactional outbox).
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn enqueue_in(tx: &Transaction<'_>, jobs: &[NewJob]) -> Result<i64, Error> {
        tx.query(insert(jobs)).await?.one()?.get("added")
    }

    /// Takes up to `most` jobs that are due: new ones, failed ones whose wait is over, and those whose lease ran out.
    /// Each counts as an attempt from here on, so that a job that kills its worker is dead in the end, too.
    ///
    /// What others are taking or finishing at this moment is passed over, not waited for.
    ///
    /// # Errors
    /// The database's. If the answer was lost, what was taken is nobody's until its lease runs out.
    pub(crate) async fn take(&self, kinds: &[&str], worker: &str, most: usize) -> Result<Vec<Job>, Error> {
        // Materialized, lest the planner look for the due ones more than once, and so take more than `most`.
        let take = "with due as materialized (
                select id from worker_jobs
                where state in ('queued', 'running') and coalesce(leased_until, run_at) <= now()
                    and attempts < max_attempts and kind = any(:kinds)
                order by coalesce(leased_until, run_at), id limit :most for update skip locked
            )
            update worker_jobs as job
            set state = 'running', attempts = attempts + 1, lease = lease + 1, worker = :worker,
                leased_until = now() + make_interval(secs => :lease)
            from due where job.id = due.id
            returning job.id, kind, payload::text, coalesce(key, format('job-%s-%s', job.id, extract(epoch from enqueued_at))),
                attempts, lease";
        let take = Query::new(take)
            .bind("kinds", kinds.iter().map(|&kind| kind.to_owned()).collect::<Vec<_>>())
            .bind("most", i64::try_from(most).unwrap_or(i64::MAX))
            .bind("worker", worker.to_owned())
            .bind("lease", self.lease.as_secs_f64());
        let rows = self.ask(take).await?;
        let job = |(id, kind, payload, key, attempt, lease)| Job { id, kind, payload, key, attempt, lease };
        rows.iter().map(|row| row.read().map(job)).collect()
    }

    /// Renews those leases, and tells which of them are lost: somebody else has the job, or it has ended.
    ///
    /// A job whose row is locked is passed over. It is about to end, and to wait for that would cost the others their leases.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn renew(&self, held: &[(i64, i64)]) -> Result<Vec<(i64, i64)>, Error> {
        let renew = "with held as (select * from unnest(:ids::int8[], :leases::int8[]) as held (id, lease)),
            kept as (
                select job.id from worker_jobs as job join held using (id, lease)
                where state = 'running' for update of job skip locked
            ), renewed as (
                update worker_jobs as job set leased_until = now() + make_interval(secs => :lease)
                from kept where job.id = kept.id
            )
            select id, lease from held where not exists
                (select from worker_jobs as job where job.id = held.id and job.lease = held.lease and state = 'running')";
        let renew = with_leases(Query::new(renew), held).bind("lease", self.lease.as_secs_f64());
        self.ask(renew).await?.read_all()
    }

    /// Gives leases back, as if the jobs had not been taken, and tells how many.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn give_back(&self, held: &[(i64, i64)]) -> Result<i64, Error> {
        let give = "with given as (
                update worker_jobs as job
                set state = 'queued', attempts = attempts - 1, lease = job.lease + 1, leased_until = null, worker = null
                from unnest(:ids::int8[], :leases::int8[]) as held (id, lease)
                where job.id = held.id and job.lease = held.lease and state = 'running' returning 1
            )
            select count(*) as given, pg_notify(:channel, '')::text from given";
        let give = with_leases(Query::new(give), held).bind("channel", CHANNEL);
        self.ask(give).await?.one()?.get("given")
    }

    /// Notes that an attempt failed: the job is due again after up to `delay`, or dead if that was its last attempt or
    /// there is no `delay`. Tells whether it is dead; `None` if somebody else holds it by now.
    ///
    /// # Errors
    /// The database's. The lease runs out then, and others take the job.
    pub(crate) async fn fail(
        &self,
        job: &Job,
        why: &str,
        delay: Option<Duration>,
    ) -> Result<Option<bool>, Error> {
        // Half of the wait is by chance, so that what failed together does not come back together.
        let fail = "update worker_jobs
            set state = case when :hopeless or attempts >= max_attempts then 'dead' else 'queued' end,
                run_at = now() + make_interval(secs => :delay * (1 + random()) / 2),
                leased_until = null, last_error = :why,
                finished_at = case when :hopeless or attempts >= max_attempts then now() end
            where id = :id and lease = :lease and state = 'running' returning state = 'dead'";
        let fail = Query::new(fail)
            .bind("hopeless", delay.is_none())
            .bind("delay", delay.unwrap_or_default().as_secs_f64())
            // Whatever a job says, the row takes it.
            .bind("why", why.chars().filter(|&it| it != '\0').take(1_000).collect::<String>())
            .bind("id", job.id)
            .bind("lease", job.lease);
        self.ask(fail).await?.optional()?.map(|row| row.get(0)).transpose()
    }

    /// Buries what spent its last attempt without an end, and forgets what was done `keep` ago: a thousand at a time, until
    /// there are no more or it has taken a second, or a good part of a lease. The dead are kept: somebody has to look at
    /// them. Tells how many were buried.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn tidy(&self, keep: Duration) -> Result<i64, Error> {
        let tidy = "with lost as (
                select id from worker_jobs
                where state = 'running' and leased_until <= now() and attempts >= max_attempts
                limit 1000 for update skip locked
            ), old as (
                select id from worker_jobs
                where state = 'done' and finished_at < now() - make_interval(secs => :keep)
                limit 1000 for update skip locked
            ), buried as (
                update worker_jobs as job set state = 'dead', finished_at = now(), leased_until = null,
                    lease = lease + 1, last_error = format(
                        'attempt %s of %s had no end: its worker %s died, froze or lost the database; before that: %s',
                        attempts, max_attempts, worker, coalesce(last_error, 'nothing'))
                from lost where job.id = lost.id returning 1
            ), forgotten as (delete from worker_jobs as job using old where job.id = old.id)
            select (select count(*) from buried), (select count(*) from old)";
        let late = Instant::now() + (self.lease / 8).min(Duration::from_secs(1));
        let mut all = 0;
        loop {
            let tidied = self.ask(Query::new(tidy).bind("keep", keep.as_secs_f64())).await?;
            let (buried, forgotten): (i64, i64) = tidied.one()?.read()?;
            all += buried;
            if buried.max(forgotten) < 1000 || Instant::now() >= late {
                return Ok(all);
            }
        }
    }

    /// Behind the breaker, and with a limit: a statement that hangs must neither cost the leases nor keep a worker from its end.
    async fn ask(&self, query: Query) -> Result<Rows, Error> {
        let limit = (self.lease / 4).min(Duration::from_secs(5));
        let asked = async || Deadline::after(limit).scope(self.database.query(query)).await;
        self.breaker.call_with(SqlStateClassifier, asked).await
    }
}

fn with_leases(query: Query, held: &[(i64, i64)]) -> Query {
    let (ids, leases): (Vec<_>, Vec<_>) = held.iter().copied().unzip();
    query.bind("ids", ids).bind("leases", leases)
}

/// One statement for any number of jobs, which tells the workers if there is anything new.
fn insert(jobs: &[NewJob]) -> Query {
    // In the order of the keys, so that two who enqueue the same ones cannot deadlock. What is there is left out before there
    // is a conflict, which would wait for the transaction in which that job comes to its end.
    let insert = "with given as (
            select * from unnest(:kinds::text[], :payloads::text[], :keys::text[], :delays::float8[], :attempts::int4[])
                with ordinality as given (kind, payload, key, delay, attempts, place)
        ), added as (
            insert into worker_jobs (kind, payload, key, run_at, max_attempts)
            select kind, payload::jsonb, key, now() + make_interval(secs => delay), attempts
            from given where not exists (select from worker_jobs as job where job.key = given.key)
            order by key, place on conflict (key) do nothing returning 1
        )
        select count(*) as added, case when count(*) > 0 then pg_notify(:channel, '')::text end from added";
    Query::new(insert)
        .bind("kinds", jobs.iter().map(|job| job.kind).collect::<Vec<_>>())
        .bind("payloads", jobs.iter().map(|job| job.payload.clone()).collect::<Vec<_>>())
        .bind("keys", jobs.iter().map(|job| job.key.clone()).collect::<Vec<_>>())
        .bind("delays", jobs.iter().map(|job| job.delay.as_secs_f64()).collect::<Vec<_>>())
        .bind("attempts", jobs.iter().map(|job| job.attempts).collect::<Vec<_>>())
        .bind("channel", CHANNEL)
}
