//! A table with a key, a text and a number, on a server without `fsync`, over its unix socket.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use buttress_batch::BatchLayer;
use buttress_postgres::{
    Error, FromRow, InsertBatch, LookupBatch, Postgres, PostgresConfig, Query, Row,
    tokio_postgres::{Client, NoTls, binary_copy::BinaryCopyInWriter, types::Type},
};
use buttress_testkit::PostgresServer;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures_util::{StreamExt, pin_mut, stream};
use tokio::sync::{mpsc, oneshot};
use tower::{Layer, Service, ServiceExt};

use super::{ServerRow, callers, system};

const CALLERS: u64 = 64;
/// Rows that can be looked up.
const STORED: i64 = 100_000;
const POOL: usize = 10;

#[derive(Clone)]
struct Item {
    id: i64,
    name: String,
    number: i32,
}

static NEXT: AtomicI64 = AtomicI64::new(1);

fn item() -> Item {
    let id = NEXT.fetch_add(1, Relaxed);
    Item { id, name: format!("name {id}"), number: id as i32 }
}

fn key() -> i64 {
    // Spread over the table, without a generator of random numbers in the measurement.
    NEXT.fetch_add(1, Relaxed).wrapping_mul(7_919) % STORED
}

async fn connect(server: &PostgresServer) -> Arc<Client> {
    let (client, connection) = server.config().connect(NoTls).await.expect("the server is up");
    tokio::spawn(connection);
    Arc::new(client)
}

fn pool(server: &PostgresServer) -> Pool {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(server.config(), NoTls, recycling);
    Pool::builder(manager).max_size(POOL).build().expect("it has no timeouts")
}

/// What one writes by hand: a channel to a worker, and one back for each call. The worker takes what is there.
fn by_hand<Req: Send + 'static, Res: Send + 'static, F>(
    batch: impl Fn(Vec<Req>) -> F + Send + 'static,
) -> impl Fn(Req) -> oneshot::Receiver<Res> + Clone + Send + 'static
where
    F: Future<Output = Vec<Res>> + Send,
{
    let (send, mut receive) = mpsc::unbounded_channel::<(Req, oneshot::Sender<Res>)>();
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while receive.recv_many(&mut taken, 1_000).await > 0 {
            let (requests, back): (Vec<_>, Vec<_>) = taken.drain(..).unzip();
            for (answer, back) in batch(requests).await.into_iter().zip(back) {
                _ = back.send(answer);
            }
        }
    });
    move |request| {
        let (back, answer) = oneshot::channel();
        send.send((request, back)).unwrap_or_else(|_| unreachable!("the worker lives"));
        answer
    }
}

/// The rows, and the server that must live as long as they do.
pub(super) async fn rows() -> (Vec<ServerRow>, Arc<PostgresServer>) {
    let server = PostgresServer::start().await;
    let setup = connect(&server).await;
    setup
        .batch_execute(&format!(
            "create table items (id bigint primary key, name text, number int);
             create table stored (id bigint primary key, name text, number int);
             insert into stored select n, 'name ' || n, n from generate_series(0, {STORED} - 1) n;
             analyze stored"
        ))
        .await
        .expect("it is valid");
    let folder = server.unix_dir().to_string_lossy().replace('/', "%2F");
    let url = format!("postgres://postgres@{folder}:{}/postgres", server.port());
    let config = PostgresConfig::from_url(&url).expect("it is valid").with_pool_size(POOL);
    let db = Postgres::new(config).expect("it is valid");
    let server = Arc::new(server);

    let mut rows = query_rows(&server, &db).await;
    rows.extend(system::query_rows(&url).await);
    let emptied = || {
        let setup = Arc::clone(&setup);
        move || {
            let setup = Arc::clone(&setup);
            async move { setup.batch_execute("truncate items").await.expect("it is valid") }
        }
    };
    rows.extend(insert_rows(&server, &db).await.into_iter().map(|row| row.restored_by(emptied())));
    rows.extend(lookup_rows(&server, &db).await);
    rows.extend(copy_rows(&server, &db).await.into_iter().map(|row| row.restored_by(emptied())));
    (rows, server)
}

const FIND: &str = "select id, name, number from stored where id = $1";

/// One row, by its key.
pub(super) fn find() -> Query {
    Query::new("select id, name, number from stored where id = :id").bind("id", key())
}

async fn query_rows(server: &PostgresServer, db: &Postgres) -> Vec<ServerRow> {
    let (client, db) = (connect(server).await, db.clone());
    let statement = client.prepare(FIND).await.expect("it is valid");
    let by_hand = move |items| {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        callers(1, items, move || {
            let (client, statement) = (Arc::clone(&client), statement.clone());
            async move {
                let rows = client.query(&statement, &[&key()]).await.expect("the server is up");
                assert_eq!(rows.len(), 1);
            }
        })
    };
    let buttress = move |items| {
        let db = db.clone();
        callers(1, items, move || {
            let db = db.clone();
            async move {
                assert_eq!(db.query(find()).await.expect("the server is up").len(), 1);
            }
        })
    };
    vec![
        ServerRow::new("postgres", "by hand query", by_hand).of_one_caller(),
        ServerRow::new("postgres", "buttress query", buttress).of_one_caller(),
    ]
}

fn inserts(db: &Postgres) -> InsertBatch<Item> {
    InsertBatch::builder("items")
        .column("id", |item: &Item| &item.id)
        .column("name", |item: &Item| &item.name)
        .column("number", |item: &Item| &item.number)
        .build(db)
        .expect("it is valid")
}

const INSERT: &str = "insert into items values ($1, $2, $3)";
const UNNEST: &str = "insert into items select * from unnest($1::bigint[], $2::text[], $3::int[])";

async fn insert_rows(server: &Arc<PostgresServer>, db: &Postgres) -> Vec<ServerRow> {
    let client = connect(server).await;
    let statement = client.prepare(INSERT).await.expect("it is valid");
    let by_hand_1 = move |items| {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        callers(1, items, move || {
            let (client, statement, item) = (Arc::clone(&client), statement.clone(), item());
            async move {
                let inserted = client.execute(&statement, &[&item.id, &item.name, &item.number]).await;
                assert_eq!(inserted.expect("the server is up"), 1);
            }
        })
    };

    let pool = pool(server);
    let pool_64 = move |items| {
        let pool = pool.clone();
        callers(CALLERS, items, move || {
            let (pool, item) = (pool.clone(), item());
            async move {
                let client = pool.get().await.expect("the server is up");
                let statement = client.prepare_cached(INSERT).await.expect("it is valid");
                let inserted = client.execute(&statement, &[&item.id, &item.name, &item.number]).await;
                assert_eq!(inserted.expect("the server is up"), 1);
            }
        })
    };

    let client = connect(server).await;
    let statement = client.prepare(UNNEST).await.expect("it is valid");
    let worker = by_hand(move |items: Vec<Item>| {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        async move {
            let count = items.len();
            let (mut ids, mut names, mut numbers) =
                (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count));
            for item in items {
                ids.push(item.id);
                names.push(item.name);
                numbers.push(item.number);
            }
            let inserted = client.execute(&statement, &[&ids, &names, &numbers]).await;
            assert_eq!(inserted.expect("the server is up"), count as u64);
            vec![(); count]
        }
    });
    let by_hand_64 = move |items| {
        let worker = worker.clone();
        callers(CALLERS, items, move || {
            let answer = worker(item());
            async move { answer.await.expect("the worker lives") }
        })
    };

    let client = connect(server).await;
    let statement = client.prepare(UNNEST).await.expect("it is valid");
    let floor = move |items| {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        async move {
            for _ in 0..items / CALLERS {
                let items: Vec<Item> = (0..CALLERS).map(|_| item()).collect();
                let ids: Vec<i64> = items.iter().map(|item| item.id).collect();
                let names: Vec<&str> = items.iter().map(|item| &*item.name).collect();
                let numbers: Vec<i32> = items.iter().map(|item| item.number).collect();
                let inserted = client.execute(&statement, &[&ids, &names, &numbers]).await;
                assert_eq!(inserted.expect("the server is up"), CALLERS);
            }
        }
    };

    let service = BatchLayer::new("items").layer(inserts(db));
    let buttress = move |number, items| {
        let service = service.clone();
        callers(number, items, move || {
            let mut service = service.clone();
            async move {
                let ready = service.ready().await.expect("it is always ready");
                assert!(!ready.call(item()).await.expect("the server is up").is_skipped());
            }
        })
    };
    let buttress_1 = buttress.clone();
    vec![
        ServerRow::new("postgres", "by hand insert 1", by_hand_1).of_one_caller(),
        ServerRow::new("postgres", "buttress insert 1", move |items| buttress_1(1, items)).of_one_caller(),
        ServerRow::new("postgres", "pool insert 64", pool_64),
        // What the server takes for as many rows: no caller, no channel.
        ServerRow::new("postgres", "one statement of 64 rows", floor),
        ServerRow::new("postgres", "by hand batch insert 64", by_hand_64),
        ServerRow::new("postgres", "buttress batch insert 64", move |items| buttress(CALLERS, items)),
    ]
}

const FIND_ALL: &str = "select id, name, number from stored where id = any($1)";

async fn lookup_rows(server: &PostgresServer, db: &Postgres) -> Vec<ServerRow> {
    let pool = pool(server);
    let pool_64 = move |items| {
        let pool = pool.clone();
        callers(CALLERS, items, move || {
            let pool = pool.clone();
            async move {
                let client = pool.get().await.expect("the server is up");
                let statement = client.prepare_cached(FIND).await.expect("it is valid");
                let row = client.query_one(&statement, &[&key()]).await.expect("the server is up");
                assert!(!row.get::<_, &str>(1).is_empty());
            }
        })
    };

    let client = connect(server).await;
    let statement = client.prepare(FIND_ALL).await.expect("it is valid");
    let worker = by_hand(move |keys: Vec<i64>| {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        async move {
            let rows = client.query(&statement, &[&keys]).await.expect("the server is up");
            let mut found: HashMap<i64, Item> = rows
                .iter()
                .map(|row| (row.get(0), Item { id: row.get(0), name: row.get(1), number: row.get(2) }))
                .collect();
            keys.iter().map(|key| found.remove(key)).collect()
        }
    });
    let by_hand_64 = move |items| {
        let worker = worker.clone();
        callers(CALLERS, items, move || {
            let answer = worker(key());
            async move {
                let item: Item = answer.await.expect("the worker lives").expect("it is stored");
                assert!(!item.name.is_empty());
            }
        })
    };

    let client = connect(server).await;
    let statement = client.prepare(FIND_ALL).await.expect("it is valid");
    let floor = move |items| {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        async move {
            for _ in 0..items / CALLERS {
                let keys: Vec<i64> = (0..CALLERS).map(|_| key()).collect();
                let rows = client.query(&statement, &[&keys]).await.expect("the server is up");
                assert_eq!(rows.len() as u64, CALLERS);
            }
        }
    };

    let find = Query::new("select id, name, number from stored where id = any(:keys)");
    let service = BatchLayer::new("stored").layer(LookupBatch::<i64, Option<Item>>::new(db, find, "id"));
    let buttress = move |items| {
        let service = service.clone();
        callers(CALLERS, items, move || {
            let mut service = service.clone();
            async move {
                let ready = service.ready().await.expect("it is always ready");
                let item = ready.call(key()).await.expect("the server is up").expect("it is stored");
                assert!(!item.name.is_empty());
            }
        })
    };
    vec![
        ServerRow::new("postgres", "pool lookup 64", pool_64),
        ServerRow::new("postgres", "one query of 64 keys", floor),
        ServerRow::new("postgres", "by hand lookup 64", by_hand_64),
        ServerRow::new("postgres", "buttress lookup 64", buttress),
    ]
}

impl FromRow for Item {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self { id: row.get(0)?, name: row.get(1)?, number: row.get(2)? })
    }
}

const COPIED: u64 = 1_000_000;

async fn copy_rows(server: &PostgresServer, db: &Postgres) -> Vec<ServerRow> {
    let client = connect(server).await;
    let by_hand = move |items| {
        let client = Arc::clone(&client);
        async move {
            let sink = client.copy_in("copy items from stdin (format binary)").await.expect("it is valid");
            let writer = BinaryCopyInWriter::new(sink, &[Type::INT8, Type::TEXT, Type::INT4]);
            pin_mut!(writer);
            for _ in 0..items {
                let item = item();
                writer.as_mut().write(&[&item.id, &item.name, &item.number]).await.expect("the server is up");
            }
            assert_eq!(writer.finish().await.expect("the server is up"), items);
        }
    };
    let inserts = inserts(db);
    let buttress = move |items| {
        let inserts = inserts.clone();
        async move {
            let stream = stream::iter((0..items).map(|_| item()));
            let results = BatchLayer::new("import").max_size(20_000).in_flight(2).process(stream, inserts);
            let done = results.fold(0, async |done, result| done + u64::from(result.is_ok())).await;
            assert_eq!(done, items);
        }
    };
    vec![
        ServerRow::new("postgres", "by hand copy 1000000", by_hand).with(COPIED),
        ServerRow::new("postgres", "buttress process 1000000", buttress).with(COPIED),
    ]
}
