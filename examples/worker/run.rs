//! The worker: takes what is due, runs so many at once, renews their leases, and stops well.

use std::{collections::HashMap, time::Duration};

use buttress_bulkhead::{BulkheadLayer, InvalidLimit, Limit, Limiter, Permit};
use buttress_core::Backoff;
use buttress_postgres::Listener;
use buttress_telemetry::{RegisterError, Registry};
use buttress_timeout::TimeoutLayer;
use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tower::{Layer, service_fn};
use tracing::{info, warn};

use crate::{
    carry_out::carry_out,
    counts::{Counts, End},
    job::{Attempt, Failure, Finished, Job},
    queue::Queue,
    settings::Settings,
};

/// A worker of one process.
///
/// Its loop holds the leases and is the only one that takes, renews and gives back. Each attempt is a task of its own, which
/// notes its own end.
pub(crate) struct Worker<P> {
    queue: Queue,
    settings: Settings,
    kinds: &'static [&'static str],
    perform: P,
    limiter: Limiter,
    limit: TimeoutLayer,
    backoff: Backoff,
    counts: Counts,
    running: JoinSet<End>,
    held: HashMap<Id, Held>,
}

struct Held {
    /// The job's id, and which lease of it.
    lease: (i64, i64),
    /// Whether it was no longer this worker's when the leases were renewed.
    lost: bool,
    task: AbortHandle,
}

impl<P, F> Worker<P>
where
    P: Fn(Attempt) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Finished, Failure>> + Send + 'static,
{
    /// One that does jobs of these kinds by `perform`. Jobs of other kinds are left to others.
    ///
    /// # Errors
    /// Of the concurrency.
    pub(crate) fn new(
        queue: Queue,
        settings: Settings,
        kinds: &'static [&'static str],
        perform: P,
    ) -> Result<Self, InvalidLimit> {
        let limiter = BulkheadLayer::new("jobs", Limit::fixed(settings.concurrency)?).limiter();
        let longest = Duration::from_secs(300);
        let backoff = Backoff::exponential(settings.backoff.min(longest), longest);
        Ok(Self {
            queue,
            kinds,
            perform,
            limiter,
            limit: TimeoutLayer::new(settings.job_timeout).name("jobs"),
            backoff: backoff.unwrap_or(Backoff::constant(longest)),
            counts: Counts::new("jobs"),
            running: JoinSet::new(),
            held: HashMap::new(),
            settings,
        })
    }

    /// Shows what it is made of.
    ///
    /// # Errors
    /// The registry's.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), RegisterError> {
        let stack = registry.stack("jobs").layer(&self.counts).layer(&self.limiter).layer(&self.limit);
        stack.layer(&self.queue.breaker).layer(&self.queue.database).register()
    }

    /// What it has done so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Works until `stop`, and then lets go of all that it holds.
    pub(crate) async fn run(&mut self, mut listener: Listener, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let (mut poll, mut tend) = (every(self.settings.poll), every(self.settings.lease / 3));
        let mut more = true;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = tend.tick() => self.tend(true).await,
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                Some(_) = listener.next() => more = true,
                _ = poll.tick() => more = true,
                () = std::future::ready(()), if more && self.has_room() => more = self.take().await,
            }
        }
        self.drain().await;
    }

    fn has_room(&self) -> bool {
        self.held.len() < self.limiter.limit() as usize
    }

    /// Begins as many jobs as there is room for. Tells whether there may be more.
    async fn take(&mut self) -> bool {
        // No more than are free: what is refused counts as a rejection.
        let room = (self.limiter.limit() as usize).saturating_sub(self.held.len());
        let permits: Vec<Permit> = (0..room).map_while(|_| self.limiter.try_acquire().ok()).collect();
        let most = permits.len();
        let jobs = match self.queue.take(self.kinds, &self.settings.name, most).await {
            Ok(jobs) => jobs,
            Err(error) => {
                warn!(%error, "nothing could be taken");
                return false;
            }
        };
        let full = jobs.len() == most;
        for (job, permit) in jobs.into_iter().zip(permits) {
            let lease = (job.id, job.lease);
            let task = self.begin(job, permit);
            self.held.insert(task.id(), Held { lease, lost: false, task });
        }
        full
    }

    fn begin(&mut self, job: Job, permit: Permit) -> AbortHandle {
        let perform = self.limit.layer(service_fn(self.perform.clone()));
        let delay = self.backoff.ceiling(job.attempt.unsigned_abs().saturating_sub(1));
        let attempt = Attempt { queue: self.queue.clone(), job };
        self.running.spawn(async move {
            let _permit = permit;
            carry_out(attempt, perform, delay).await
        })
    }

    fn ended(&mut self, ended: Result<(Id, End), JoinError>) {
        let (task, end) = match ended {
            Ok(ended) => ended,
            // It was aborted, since somebody else has the job.
            Err(error) => (error.id(), End::Lost),
        };
        self.held.remove(&task);
        self.counts.add(end, 1);
    }

    fn leases(&self) -> Vec<(i64, i64)> {
        self.held.values().map(|held| held.lease).collect()
    }

    /// Renews the leases, and stops whatever lost its own: it could not finish any more.
    async fn tend(&mut self, tidy: bool) {
        if !self.held.is_empty() {
            match self.queue.renew(&self.leases()).await {
                Ok(lost) => {
                    for held in self.held.values_mut().filter(|held| lost.contains(&held.lease)) {
                        // What has just ended is among them, too: it has until the next time to say so.
                        if held.lost {
                            held.task.abort();
                        }
                        held.lost = true;
                    }
                }
                Err(error) => warn!(%error, "the leases could not be renewed"),
            }
        }
        if tidy {
            match self.queue.tidy(self.settings.keep).await {
                Ok(0) => {}
                Ok(buried) => warn!(buried, "jobs whose last attempt had no end are dead"),
                Err(error) => warn!(%error, "nothing could be tidied up"),
            }
        }
    }

    /// Takes nothing new. What runs may end, for so long; what does not is dropped, and given back.
    async fn drain(&mut self) {
        let (late, mut tend) = (sleep(self.settings.drain), every(self.settings.lease / 3));
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                ended = self.running.join_next_with_id() => match ended {
                    Some(ended) => self.ended(ended),
                    None => break,
                },
                () = &mut late => break,
                _ = tend.tick() => self.tend(false).await,
            }
        }
        // Dropped, a transaction is rolled back. Code that does not yield is not waited for: it is fenced by what follows.
        self.running.abort_all();
        let rest = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                if ended.is_ok() {
                    self.ended(ended);
                }
            }
        };
        _ = timeout(Duration::from_secs(1), rest).await;
        if self.held.is_empty() {
            return;
        }
        let leases = self.leases();
        match self.queue.give_back(&leases).await {
            Ok(given) => {
                info!(given, "leases were given back");
                self.counts.add(End::GivenBack, given.unsigned_abs());
            }
            Err(error) => warn!(%error, "leases could not be given back: they run out by themselves"),
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
