//! Inserts while the server is killed and the network fails: what was acknowledged is there. The slice in CI takes some twenty
//! seconds; `BUTTRESS_OUTAGE_SECONDS=300` runs for five minutes, with a fault each 20 s.

mod support;

use std::{
    env, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_batch::BatchLayer;
use buttress_core::Deadline;
use buttress_postgres::{Error, InsertBatch, Inserted, Postgres, PostgresConfig, Query, SqlStateClassifier};
use buttress_retry::RetryLayer;
use buttress_testkit::{Fault, FaultProxy, PostgresServer};
use buttress_timeout::TimeoutLayer;
use support::{figure, spy};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt};

const CALLERS: usize = 64;
const POOL: usize = 4;
/// How long a caller waits at most, and how much later his answer may come on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(3);
const SLACK: Duration = Duration::from_millis(750);

#[derive(Debug, Clone)]
struct Order {
    key: i64,
    caller: i32,
}

fn inserts(table: &'static str) -> buttress_postgres::InsertBatchBuilder<Order> {
    InsertBatch::builder(table)
        .column("key", |order: &Order| &order.key)
        .column("caller", |order: &Order| &order.caller)
}

/// What the callers of a service were told.
#[derive(Default)]
struct Told {
    is_repeated: bool,
    written: Mutex<Vec<i64>>,
    /// Not written, as the error says.
    unsent: Mutex<Vec<i64>>,
    unknown: AtomicI64,
    longest: Mutex<Duration>,
}

impl Told {
    fn waited(&self, time: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = time.max(*longest);
    }
}

/// One caller, who inserts orders until he is told to stop.
async fn call<S>(service: S, caller: i32, keys: Arc<AtomicI64>, told: Arc<Told>, stop: Arc<AtomicBool>)
where
    S: Service<Order, Response = Inserted, Error = Error> + Clone,
{
    while !stop.load(Relaxed) {
        let key = keys.fetch_add(1, Relaxed);
        let start = Instant::now();
        let result = Deadline::after(PATIENCE).scope(service.clone().oneshot(Order { key, caller })).await;
        told.waited(start.elapsed());
        match result {
            Ok(_) => told.written.lock().unwrap().push(key),
            Err(error) => {
                // After a repetition it speaks of the last attempt alone.
                if told.is_repeated || error.sent() {
                    told.unknown.fetch_add(1, Relaxed);
                } else {
                    told.unsent.lock().unwrap().push(key);
                }
                // As whoever is refused would.
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_whatever_happens_to_the_server() {
    let seconds: u64 = env::var("BUTTRESS_OUTAGE_SECONDS").map_or(18, |text| text.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let pause = if seconds >= 60 { Duration::from_secs(20) } else { Duration::from_millis(1_500) };

    let server = PostgresServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let direct = spy(server.config()).await;
    direct
        .batch_execute("create table once (key bigint primary key, caller int); create table many (key bigint, caller int)")
        .await
        .unwrap();
    drop(direct);

    let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let config = PostgresConfig::from_url(&url)
        .unwrap()
        .with_pool_size(POOL)
        .with_connect_timeout(Duration::from_secs(1));
    let db = Postgres::new(config).unwrap();
    db.query(Query::new("select 1")).await.unwrap();
    let tasks = Handle::current().metrics().num_alive_tasks();
    let files = open_files();

    // With a key, an insert may be repeated; without, it is sent once.
    let batches = |name| BatchLayer::new(name).bisect(SqlStateClassifier::blames_a_row).share_errors();
    let attempt = || TimeoutLayer::new(Duration::from_secs(1));
    let once = ServiceBuilder::new()
        .layer(RetryLayer::new("once").classify(SqlStateClassifier))
        .layer(batches("once"))
        .layer(attempt())
        .service(inserts("once").skip_on_conflict(["key"]).build(&db).unwrap());
    let many = ServiceBuilder::new()
        .layer(batches("many"))
        .layer(attempt())
        .service(inserts("many").build(&db).unwrap());

    let (keys, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let told_once = Arc::new(Told { is_repeated: true, ..Told::default() });
    let told_many = Arc::new(Told::default());
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (keys, stop) = (Arc::clone(&keys), Arc::clone(&stop));
        let caller_number = i32::try_from(caller).unwrap();
        callers.push(if caller % 2 == 0 {
            tokio::spawn(call(once.clone(), caller_number, keys, Arc::clone(&told_once), stop))
        } else {
            tokio::spawn(call(many.clone(), caller_number, keys, Arc::clone(&told_many), stop))
        });
    }

    let start = Instant::now();
    let mut faults = 0;
    while start.elapsed() < length {
        sleep(pause).await;
        match faults % 6 {
            0 | 3 => {
                server.kill().await;
                sleep(Duration::from_millis(500)).await;
                server.restart().await;
            }
            1 => proxy.set(Fault::BlackHole),
            2 => proxy.cut(),
            4 => proxy.set(Fault::Reset),
            _ => proxy.set(Fault::Latency(Duration::from_millis(300))),
        }
        sleep(Duration::from_millis(1_500)).await;
        proxy.set(Fault::Pass);
        faults += 1;
    }
    stop.store(true, Relaxed);
    for caller in callers {
        timeout(PATIENCE + SLACK, caller).await.expect("no caller hangs").unwrap();
    }

    // All is well again. What the black hole has swallowed stays open for the server, unless it is cut.
    drop((once, many));
    proxy.cut();
    sleep(Duration::from_millis(200)).await;
    timeout(PATIENCE, db.query(Query::new("select 1"))).await.expect("it answers").unwrap();
    let direct = spy(server.config()).await;
    for (table, told) in [("once", &told_once), ("many", &told_many)] {
        let written = told.written.lock().unwrap().clone();
        let unsent = told.unsent.lock().unwrap().clone();
        assert!(written.len() > 100, "{table}: {} written", written.len());
        let counted = format!(
            "select (select count(*) from unnest($1::bigint[]) k left join {table} t on t.key = k where t.key is null), \
                    (select count(*) from {table}), \
                    (select count(*) from (select from {table} group by key having count(*) > 1) d), \
                    (select count(*) from {table} where key = any($2))"
        );
        let row = direct.query_one(&counted, &[&written, &unsent]).await.unwrap();
        let [missing, rows, twice, there]: [i64; 4] = [0, 1, 2, 3].map(|column| row.get(column));
        let unknown = told.unknown.load(Relaxed);
        let longest = *told.longest.lock().unwrap();
        eprintln!(
            "{table}: {faults} faults, {} acknowledged, {} not sent, {unknown} unknown, {rows} rows, longest wait {longest:?}",
            written.len(),
            unsent.len()
        );
        assert_eq!(missing, 0, "{table}: acknowledged and not there");
        assert_eq!(twice, 0, "{table}: there twice");
        assert_eq!(there, 0, "{table}: there though it was not sent");
        assert!(
            rows >= written.len() as i64 && rows <= written.len() as i64 + unknown,
            "{table}: {rows} rows"
        );
        assert!(longest <= PATIENCE + SLACK, "{table}: {longest:?}");
    }

    assert!(figure(&db, "connections") <= POOL as f64);
    assert_eq!(figure(&db, "waiting"), 0.0);
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    let settled = Instant::now();
    loop {
        let backends: i64 = direct.query_one(others, &[]).await.unwrap().get(0);
        // One more of each for a connection that the pool has beyond the one at the beginning, and for the spy.
        let (tasks_now, files_now) = (Handle::current().metrics().num_alive_tasks(), open_files());
        if backends <= POOL as i64 && tasks_now <= tasks + POOL && files_now <= files + 3 * POOL {
            break;
        }
        assert!(
            settled.elapsed() < Duration::from_secs(8),
            "{backends} backends; {tasks_now} tasks after {tasks}; {files_now} files after {files}"
        );
        sleep(Duration::from_millis(100)).await;
    }
}
