//! Jobs of the soak's own for the workers, past the gateway: longer than an order's, so that a worker that is killed was at
//! work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::{Client, Config, NoTls};

use crate::ledger::Ledger;

/// Jobs a second.
const PACE: u64 = 4;
/// So many at first, so that the workers' pools are as large as they become after an outage.
const AT_FIRST: u64 = 60;
/// As many as a soak's faults can cost one job.
const ATTEMPTS: i32 = 30;
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(300);

/// The keys that the workers' ledger must hold. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Jobs {
    ledger: Arc<Mutex<Ledger>>,
}

impl Jobs {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues until `stop`, by a connection of its own. Each is sent with its key until it is committed.
    pub(crate) async fn run(self, database: Config, seed: u64, stop: watch::Receiver<bool>) {
        let mut rng = Rng::with_seed(seed ^ 0x6a6f_6273);
        let mut ticks = interval(Duration::from_millis(1_000 / PACE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut client, mut number) = (None, 0_u64);
        while !*stop.borrow() {
            if number >= AT_FIRST {
                ticks.tick().await;
            }
            number += 1;
            let key = format!("job-{number}");
            let (kind, payload) = match number % 8 {
                0 => ("order", "{}".to_owned()),
                1 => ("flaky", "{}".to_owned()),
                _ => ("book", format!(r#"{{"work_ms":{},"hold_ms":{}}}"#, rng.u32(0..400), rng.u32(0..60))),
            };
            self.ledger().sent(&key);
            while !enqueue(&mut client, &database, kind, &payload, &key).await {
                sleep(AGAIN).await;
            }
            let mut ledger = self.ledger();
            ledger.acknowledged(&key, true);
            if kind == "order" {
                ledger.acknowledged(&format!("{key}-receipt"), true);
            }
        }
    }
}

/// Whether it is committed. Where that is not known it is sent again: the key makes it one.
async fn enqueue(
    client: &mut Option<Client>,
    database: &Config,
    kind: &str,
    payload: &str,
    key: &str,
) -> bool {
    let committed = async {
        if client.is_none() {
            *client = Some(connect(database).await?);
        }
        let Some(client) = client else { return Ok(()) };
        let insert = "insert into worker_jobs (kind, payload, key, run_at, max_attempts)
            values ($1, $2::text::jsonb, $3, now(), $4) on conflict (key) do nothing";
        client.execute(insert, &[&kind, &payload, &key, &ATTEMPTS]).await?;
        client.batch_execute("notify worker_jobs").await
    };
    let committed: Result<Result<(), tokio_postgres::Error>, _> = timeout(PATIENCE, committed).await;
    let is_committed = matches!(committed, Ok(Ok(())));
    if !is_committed {
        *client = None;
    }
    is_committed
}

/// One that does not count as the gateway's or a worker's.
///
/// # Errors
/// The server's.
pub(crate) async fn connect(database: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = database.clone().application_name("soak").connect(NoTls).await?;
    tokio::spawn(async move { connection.await.map_err(drop) });
    Ok(client)
}

/// What is in the database: each key, and how often.
///
/// # Errors
/// The server's.
pub(crate) async fn keys(client: &Client, sql: &str) -> Result<BTreeMap<String, i64>, tokio_postgres::Error> {
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
