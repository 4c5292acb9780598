//! What the Python asyncio system that Buttress began as could do, sample by sample, against real servers. Above each test
//! stands the Python of it.

#[path = "seed/program.rs"]
mod program;

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress::{
    Config, Error, System, config,
    postgres::{FromRow, InsertBatch, Query, Transaction},
    retry::RetryLayer,
};
use buttress_testkit::{RedisServer, Reply, TestDatabase, Upstream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, FromRow, Serialize, Deserialize)]
#[row(crate = "buttress::postgres")]
struct User {
    id: i64,
    name: String,
}

fn with_database(test: &TestDatabase) -> Config {
    let mut config = Config::default();
    config.database = Some(config::Database::new(test.url()));
    config
}

/// A system with a database in which Ada is a user.
async fn users(test: &TestDatabase) -> System {
    let system = System::start(with_database(test)).await.unwrap();
    let table = "create table users (id bigserial primary key, name text not null unique)";
    system.execute(Query::new(table)).await.unwrap();
    system.execute(Query::new("insert into users (name) values ('Ada')")).await.unwrap();
    system
}

async fn with_api(upstream: &Upstream) -> System {
    let mut config = Config::default();
    config.http.insert("stock".to_owned(), config::Http::new(upstream.url()));
    System::start(config).await.unwrap()
}

async fn count(system: &System, table: &'static str) -> i64 {
    let rows = system.query(Query::new(format!("select count(*) as n from {table}"))).await.unwrap();
    rows.one().unwrap().get("n").unwrap()
}

// async with AsyncIOSystem(config) as system:
//     rows = await system.db.fetch("SELECT id, name FROM users WHERE name = :name", {"name": "Ada"})
//     print(rows[0]["id"])
#[tokio::test]
async fn a_query_with_named_parameters() -> Result<(), Error> {
    let test = TestDatabase::new().await;
    let system = users(&test).await;

    let query = Query::new("select id, name from users where name = :name").bind("name", "Ada");
    let row = system.query(query).await?.one()?;
    assert_eq!((row.get::<i64>("id")?, row.get::<String>("name")?), (1, "Ada".to_owned()));

    // A value is never a part of the text.
    let hostile = "Ada' or 'a' = 'a";
    let query = Query::new("select id, name from users where name = :name").bind("name", hostile);
    assert!(system.query(query).await?.is_empty());
    Ok(())
}

// @dataclass
// class User: id: int; name: str
// users = [User(**row) for row in await system.db.fetch("SELECT id, name FROM users ORDER BY id")]
#[tokio::test]
async fn rows_as_structs() -> Result<(), Error> {
    let test = TestDatabase::new().await;
    let system = users(&test).await;

    let query = Query::new("insert into users (name) values (:name)").bind("name", "Grace");
    assert_eq!(system.execute(query).await?, 1);

    let users: Vec<User> = system.query_as(Query::new("select id, name from users order by id")).await?;
    let expected = [(1, "Ada"), (2, "Grace")].map(|(id, name)| User { id, name: name.to_owned() });
    assert_eq!(users, expected);
    Ok(())
}

// async with system.db.transaction() as tx:
//     await tx.execute("INSERT INTO users (name) VALUES (:name)", {"name": "Grace"})
//     if await tx.fetchval("SELECT count(*) FROM users") > 2:
//         raise TooMany()   # rolls back
#[tokio::test]
async fn a_transaction_commits_or_rolls_back() {
    #[derive(Debug)]
    enum SignUp {
        TooMany,
        System(Error),
    }

    impl<E: Into<Error>> From<E> for SignUp {
        fn from(error: E) -> Self {
            Self::System(error.into())
        }
    }

    async fn add(tx: &Transaction<'_>, name: &'static str) -> Result<i64, SignUp> {
        tx.query(Query::new("insert into users (name) values (:name)").bind("name", name)).await?;
        let row = tx.query(Query::new("select count(*) as n from users")).await?.one()?;
        let users: i64 = row.get("n")?;
        if users > 2 { Err(SignUp::TooMany) } else { Ok(users) }
    }

    let test = TestDatabase::new().await;
    let system = users(&test).await;
    assert_eq!(system.transaction(async |tx| add(tx, "Grace").await).await.unwrap(), 2);

    // An error of one's own rolls back, and so does one of the database.
    let third = system.transaction(async |tx| add(tx, "Edsger").await).await;
    assert!(matches!(third, Err(SignUp::TooMany)), "{third:?}");
    let twice = system.transaction(async |tx| add(tx, "Ada").await).await;
    assert!(matches!(twice, Err(SignUp::System(Error::Database(_)))), "{twice:?}");
    assert_eq!(count(&system, "users").await, 2);
}

// await system.db.batch_insert("events", ["id", "kind"], [(i, "click") for i in range(5000)], batch_size=1000)
#[tokio::test]
async fn many_rows_at_once() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    struct Event {
        id: i64,
        kind: &'static str,
    }

    let test = TestDatabase::new().await;
    let system = System::start(with_database(&test)).await?;
    system.execute(Query::new("create table events (id bigint primary key, kind text not null)")).await?;

    let insert = InsertBatch::builder("events")
        .column("id", |event: &Event| &event.id)
        .column("kind", |event: &Event| &event.kind)
        .skip_on_conflict(["id"])
        .build(system.database()?.client())?;
    let events: Vec<Event> = (0..5_000).map(|id| Event { id, kind: "click" }).collect();
    let inserted = system.batch_insert(&insert, &events).await?;
    assert!(inserted.iter().all(|row| row.as_ref().is_ok_and(|row| !row.is_skipped())));
    assert_eq!(count(&system, "events").await, 5_000);

    // It tells what became of each row.
    let again = [Event { id: 7, kind: "again" }, Event { id: 5_000, kind: "new" }];
    let skipped: Vec<bool> = system
        .batch_insert(&insert, &again)
        .await?
        .into_iter()
        .map(|row| row.unwrap().is_skipped())
        .collect();
    assert_eq!(skipped, [true, false]);
    Ok(())
}

// item = await system.http.get(f"{API}/items/{id}", params={"warehouse": "north"})
// order = await system.http.post(f"{API}/orders", params={"dry_run": "true"}, json={"item": 7, "count": 2})
#[tokio::test]
async fn get_and_post() -> Result<(), Error> {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Item {
        left: u32,
    }

    let upstream = Upstream::start().await;
    upstream.on("/items/7%2F8", Reply::ok(r#"{"left":3}"#));
    upstream.on("/orders", Reply::status(201).body(r#"{"order":41}"#));
    let system = with_api(&upstream).await;
    let stock = system.http("stock")?;

    let request = stock.get("/items/{id}").param("id", "7/8").query(&[("warehouse", "north & south")]);
    let item: Item = request.send().await?.json().await?;
    assert_eq!(item, Item { left: 3 });

    let order = json!({ "item": 7, "count": 2 });
    let request = stock.post("/orders").query(&json!({ "dry_run": true })).json(&order);
    let answer = request.send().await?;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.json::<Value>().await?, json!({ "order": 41 }));

    let [get, post] = &upstream.requests()[..] else { panic!("{:?}", upstream.requests()) };
    assert_eq!(get.path, "/items/7%2F8?warehouse=north+%26+south");
    assert_eq!((post.method.as_str(), &*post.path), ("POST", "/orders?dry_run=true"));
    assert_eq!(serde_json::from_slice::<Value>(&post.body).unwrap(), order);
    assert_eq!(post.headers["content-type"], "application/json");
    Ok(())
}

// await system.cache.set("user:1", user, ttl=300)
// user = await system.cache.get("user:1")
#[tokio::test]
async fn a_value_in_memory_for_a_while() -> Result<(), Error> {
    let mut config = Config::default();
    config.cache = Some(config::Cache::default());
    let system = System::start(config).await.unwrap();
    let cache = system.cache()?;

    let ada = User { id: 1, name: "Ada".to_owned() };
    cache.set("users/1", &ada).await?;
    cache.set_for("users/2", &ada, 200 * MS).await?;
    assert_eq!(cache.get::<User>("users/1").await?.as_ref(), Some(&ada));
    assert_eq!(cache.get::<User>("users/2").await?.as_ref(), Some(&ada));

    sleep(300 * MS).await;
    assert_eq!(cache.get::<User>("users/1").await?.as_ref(), Some(&ada));
    assert_eq!(cache.get::<User>("users/2").await?, None);

    cache.invalidate("users/1").await?;
    assert_eq!(cache.get::<User>("users/1").await?, None);
    Ok(())
}

// system = AsyncIOSystem(redis_url="redis://localhost")
// await system.cache.set("user:1", user, ttl=1)    # any process with this Redis sees it
#[tokio::test]
async fn a_value_for_all_processes() -> Result<(), Error> {
    let server = RedisServer::start().await;
    let mut config = Config::default();
    config.redis = Some(config::Redis::new(server.url()));
    let mut shared = config::Cache::default();
    shared.shared = true;
    config.cache = Some(shared);
    let here = System::start(config.clone()).await.unwrap();
    let there = System::start(config).await.unwrap();

    let ada = User { id: 1, name: "Ada".to_owned() };
    here.cache()?.set_for("users/1", &ada, 800 * MS).await?;
    let set = Instant::now();
    assert_eq!(there.cache()?.get::<User>("users/1").await?.as_ref(), Some(&ada));
    sleep(1_200 * MS).await;
    assert_eq!(there.cache()?.get::<User>("users/1").await?, None, "after {:?}", set.elapsed());

    // What one forgets, all forget.
    here.cache()?.set("users/1", &ada).await?;
    assert_eq!(there.cache()?.get::<User>("users/1").await?.as_ref(), Some(&ada));
    here.cache()?.invalidate("users/1").await?;
    let forgotten = async {
        while there.cache()?.get::<User>("users/1").await?.is_some() {
            sleep(10 * MS).await;
        }
        Ok::<_, Error>(())
    };
    tokio::time::timeout(PATIENCE, forgotten).await.expect("it is forgotten there too")
}

// @retry(max_attempts=4, delay=0.01, backoff=2)
// async def fetch_price(): ...
#[tokio::test]
async fn a_function_is_repeated() -> Result<(), Error> {
    let upstream = Upstream::start().await;
    upstream.on("/price", [Reply::status(400), Reply::status(400), Reply::ok("17")]);
    let system = with_api(&upstream).await;

    let backoff = buttress::core::Backoff::exponential(10 * MS, Duration::from_secs(1)).unwrap();
    let prices = RetryLayer::new("prices").retries(3).backoff(backoff).retrier();
    let price: u32 = prices
        .call(async || {
            let answer = system.http("stock")?.get("/price").send().await?.error_for_status().await?;
            Ok::<u32, Error>(answer.json().await?)
        })
        .await?;
    assert_eq!((price, upstream.requests().len()), (17, 3));
    Ok(())
}

// @cached(ttl=300)
// async def load_user(id): return await system.db.fetchrow("SELECT * FROM users WHERE id = :id", {"id": id})
#[tokio::test]
async fn a_function_is_cached() -> Result<(), Error> {
    async fn user(system: &System, loads: &AtomicU32, id: i64) -> Result<User, Error> {
        let load = async || {
            loads.fetch_add(1, Relaxed);
            let query = Query::new("select id, name from users where id = :id").bind("id", id);
            Ok::<User, Error>(system.query(query).await?.one()?.read()?)
        };
        system.cache()?.get_or_load(&format!("users/{id}"), load).await
    }

    let test = TestDatabase::new().await;
    drop(users(&test).await);
    let mut config = with_database(&test);
    config.cache = Some(config::Cache::default());
    let system = System::start(config).await.unwrap();

    let loads = AtomicU32::new(0);
    // However many ask at once, the database is asked once.
    let (a, b) = tokio::join!(user(&system, &loads, 1), user(&system, &loads, 1));
    let again = user(&system, &loads, 1).await?;
    assert_eq!((a?.name, b?.name, again.name), ("Ada".to_owned(), "Ada".to_owned(), "Ada".to_owned()));
    assert_eq!(loads.load(Relaxed), 1);

    // A failure is kept for nobody.
    user(&system, &loads, 99).await.unwrap_err();
    user(&system, &loads, 99).await.unwrap_err();
    assert_eq!(loads.load(Relaxed), 3);
    Ok(())
}
