//! The soak itself: everything is started, loaded, hurt, ended and counted.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};

use crate::{
    args::Args,
    jobs::{Jobs, connect, keys},
    load::Load,
    outcome::{Books, Soaked},
    recovery::Happened,
    schedule::{COOL_DOWN, PAUSE, Part, plan},
    watch::{Look, held, postgres_clients, redis_clients, tasks, together},
    world::World,
};

/// In which the workers do what is left.
const DRAIN: Duration = Duration::from_secs(60);

/// Does it, and tells what came of it and on which servers.
///
/// # Errors
/// What kept it from coming to its end.
pub(crate) async fn soak(args: &Args, seed: u64, folder: &Path) -> Result<(Soaked, String), String> {
    let mut world = World::start(args, folder).await?;
    let gateway = world.gateway_address("Listening on").ok_or("the gateway does not say where it listens")?;
    let metrics = world.gateway_address("for Prometheus").ok_or("the gateway has no figures")?;
    let servers = servers(&world).await?;
    Load::new(gateway, seed).prepare().await?;

    let (stop, stopped) = watch::channel(false);
    let (load, jobs) = (Load::new(gateway, seed), Jobs::default());
    let loading = tokio::spawn(load.clone().run(args.lasts, stopped.clone()));
    let enqueuing = tokio::spawn(jobs.clone().run(world.postgres.config(), seed, stopped));
    let (stop_watching, watched) = oneshot::channel();
    let watching = tokio::spawn(look_on(Looked::at(&world, metrics, load.begin()), watched));

    let faults = hurt(&mut world, &load, args.lasts, seed).await;
    sleep_until(load.begin() + args.lasts).await;
    // Whoever is left hears of it all the same.
    let _ = stop_watching.send(());
    let looks = watching.await.map_err(|error| format!("nobody looked: {error}"))?;
    stop.send_replace(true);
    loading.await.map_err(|error| format!("the load failed: {error}"))?;
    enqueuing.await.map_err(|error| format!("the jobs failed: {error}"))?;

    let upstream = world.upstream.counted();
    let books = settle(&world, &load, &jobs).await.map_err(|error| format!("the books: {error}"))?;
    let ends = world.end().await;
    let soaked = Soaked {
        seed,
        lasts: args.lasts,
        samples: load.samples(),
        bursts: load.bursts(),
        words: load.words(),
        faults,
        looks,
        upstream,
        books,
        ends,
    };
    Ok((soaked, servers))
}

/// One fault after another. One that comes too late, since those before took longer, is left out; the last one never is.
async fn hurt(world: &mut World, load: &Load, lasts: Duration, seed: u64) -> Vec<Happened> {
    let mut faults: Vec<Happened> = Vec::new();
    for planned in plan(seed, lasts) {
        let calm = faults.last().filter(|last| last.planned.kind.part() != Part::Configuration);
        let earliest = calm.map_or(planned.at, |last| planned.at.max(last.until + PAUSE));
        let is_last = planned.kind.part() == Part::Network;
        if !is_last && earliest + planned.lasts + PAUSE + COOL_DOWN > lasts {
            continue;
        }
        sleep_until(load.begin() + earliest).await;
        let from = load.now();
        eprintln!("soak: {:>6.1} s  {}", from.as_secs_f64(), planned.kind.name());
        let wrong = world.inflict(&planned).await.err();
        if let Some(wrong) = &wrong {
            eprintln!("soak: {wrong}");
        }
        faults.push(Happened { planned, from, until: load.now(), wrong });
    }
    faults
}

/// What is looked at.
struct Looked {
    gateway: Option<u32>,
    metrics: std::net::SocketAddr,
    workers: Arc<std::sync::Mutex<Vec<u32>>>,
    postgres: tokio_postgres::Config,
    redis: std::path::PathBuf,
    begin: Instant,
}

impl Looked {
    fn at(world: &World, metrics: std::net::SocketAddr, begin: Instant) -> Self {
        Self {
            gateway: world.gateway.pid(),
            metrics,
            workers: Arc::clone(&world.worker_pids),
            postgres: world.postgres.config(),
            redis: world.redis.unix_path().to_owned(),
            begin,
        }
    }

    async fn look(&self) -> Look {
        let (tasks, postgres, redis) =
            tokio::join!(tasks(self.metrics), postgres_clients(&self.postgres), redis_clients(&self.redis));
        let gateway = self.gateway.and_then(held).map(|held| crate::watch::Held { tasks, ..held });
        let pids = self.workers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let workers = together(pids.into_iter().filter_map(held));
        Look { at: self.begin.elapsed(), gateway, workers, postgres, redis }
    }
}

/// Once a second.
async fn look_on(looked: Looked, mut stop: oneshot::Receiver<()>) -> Vec<Look> {
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(Instant::now() + second, second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut looks = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => looks.push(looked.look().await),
            _ = &mut stop => return looks,
        }
    }
}

/// Waits until the workers have done what there is, and reads what there is.
async fn settle(world: &World, load: &Load, jobs: &Jobs) -> Result<Books, tokio_postgres::Error> {
    let client = connect(&world.postgres.config()).await?;
    let open = "select count(*) from worker_jobs where state in ('queued', 'running')";
    let late = Instant::now() + DRAIN;
    let open = loop {
        let open: i64 = client.query_one(open, &[]).await?.get(0);
        if open == 0 || Instant::now() >= late {
            break open;
        }
        sleep(Duration::from_millis(200)).await;
    };
    let of_orders =
        "select substr(key, 7), count(*) from worker_ledger where key like 'order/%' group by key";
    let of_jobs = "select key, count(*) from worker_ledger where key not like 'order/%' group by key";
    let dead = "select count(*) from worker_jobs where state = 'dead'";
    let (orders, sent) = (std::mem::take(&mut *load.orders()), std::mem::take(&mut *jobs.ledger()));
    Ok(Books {
        orders,
        order_rows: keys(&client, "select key, count(*) from orders group by key").await?,
        order_jobs: keys(&client, of_orders).await?,
        jobs: sent,
        job_rows: keys(&client, of_jobs).await?,
        dead: client.query_one(dead, &[]).await?.get(0),
        open,
    })
}

async fn servers(world: &World) -> Result<String, String> {
    let version =
        async { connect(&world.postgres.config()).await?.query_one("show server_version", &[]).await };
    let postgres: String = version.await.map_err(|error| error.to_string())?.get(0);
    let redis = tokio::process::Command::new("redis-server").arg("--version").output().await;
    let redis = redis.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let redis =
        redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version");
    Ok(format!("Postgres {postgres}, Redis {redis}"))
}
