//! The servers, the programs under test, and what is done to them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buttress_testkit::{Fault, FaultProxy, PostgresServer, RedisServer};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::{
    args::Args,
    configuration::{self, Backends, database_url},
    processes::{Ended, Process, Recipe},
    schedule::{Kind, Part, Planned},
    upstream::{Mood, Upstream},
};

const WORKERS: usize = 3;
/// What is given to each to end in.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// A reload is a matter of milliseconds.
const RELOAD: Duration = Duration::from_secs(3);
/// After a fault of the upstream's: what it had begun to repeat.
const REPEATS: Duration = Duration::from_secs(3);

/// Everything that runs.
pub(crate) struct World {
    pub(crate) postgres: PostgresServer,
    pub(crate) redis: RedisServer,
    pub(crate) upstream: Arc<Upstream>,
    to_postgres: FaultProxy,
    to_redis: FaultProxy,
    to_upstream: FaultProxy,
    backends: Backends,
    config: PathBuf,
    pub(crate) gateway: Process,
    workers: Vec<Process>,
    recipes: Vec<Recipe>,
    /// Those of the workers that run, for whoever watches.
    pub(crate) worker_pids: Arc<Mutex<Vec<u32>>>,
}

impl World {
    /// Starts it.
    ///
    /// # Errors
    /// What does not start.
    pub(crate) async fn start(args: &Args, folder: &Path) -> Result<Self, String> {
        let server = |error: std::io::Error| error.to_string();
        let postgres = PostgresServer::try_start().await.map_err(server)?;
        let redis = RedisServer::try_start().await.map_err(server)?;
        let upstream = Arc::new(Upstream::start().await.map_err(server)?);
        let to_postgres = FaultProxy::start(postgres.addr()).await;
        let to_redis = FaultProxy::start(redis.addr()).await;
        let to_upstream = FaultProxy::start(upstream.address()).await;
        let backends =
            Backends { postgres: to_postgres.addr(), redis: to_redis.addr(), upstream: to_upstream.addr() };
        let config = folder.join("gateway.toml");
        fs::write(&config, configuration::right(backends, 0)).map_err(server)?;
        let recipes: Vec<_> = (0..WORKERS).map(|number| worker(args, folder, backends, number)).collect();
        let mut workers = Vec::new();
        for recipe in &recipes {
            workers.push(Process::start(recipe).await?);
        }
        let gateway = Process::start(&gateway(args, folder, &config)).await?;
        let world = Self {
            postgres,
            redis,
            upstream,
            to_postgres,
            to_redis,
            to_upstream,
            backends,
            config,
            gateway,
            workers,
            recipes,
            worker_pids: Arc::default(),
        };
        world.note_pids();
        Ok(world)
    }

    /// The address in the gateway's line that begins so.
    pub(crate) fn gateway_address(&self, words: &str) -> Option<std::net::SocketAddr> {
        let said = self.gateway.said();
        let line = said.iter().find(|line| line.contains(words))?;
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"))?;
        url.trim_end_matches("/metrics").parse().ok()
    }

    /// Does it, waits, and lifts it again.
    ///
    /// # Errors
    /// What went otherwise than it should: a reload that was not taken, a worker that does not start.
    pub(crate) async fn inflict(&mut self, planned: &Planned) -> Result<(), String> {
        let delay = planned.delay.unwrap_or_default();
        let lasts = planned.lasts;
        let is_upstream_s = matches!(planned.kind.part(), Part::Upstream | Part::Network);
        if is_upstream_s {
            self.upstream.set_troubled(true);
        }
        match planned.kind {
            Kind::PostgresKilled => {
                self.postgres.kill().await;
                sleep(lasts).await;
                self.postgres.restart().await;
            }
            Kind::PostgresFrozen => {
                self.postgres.pause();
                sleep(lasts).await;
                self.postgres.resume();
            }
            Kind::PostgresBlackHole => through(&self.to_postgres, Fault::BlackHole, lasts).await,
            Kind::PostgresSlow => through(&self.to_postgres, Fault::Latency(delay), lasts).await,
            Kind::RedisKilled => {
                self.redis.kill().await;
                sleep(lasts).await;
                self.redis.restart().await;
            }
            Kind::RedisFrozen => {
                self.redis.pause();
                sleep(lasts).await;
                self.redis.resume();
            }
            Kind::RedisBlackHole => through(&self.to_redis, Fault::BlackHole, lasts).await,
            Kind::RedisSlow => through(&self.to_redis, Fault::Latency(delay), lasts).await,
            Kind::UpstreamGone => through(&self.to_upstream, Fault::Refuse, lasts).await,
            Kind::UpstreamBlackHole => through(&self.to_upstream, Fault::BlackHole, lasts).await,
            Kind::UpstreamReset => through(&self.to_upstream, Fault::Reset, lasts).await,
            Kind::UpstreamFrozen => self.in_mood(Mood::Frozen, lasts).await,
            Kind::UpstreamSlow => self.in_mood(Mood::Slow(delay), lasts).await,
            Kind::UpstreamErrors => self.in_mood(Mood::Failing, lasts).await,
            Kind::WorkerKilled => self.replace_worker(planned.pick % WORKERS).await?,
            Kind::WorkerFrozen => {
                let worker = &self.workers[planned.pick % WORKERS];
                worker.signal(Signal::SIGSTOP)?;
                sleep(lasts).await;
                worker.signal(Signal::SIGCONT)?;
            }
            Kind::NetworkCut => {
                [&self.to_postgres, &self.to_redis, &self.to_upstream].into_iter().for_each(FaultProxy::cut);
            }
            Kind::RightReload => self.reload_right(planned.pick).await?,
            Kind::WrongReload => self.reload_wrong(planned.pick).await?,
        }
        if is_upstream_s {
            let upstream = Arc::clone(&self.upstream);
            tokio::spawn(async move {
                sleep(REPEATS).await;
                upstream.set_troubled(false);
            });
        }
        Ok(())
    }

    async fn in_mood(&self, mood: Mood, lasts: Duration) {
        self.upstream.set(mood);
        sleep(lasts).await;
        self.upstream.set(Mood::Well);
    }

    async fn replace_worker(&mut self, number: usize) -> Result<(), String> {
        // It keeps its place: where the new one does not start, the others are still who they were.
        let killed = self.workers[number].kill().await;
        self.note_pids();
        killed?;
        self.workers[number] = Process::start(&self.recipes[number]).await?;
        self.note_pids();
        Ok(())
    }

    async fn reload_right(&self, turn: usize) -> Result<(), String> {
        match self.reload(&configuration::right(self.backends, turn)).await?.as_str() {
            "Reloaded." => Ok(()),
            other => Err(format!("a right configuration was not taken: {other}")),
        }
    }

    /// It is refused, and the file says the right thing again.
    async fn reload_wrong(&self, turn: usize) -> Result<(), String> {
        let said = self.reload(&configuration::wrong(self.backends, turn)).await;
        self.write(&configuration::right(self.backends, 0))?;
        match said?.as_str() {
            "Reloaded." => Err(format!("a wrong configuration (number {}) was taken", turn % 4)),
            _ => Ok(()),
        }
    }

    /// What it says to that.
    async fn reload(&self, config: &str) -> Result<String, String> {
        self.write(config)?;
        let before = self.gateway.said().len();
        self.gateway.signal(Signal::SIGHUP)?;
        let said = self.gateway.says("eloaded", before, RELOAD).await;
        said.ok_or_else(|| format!("a reload was not answered in {RELOAD:?}"))
    }

    /// At once, as a careful administrator does.
    fn write(&self, config: &str) -> Result<(), String> {
        let new = self.config.with_extension("new");
        let written = fs::write(&new, config).and_then(|()| fs::rename(&new, &self.config));
        written.map_err(|error| error.to_string())
    }

    fn note_pids(&self) {
        let pids = self.workers.iter().filter_map(Process::pid).collect();
        *self.worker_pids.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    /// Tells all of them to end at once.
    pub(crate) async fn end(self) -> Vec<Ended> {
        let Self { gateway, workers, .. } = self;
        let mut ends = tokio::task::JoinSet::new();
        for process in workers.into_iter().chain([gateway]) {
            ends.spawn(process.end(GRACE));
        }
        ends.join_all().await
    }
}

async fn through(proxy: &FaultProxy, fault: Fault, lasts: Duration) {
    proxy.set(fault);
    if fault == Fault::Refuse {
        proxy.cut();
    }
    sleep(lasts).await;
    proxy.set(Fault::Pass);
}

fn gateway(args: &Args, folder: &Path, config: &Path) -> Recipe {
    let grace = humantime::format_duration(GRACE).to_string();
    let environment = [
        ("GATEWAY_ADDR", "127.0.0.1:0"),
        ("GATEWAY_METRICS", "127.0.0.1:0"),
        ("GATEWAY_DEADLINE", &grace),
        ("GATEWAY_CONFIG", &config.display().to_string()),
        ("RUST_LOG", "error"),
    ];
    recipe("gateway", &args.gateway, &environment, folder, "for Prometheus")
}

fn worker(args: &Args, folder: &Path, backends: Backends, number: usize) -> Recipe {
    let (name, grace) = (format!("worker-{number}"), format!("{}s", GRACE.as_secs()));
    let environment = [
        ("DATABASE_URL", &*database_url(backends.postgres)),
        ("WORKER_NAME", &name),
        // Few, so that their pools are full before the first fault.
        ("WORKER_CONCURRENCY", "4"),
        ("WORKER_LEASE", "2s"),
        ("WORKER_POLL", "500ms"),
        ("WORKER_BACKOFF", "100ms"),
        ("WORKER_JOB_TIMEOUT", "10s"),
        ("WORKER_DRAIN", &grace),
        ("RUST_LOG", "error"),
    ];
    recipe(&name, &args.worker, &environment, folder, " works, ")
}

fn recipe(
    name: &str,
    program: &Path,
    environment: &[(&str, &str)],
    logs: &Path,
    ready: &'static str,
) -> Recipe {
    Recipe {
        name: name.to_owned(),
        program: program.to_owned(),
        environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        logs: logs.to_owned(),
        ready,
    }
}
